#!/bin/sh
# The process's system calls: what strace sees after start-up is no more than the filter allows and the image says, and a
# call outside of it kills.
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$TESTS")
WORK=${WORK:-$PROJECT/target/tests}
. "$TESTS/lib/report.sh"

CALDAV=$PROJECT/target/images/caldav.elf
STATE=$WORK/seccomp
rm -rf "$STATE"
mkdir -p "$STATE"
truncate -s 64M "$STATE/storage.img"
# As deploy/lib/network.sh has it: without a way out of the host passt has no addresses to lend.
set --
if [ -z "$(ip route show default 2>/dev/null)" ]; then
    set -- --interface lo --address 10.0.2.15 --netmask 255.255.255.0 --gateway 10.0.2.2 --no-ndp --ipv4-only
fi
passt --foreground --one-off --quiet --log-file "$STATE/passt.log" --socket "$STATE/passt.socket" --runas 0:0 \
    --mtu 1500 --tcp-ports 127.0.0.1/18443:443 "$@" &
waited=0
until [ -S "$STATE/passt.socket" ] || [ "$waited" -ge 50 ]; do
    sleep 0.1
    waited=$((waited + 1))
done

strace -f -o "$STATE/trace" "$CALDAV" --verbose --net=service:stream="$STATE/passt.socket" \
    --block=storage:file="$STATE/storage.img" >"$STATE/log" 2>&1 &
tracer=$!
waited=0
until grep -q '^ready ' "$STATE/log" || [ "$waited" -ge 600 ]; do
    sleep 0.1
    waited=$((waited + 1))
done
user=$(sed -n 's/^first start.*user=\([^ ]*\).*/\1/p' "$STATE/log")
password=$(sed -n 's/^first start.*password=\([^ ]*\).*/\1/p' "$STATE/log")
request() {
    curl -sk --fail --max-time 60 -o /dev/null -u "$user:$password" "$@"
}
check "it serves under strace" request -X PROPFIND -H 'Depth: 1' "https://127.0.0.1:18443/calendars/$user/"
printf 'BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//t//EN\r\nBEGIN:VEVENT\r\nUID:s@t\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260302T090000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n' \
    >"$STATE/event.ics"
check "and stores" request -T "$STATE/event.ics" "https://127.0.0.1:18443/calendars/$user/default/s.ics"
image=$(pgrep -P "$tracer" -f caldav.elf | head -n 1)
kill -TERM "$image"
wait "$tracer"
check "it ends cleanly on SIGTERM" test $? -eq 0

# The image's own lines of the trace, from its filter on. The flusher is another process with a filter of its own.
used=$(awk -v image="$image" '$1 == image { sub(/^[0-9]+ +/, ""); if (locked && match($0, /^[a-z_0-9]+\(/)) print substr($0, 1, RLENGTH - 1); if (/^(seccomp|prctl\(PR_SET_SECCOMP)/) locked = 1 }' \
    "$STATE/trace" | sort -u)
allowed=$(sed -n 's/.*system calls from here on: //p' "$STATE/log" | tr -s ' ,' '\n' | sed '/^$/d' | sort -u)
echo "after start-up: $(echo "$used" | tr '\n' ' ')"
echo "the filter:     $(echo "$allowed" | tr '\n' ' ')"
check "system calls were seen after start-up" test -n "$used"
check "the filter has fewer than ten" test "$(echo "$allowed" | wc -l)" -lt 10
for call in $used; do
    check "$call is in the filter" sh -c "echo '$allowed' | grep -qx '$call'"
done

"$PROJECT/target/images/faults.elf" forbidden-call >"$STATE/forbidden.log" 2>&1
status=$?
check "a forbidden call kills the process (SIGSYS)" test "$status" -eq 159
finish
