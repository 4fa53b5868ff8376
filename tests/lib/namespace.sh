# shellcheck shell=sh
# A network namespace with a tap device for an image, gone when the script ends. Sourced; needs root.

# delete_namespace NAME: with whatever still runs in it.
delete_namespace() {
    if [ -e "/run/netns/$1" ]; then
        ip netns pids "$1" | xargs -r kill -KILL 2>/dev/null
        ip netns delete "$1"
    fi
}

# make_tap_namespace NAME ADDRESS/LENGTH...: the tap `sktap`, with these addresses on Linux's side. Sets NAMESPACE.
make_tap_namespace() {
    NAMESPACE=$1
    shift
    trap 'delete_namespace "$NAMESPACE"' EXIT
    delete_namespace "$NAMESPACE"
    ip netns add "$NAMESPACE"
    ip netns exec "$NAMESPACE" ip tuntap add dev sktap mode tap vnet_hdr
    for address in "$@"; do
        ip netns exec "$NAMESPACE" ip addr add "$address" dev sktap
    done
    ip netns exec "$NAMESPACE" ip link set sktap up
}
