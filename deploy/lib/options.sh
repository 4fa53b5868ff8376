# shellcheck shell=sh
# The command line of run-SERVICE.sh.

usage() {
    cat <<END
Usage: run-$SERVICE.sh [OPTION]... [-- IMAGE-ARGUMENT...]

  --hv auto|kvm|qemu|process  where it runs: KVM; QEMU without it (slow); a Linux process.
                              auto (the default) takes KVM where it works, else the process
  --machine microvm|q35|pc    which machine QEMU makes for kvm and qemu (default microvm)
  --net user                  a network without root, published on 127.0.0.1 (the default)
  --net tap:NAME              a tap device; made if it is not there (root)
  --net bridge:NAME           a port of this bridge (root)
  --publish [ADDR:]PORT:PORT[/udp]
                              with --net user: the host's port, then the image's. May be repeated.
                              Default: $(default_publish)
  --state DIR                 everything that lasts: disk, log, configuration (default ./$SERVICE-state)
  --config FILE|DIR           the configuration: a TOML file, a tar archive, or a directory of files
                              (default: DIR/config in the state directory, if it is there)
  --memory MIB                memory of the image (default $(default_memory))
  --image FILE                the image (default: a downloaded one in deploy/images, else one built here)
  --detach                    run in the background; returns when it serves
  --stop | --status | --logs  end, look at, or read the console of the one running on this state directory
  --reload                    give the one running its configuration anew: certificate, users and the rest. A
                              process takes it at once, a virtual machine within about a minute; a wrong one is
                              refused, and the one before goes on
  --dry-run                   print the command that would run
  --yes                       install missing Debian packages without asking
  --help                      this text

What follows -- goes to the image, for instance --ipv4=192.0.2.10/24 --ipv4-gateway=192.0.2.1.
END
}

# What a service publishes unless told otherwise: the one table of it.
default_publish() {
    case $SERVICE in
        caldav) echo "127.0.0.1:8443:443 127.0.0.1:8080:80" ;;
        template) echo "127.0.0.1:8080:80" ;;
    esac
}

default_memory() {
    case $SERVICE in
        caldav) echo 128 ;;
        template) echo 16 ;;
    esac
}

# Which services keep something, and how large their disk is made: a sparse file, so this is a ceiling.
default_disk() {
    case $SERVICE in
        caldav) echo 4G ;;
    esac
}

parse_options() {
    HV=auto MACHINE=microvm NET=user PUBLISH='' STATE=./$SERVICE-state CONFIG='' MEMORY=$(default_memory) IMAGE=''
    ACTION=start DETACH=no DRY_RUN=no YES=no IMAGE_ARGUMENTS=''
    while [ $# -gt 0 ]; do
        option=$1
        case $option in
            --*=*)
                value=${option#*=}
                option=${option%%=*}
                shift
                set -- "$option" "$value" "$@"
                ;;
        esac
        case $option in
            --hv | --machine | --net | --publish | --state | --config | --memory | --image)
                [ $# -ge 2 ] || fail "$option wants a value; see --help"
                ;;
        esac
        case $option in
            --hv) HV=$2 && shift ;;
            --machine) MACHINE=$2 && shift ;;
            --net) NET=$2 && shift ;;
            --publish) PUBLISH="$PUBLISH $2" && shift ;;
            --state) STATE=$2 && shift ;;
            --config) CONFIG=$2 && shift ;;
            --memory) MEMORY=$2 && shift ;;
            --image) IMAGE=$2 && shift ;;
            --detach) DETACH=yes ;;
            --stop | --status | --logs | --reload) ACTION=${option#--} ;;
            --dry-run) DRY_RUN=yes ;;
            --yes) YES=yes ;;
            --help | -h)
                usage
                exit 0
                ;;
            --)
                shift
                for word in "$@"; do
                    IMAGE_ARGUMENTS="$IMAGE_ARGUMENTS $(quote "$word")"
                done
                break
                ;;
            *) fail "unknown option $option; see --help" ;;
        esac
        shift
    done
    case $HV in
        auto | kvm | qemu | process) ;;
        *) fail "--hv $HV: one of auto, kvm, qemu, process" ;;
    esac
    case $MACHINE in
        microvm | q35 | pc) ;;
        *) fail "--machine $MACHINE: one of microvm, q35, pc" ;;
    esac
    case $NET in
        user | tap:?* | bridge:?*) ;;
        *) fail "--net $NET: one of user, tap:NAME, bridge:NAME" ;;
    esac
    case $MEMORY in
        '' | *[!0-9]*) fail "--memory $MEMORY: a number of MiB" ;;
    esac
    for publication in $PUBLISH; do
        check_publication "$publication"
    done
    [ -n "$PUBLISH" ] || PUBLISH=$(default_publish)
    [ -z "$CONFIG" ] || [ -e "$CONFIG" ] || fail "--config $CONFIG: no such file or directory"
}

# [ADDR:]PORT:PORT[/udp] into ADDRESS, HOST_PORT, GUEST_PORT and PROTOCOL.
split_publication() {
    rest=$1
    PROTOCOL=tcp
    case $rest in
        */udp) PROTOCOL=udp rest=${rest%/udp} ;;
        */tcp) rest=${rest%/tcp} ;;
    esac
    GUEST_PORT=${rest##*:}
    rest=${rest%:*}
    HOST_PORT=${rest##*:}
    case $rest in
        *:*) ADDRESS=${rest%:*} ;;
        *) ADDRESS=127.0.0.1 ;;
    esac
}

check_publication() {
    case $1 in
        *:*) split_publication "$1" ;;
        *) fail "--publish $1: [ADDRESS:]HOST-PORT:IMAGE-PORT[/udp], for instance 8443:443" ;;
    esac
    for port in "$HOST_PORT" "$GUEST_PORT"; do
        case $port in
            '' | *[!0-9]*) fail "--publish $1: '$port' is no port" ;;
        esac
        if [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
            fail "--publish $1: ports go from 1 to 65535"
        fi
    done
}
