# shellcheck shell=sh
# Starts one image in one world after the other, for tests that only know an address and an account. Sourced; needs
# PROJECT, WORK and report.sh.

# world_start WORLD SERVICE [IMAGE-ARGUMENT...]: one of process, microvm, q35, pc. Sets STATE and, for caldav, URL, USER_NAME, PASSWORD and
# CERTIFICATE.
world_start() {
    WORLD=$1
    WORLD_SERVICE=$2
    shift 2
    STATE=$WORK/state-$WORLD-$WORLD_SERVICE
    case $WORLD in
        process) set -- --hv process -- "$@" ;;
        *) set -- --hv qemu --machine "$WORLD" -- "$@" ;;
    esac
    "$PROJECT/deploy/run-$WORLD_SERVICE.sh" --state "$STATE" --yes --detach "$@" || return 1
    case $WORLD_SERVICE in
        caldav)
            URL=https://127.0.0.1:8443
            USER_NAME=$(sed -n 's/.*user=\([^ ]*\).*/\1/p' "$STATE/first-password")
            PASSWORD=$(sed -n 's/.*password=\([^ ]*\).*/\1/p' "$STATE/first-password")
            CERTIFICATE=$STATE/certificate.pem
            openssl s_client -connect 127.0.0.1:8443 </dev/null 2>/dev/null | openssl x509 >"$CERTIFICATE"
            ;;
    esac
}

world_stop() {
    "$PROJECT/deploy/run-$WORLD_SERVICE.sh" --state "$STATE" --stop
}

# Ends the image as a power failure would.
world_kill() {
    kill -KILL "$(cat "$STATE/pid")"
    # passt and the flusher end by themselves; wait for the ports to be free.
    while kill -0 "$(cat "$STATE/pid")" 2>/dev/null; do
        sleep 0.1
    done
}
