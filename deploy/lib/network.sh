# shellcheck shell=sh
# The network of each kind: how QEMU and the process are attached, and what has to be made before and undone after.

# Sets QEMU_NET (for -netdev), PROCESS_NET (for --net=service:) and, for --net user with a process, COMPANION.
prepare_network() {
    QEMU_NET='' PROCESS_NET='' COMPANION=''
    case $NET in
        user)
            if [ "$HV" = process ]; then
                prepare_passt
            else
                prepare_slirp
            fi
            ;;
        tap:*)
            TAP=${NET#tap:}
            attach_tap
            ;;
        bridge:*)
            # One tap for each state directory: its name is made from the directory's.
            TAP=sk$(printf '%s' "$(cd "$STATE" 2>/dev/null && pwd)" | cksum | cut -d' ' -f1)
            attach_tap
            ;;
    esac
}

attach_tap() {
    QEMU_NET="tap,id=service,ifname=$TAP,script=no,downscript=no"
    PROCESS_NET="tap=$TAP"
}

prepare_slirp() {
    QEMU_NET="user,id=service"
    for publication in $PUBLISH; do
        split_publication "$publication"
        QEMU_NET="$QEMU_NET,hostfwd=$PROTOCOL:$ADDRESS:$HOST_PORT-:$GUEST_PORT"
    done
}

prepare_passt() {
    need passt passt
    PROCESS_NET="stream=$STATE/passt.socket"
    set -- passt --foreground --one-off --quiet --log-file "$STATE/passt.log" --socket "$STATE/passt.socket" \
        --mtu 1500
    if [ -z "$(ip route show default 2>/dev/null)" ]; then
        # Without a way out of the host passt has no addresses to lend: a private network takes their place.
        set -- "$@" --interface lo --address 10.0.2.15 --netmask 255.255.255.0 --gateway 10.0.2.2 --no-ndp --ipv4-only
    fi
    if [ "$(id -u)" -eq 0 ]; then
        # As root passt would become nobody, who may not write to the state directory.
        set -- "$@" --runas 0:0
    fi
    for publication in $PUBLISH; do
        split_publication "$publication"
        case $PROTOCOL in
            tcp) set -- "$@" --tcp-ports "$ADDRESS/$HOST_PORT:$GUEST_PORT" ;;
            udp) set -- "$@" --udp-ports "$ADDRESS/$HOST_PORT:$GUEST_PORT" ;;
        esac
    done
    for word in "$@"; do
        COMPANION="$COMPANION $(quote "$word")"
    done
}

start_network() {
    case $NET in
        user)
            if [ -n "$COMPANION" ]; then
                start_passt
            fi
            ;;
        *) make_tap ;;
    esac
}

start_passt() {
    rm -f "$STATE/passt.socket"
    # exec: a shell left in between would hold its caller's standard output open.
    eval "exec nohup $COMPANION" >>"$STATE/passt.err" 2>&1 </dev/null &
    passt=$!
    waited=0
    while [ ! -S "$STATE/passt.socket" ]; do
        if ! kill -0 "$passt" 2>/dev/null || [ "$waited" -ge 50 ]; then
            fail "passt did not start: $(tail -n 3 "$STATE/passt.err" "$STATE/passt.log" 2>/dev/null)"
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
}

make_tap() {
    need ip iproute2
    if ! ip link show dev "$TAP" >/dev/null 2>&1; then
        ip tuntap add dev "$TAP" mode tap vnet_hdr || fail "cannot make the tap device $TAP: run this as root, or make it before"
        : >"$STATE/tap-made"
    fi
    case $NET in
        bridge:*)
            ip link set dev "$TAP" master "${NET#bridge:}" || fail "cannot attach $TAP to the bridge ${NET#bridge:}"
            ;;
    esac
    ip link set dev "$TAP" up || fail "cannot bring up $TAP"
}

# Undoes what start_network made. passt ends by itself when the image does.
stop_network() {
    if [ -e "$STATE/tap-made" ]; then
        case $NET in
            tap:*) TAP=${NET#tap:} ;;
            bridge:*) TAP=sk$(printf '%s' "$(cd "$STATE" && pwd)" | cksum | cut -d' ' -f1) ;;
        esac
        ip link delete dev "$TAP" 2>/dev/null || true
        rm -f "$STATE/tap-made"
    fi
}
