#!/bin/sh
# A stack on a tap device against Linux in a network namespace: DHCP, router advertisements and names from dnsmasq;
# ping, UDP and TCP from Linux's own tools. Needs root, iproute2, dnsmasq-base, socat, iputils-ping.
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
cd "$TESTS/.." || exit 1
. "$TESTS/lib/report.sh"

namespace="ip-network-$$"
directory=$(mktemp -d)
cargo build -q --locked -p platform --example network || exit 1
program="${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/debug/examples/network"
pids=

clean_up() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    ip netns del "$namespace" 2>/dev/null || true
    rm -rf "$directory"
}
trap clean_up EXIT

inside() { ip netns exec "$namespace" "$@"; }

# shellcheck disable=SC2094 # the file is only read
echoes() { inside timeout 20 socat -b 6000 -t 2 - "$1" <"$2" | cmp - "$2"; }

ip netns add "$namespace"
inside ip link set lo up
inside ip tuntap add dev service mode tap vnet_hdr
inside ip addr add 10.77.0.1/24 dev service
inside ip addr add 2001:db8:77::1/64 dev service nodad
inside ip link set service up
ip netns exec "$namespace" dnsmasq --no-daemon --conf-file=/dev/null --interface=service --bind-interfaces \
    --dhcp-range=10.77.0.50,10.77.0.60,2m --dhcp-range=2001:db8:77::,ra-stateless,64,10m --enable-ra \
    "--dhcp-option=option6:dns-server,[2001:db8:77::1]" --dhcp-option=option:mtu,1400 --no-resolv --no-ping \
    --address=/calendar.test/192.0.2.9 --address=/calendar.test/2001:db8::9 \
    --dhcp-leasefile="$directory/leases" >"$directory/dnsmasq.log" 2>&1 &
pids="$pids $!"
sleep 1
RESOLVE=calendar.test PING="10.77.0.1 2001:db8:77::1" ip netns exec "$namespace" "$program" service auto \
    >"$directory/out" 2>&1 &
pids="$pids $!"
for _ in $(seq 30); do
    grep -q '^done' "$directory/out" && break
    sleep 1
done
ipv4=$(sed -n 's|^address \(10[^/]*\)/24 Preferred Dhcp|\1|p' "$directory/out")
ipv6=$(sed -n 's|^address \(2001[^/]*\)/64 Preferred Router|\1|p' "$directory/out")
check "an address by DHCP" test -n "$ipv4"
check "an address by router advertisement" test -n "$ipv6"
check "name servers of both" grep -q 'name servers \[10.77.0.1, 2001:db8:77::1\]' "$directory/out"
check "a name" grep -q 'resolve calendar.test: Ok(\[2001:db8::9, 192.0.2.9\])' "$directory/out"
check "six pings out" test "$(grep -c '^ping .*Ok(Ok' "$directory/out")" = 6

head -c 5000 /dev/urandom >"$directory/datagram"
head -c 3000000 /dev/urandom >"$directory/stream"
for address in "$ipv4" "$ipv6"; do
    check "ping $address" inside ping -c 3 -i 0.2 "$address"
    check "ping $address in fragments" inside ping -c 2 -i 0.2 -s 20000 "$address"
done
check "UDP over IPv4, in fragments" echoes "UDP4:$ipv4:7" "$directory/datagram"
check "UDP over IPv6, in fragments" echoes "UDP6:[$ipv6]:7" "$directory/datagram"
check "TCP over IPv4" echoes "TCP4:$ipv4:7" "$directory/stream"
check "TCP over IPv6" echoes "TCP6:[$ipv6]:7" "$directory/stream"
finish
