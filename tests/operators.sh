#!/bin/sh
# What an operator sees of a running image: health, metrics, events, and the log at a collector. Needs root (it makes the
# network namespace skt-ops).
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$TESTS")
WORK=${WORK:-$PROJECT/target/tests}
. "$TESTS/lib/report.sh"
. "$TESTS/lib/namespace.sh"

CALDAV=${CALDAV:-$PROJECT/target/images/caldav.elf}
DIRECTORY=$WORK/operators
OURS=10.78.1.2
rm -rf "$DIRECTORY"
mkdir -p "$DIRECTORY"
cd "$DIRECTORY" || exit 1

# Two neighbours: an operator, and one who is none.
make_tap_namespace skt-ops 10.78.1.1/24 10.78.1.9/24

# wait_for PATTERN FILE: up to 30 s.
wait_for() {
    waited=0
    until grep -Eq -- "$1" "$2"; do
        [ "$waited" -lt 300 ] || return 1
        sleep 0.1
        waited=$((waited + 1))
    done
}
from() {
    ip netns exec skt-ops curl -s --max-time 30 --interface "$1" "http://$OURS$2"
}
status_from() {
    ip netns exec skt-ops curl -s --max-time 30 --interface "$1" -o /dev/null -w '%{http_code}' "http://$OURS$2"
}

: >syslog
: >log
ip netns exec skt-ops socat -u UDP4-RECV:514,bind=10.78.1.1 OPEN:syslog,append &
printf 'plain = true\noperators = ["10.78.1.1/32"]\n' >caldav.toml
truncate -s 16M storage.img
ip netns exec skt-ops "$CALDAV" --net=service:tap=sktap "--ipv4=$OURS/24" --ipv6=none --hostname=cal.example \
    --syslog=10.78.1.1 --memory=64 --block=storage:file=storage.img --config=caldav.toml >log 2>&1 </dev/null &
image=$!
check "it starts" wait_for '^ready ' log

check "health is for everybody" test "$(from 10.78.1.9 /healthz)" = ok
check "metrics are not" test "$(status_from 10.78.1.9 /metrics)" = 401
check "nor events" test "$(status_from 10.78.1.9 /events)" = 401
ip netns exec skt-ops curl -s -o /dev/null -u wrong:wrong "http://$OURS/calendars/"
from 10.78.1.1 /metrics >metrics
for line in 'uptime_seconds [0-9.]+' 'memory_allocated_bytes [1-9][0-9.]*' 'tasks [1-9][0-9.]*' 'task_panics_total 0' \
    'http_requests_total [1-9][0-9]*' 'network_frames_total\{direction="received"\} [1-9][0-9]*' \
    'udp_datagrams_total\{direction="sent"\} [1-9][0-9]*' 'tcp_connections [1-9][0-9.]*' \
    'tcp_opened_total\{by="peer"\} [1-9][0-9]*' 'storage_commits_total [1-9][0-9]*' 'storage_length_bytes [1-9][0-9.]*' \
    'certificate_expiry_seconds [1-9][0-9.]*' 'caldav_passwords_total\{outcome="wrong"\} 1' '# EOF'; do
    check "metrics have $line" grep -Eqx -- "$line" metrics
done
from 10.78.1.1 /events >events
check "events have the wrong password" grep -q 'wrong name or password from 10.78.1.1' events
check "so has the collector, as RFC 5424 has it" \
    wait_for '^<30>1 [0-9TZ:.-]+ cal\.example caldav - - - .*wrong name or password from 10\.78\.1\.1' syslog
kill -TERM "$image"
wait "$image"
status=$?
check "it stops cleanly" test "$status" -eq 0
finish
