# shellcheck shell=sh
# What the benches share: two hosts on one path, pinned to a core each, and figures side by side. Sourced.
#
# Ours is a process on a tap device; its peer a program in a network namespace over a veth pair. In both the client is
# in a namespace of its own, with the kernel's stack. Namespaces are named skb-*, and go when the bench ends.

BENCH=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$(dirname "$BENCH")")
WORK=${WORK:-$PROJECT/target/tests}
# shellcheck source=../lib/report.sh
. "$PROJECT/tests/lib/report.sh"
# shellcheck source=../lib/namespace.sh
. "$PROJECT/tests/lib/namespace.sh"
LOAD=$WORK/load
mkdir -p "$WORK"

# Addresses: the client's, ours and the peer's.
OURS=10.77.0.2
OURS_CLIENT=10.77.0.1
PEER=10.77.1.2
PEER_CLIENT=10.77.1.1

# The core of the server, and that of the client.
SERVER_CORE=0
CLIENT_CORE=1

build_load() {
    (cd "$PROJECT" && cargo build -q --release --locked -p load)
    cp "$PROJECT/target/x86_64-unknown-linux-gnu/release/load" "$LOAD"
}

# The path of our image: a tap in the client's namespace.
make_our_path() {
    ip netns add skb-client
    ip netns exec skb-client ip link set lo up
    ip netns exec skb-client ip tuntap add dev skbtap mode tap vnet_hdr
    ip netns exec skb-client ip addr add "$OURS_CLIENT/24" dev skbtap
    ip netns exec skb-client ip link set skbtap up
}

# The path of the peer: a veth pair between its namespace and the client's.
make_peer_path() {
    ip netns add skb-peer
    ip netns exec skb-peer ip link set lo up
    ip link add skbveth netns skb-client type veth peer name skbpeer netns skb-peer
    ip netns exec skb-client ip addr add "$PEER_CLIENT/24" dev skbveth
    ip netns exec skb-client ip link set skbveth up
    ip netns exec skb-peer ip addr add "$PEER/24" dev skbpeer
    ip netns exec skb-peer ip link set skbpeer up
}

in_client() {
    ip netns exec skb-client taskset -c "$CLIENT_CORE" "$@"
}

in_peer() {
    ip netns exec skb-peer taskset -c "$SERVER_CORE" "$@"
}

# start_ours SERVICE [ARGUMENT...]: our image as a process on the tap, waited for until it is ready. Sets OUR_PID.
start_ours() {
    service=$1
    shift
    : >"$WORK/bench-$service.log"
    ip netns exec skb-client taskset -c "$SERVER_CORE" "$PROJECT/target/images/$service.elf" \
        --net=service:tap=skbtap "--ipv4=$OURS/24" --ipv6=none "$@" >"$WORK/bench-$service.log" 2>&1 </dev/null &
    OUR_PID=$!
    wait_for_line '^ready ' "$WORK/bench-$service.log" "$OUR_PID"
}

# wait_for_line PATTERN FILE PID [TENTHS-OF-A-SECOND]
wait_for_line() {
    waited=0
    until grep -q "$1" "$2"; do
        if ! kill -0 "$3" 2>/dev/null || [ "$waited" -ge "${4:-600}" ]; then
            cat "$2" >&2
            return 1
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
}

# wait_for_port NAMESPACE ADDRESS PORT
wait_for_port() {
    waited=0
    until ip netns exec "$1" bash -c "exec 3<>/dev/tcp/$2/$3" 2>/dev/null; do
        [ "$waited" -lt 300 ] || return 1
        sleep 0.1
        waited=$((waited + 1))
    done
}

stop_pid() {
    kill -TERM "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

clean_up() {
    for namespace in skb-client skb-peer; do
        delete_namespace "$namespace"
    done
}
trap clean_up EXIT
clean_up

# median FILE: the middle one of its numbers; of an even count the lower of the two.
median() {
    sort -n "$1" | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'
}

# figure NAME of a line of name=value words.
figure() {
    printf '%s\n' "$2" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

# at_least WHAT OURS PEER RATIO: prints the ratio of the figures and checks it.
at_least() {
    ratio=$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.2f", (b > 0 ? a / b : 0) }')
    line="$1: ours $2, peer $3, ratio $ratio (at least $4)"
    if awk -v r="$ratio" -v want="$4" 'BEGIN { exit !(r >= want) }'; then pass "$line"; else fail "$line"; fi
}

# at_most WHAT VALUE LIMIT
at_most() {
    line="$1: $2 (at most $3)"
    if awk -v v="$2" -v limit="$3" 'BEGIN { exit !(v != "" && v <= limit) }'; then pass "$line"; else fail "$line"; fi
}
