#!/bin/sh
# Wrong input of every kind: a clear error or a bounded refusal, nothing lost, nobody else delayed. Needs root (it makes
# the network namespace skt-bad).
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$TESTS")
WORK=${WORK:-$PROJECT/target/tests}
. "$TESTS/lib/report.sh"
. "$TESTS/lib/namespace.sh"

CALDAV=$PROJECT/target/images/caldav.elf
DIRECTORY=$WORK/bad-input
OURS=10.78.0.2
rm -rf "$DIRECTORY"
mkdir -p "$DIRECTORY"
cd "$DIRECTORY" || exit 1

make_tap_namespace skt-bad 10.78.0.1/24

# refuses WHAT PATTERN ARGUMENT...: the image must end by itself with an error that has the pattern.
refuses() {
    what=$1 pattern=$2
    shift 2
    timeout 60 ip netns exec skt-bad "$CALDAV" "$@" >output 2>&1 </dev/null
    status=$?
    if [ "$status" -ne 0 ] && [ "$status" -ne 124 ] && grep -Eq -- "$pattern" output; then
        pass "$what: $(grep -E -m 1 -- "$pattern" output)"
    else
        fail "$what: status $status"
        sed 's/^/      /' output | tail -n 10
    fi
}

NET="--net=service:tap=sktap --ipv4=$OURS/24 --ipv6=none"
truncate -s 64M good.img
# shellcheck disable=SC2086 # words
{
    refuses "an unknown argument" '--ipv4' --ipv5=10.0.0.1/24
    refuses "an address without a prefix length" '10\.0\.0\.1/24' --ipv4=10.0.0.1
    refuses "no network device" 'service' --block=storage:file=good.img
    refuses "no block device" 'storage' $NET
    refuses "a tap that cannot be" 'tap' --net=service:tap=thisnameisfartoolongforlinux --block=storage:file=good.img
    refuses "a disk that is not there" 'nowhere.img' $NET --block=storage:file=nowhere.img
    truncate -s 64K small.img
    refuses "a disk that is too small" 'too small|at least' $NET --block=storage:file=small.img
    head -c 8M /dev/urandom >foreign.img
    foreign=$(sha256sum <foreign.img)
    refuses "a disk that something else uses" '--format' $NET --block=storage:file=foreign.img
    refuses "no configuration where one is named" 'missing.toml' $NET --block=storage:file=good.img --config=missing.toml
    printf 'plian = true\n' >key.toml
    refuses "a wrong key" 'key.toml.*plain|plain' $NET --block=storage:file=good.img --config=key.toml
    printf 'plain = "yes"\n' >type.toml
    refuses "a wrong type" '1.*(bool|true)' $NET --block=storage:file=good.img --config=type.toml
    printf 'plain = \n' >syntax.toml
    refuses "no TOML" '1' $NET --block=storage:file=good.img --config=syntax.toml
    mkdir -p config
    printf 'plain = true\n' >config/caldav.toml
    head -c 20000 /dev/urandom >config/padding
    tar -cf whole.tar -C config .
    head -c 9000 whole.tar >cut.tar
    refuses "a truncated bundle" 'truncated|cut|ends' $NET --block=storage:file=good.img --config=cut.tar
}
check "the foreign disk is as it was" test "$(sha256sum <foreign.img)" = "$foreign"

# A running image, on a disk that will fill up.
start() {
    : >log
    # `ip` becomes the image: the signal that stops it must not go to a shell in between.
    ip netns exec skt-bad "$CALDAV" --net=service:tap=sktap "--ipv4=$OURS/24" --ipv6=none --memory=128 \
        "--block=storage:file=$1" --config=users.toml >log 2>&1 </dev/null &
    IMAGE=$!
    waited=0
    until grep -q '^ready ' log; do
        if ! kill -0 "$IMAGE" 2>/dev/null || [ "$waited" -ge 300 ]; then
            cat log
            return 1
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
}
# stops WHAT: the image ends with status 0. Not within `check`: a subshell cannot wait for what is no child of its own.
stops() {
    kill -TERM "$IMAGE"
    wait "$IMAGE"
    status=$?
    check "$1" test "$status" -eq 0
}
curl_in() {
    ip netns exec skt-bad curl -s --max-time 60 -u t:t "$@"
}
status_of() {
    curl_in -o /dev/null -w '%{http_code}' "$@"
}
{ echo 'plain = true'; "$PROJECT/deploy/passwd.sh" t --password t; } >users.toml
truncate -s 8M full.img
start full.img || { fail "the image starts on a disk of 8 MiB"; finish; exit 1; }
body() {
    printf 'BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//t//EN\r\nBEGIN:VEVENT\r\nUID:%s@t\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260302T090000Z\r\n' "$1"
    head -c 60000 /dev/zero | tr '\0' x | fold -w 70 | sed 's/^/X-FILL:/; s/$/\r/'
    printf '\nEND:VEVENT\r\nEND:VCALENDAR\r\n'
}
stored=0
last=''
while [ "$stored" -lt 400 ]; do
    body "$stored" >event.ics
    last=$(status_of -T event.ics -H 'Content-Type: text/calendar' "http://$OURS/calendars/t/default/$stored.ics")
    [ "$last" = 201 ] || break
    stored=$((stored + 1))
done
check "a full disk answers 507 (after $stored events)" test "$last" = 507
lost=0
number=0
while [ "$number" -lt "$stored" ]; do
    body "$number" >expected.ics
    curl_in "http://$OURS/calendars/t/default/$number.ics" | cmp -s - expected.ics || lost=$((lost + 1))
    number=$((number + 1))
done
check "what it acknowledged before is all there" test "$stored" -gt 10 -a "$lost" -eq 0
stops "it stops cleanly"
start full.img
check "and starts again, with everything" test "$(status_of "http://$OURS/calendars/t/default/0.ics")" = 200
stops "it stops again"
check "its disk is sound" "$PROJECT/deploy/check-storage.sh" --service caldav full.img

start good.img || { fail "the image starts"; finish; exit 1; }
# Slow clients: each sends a header a letter at a time. Others are answered meanwhile, and the slow ones cut off.
slow=0
while [ "$slow" -lt 100 ]; do
    ip netns exec skt-bad bash -c "exec 3<>/dev/tcp/$OURS/80; printf 'GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ' >&3
        for n in \$(seq 60); do printf a >&3 || exit; sleep 1; done" 2>/dev/null &
    slow=$((slow + 1))
done
slow_status=$(status_of "http://$OURS/healthz")
check "it answers while 100 slow clients hold connections" test "$slow_status" = 200

# A SYN flood from addresses that do not exist, while a client goes on.
if command -v hping3 >/dev/null; then
    ip netns exec skt-bad timeout 10 hping3 -q -S -p 80 --flood --rand-source "$OURS" >/dev/null 2>&1 &
    flood=$!
    answered=0
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ "$(status_of --connect-timeout 5 "http://$OURS/healthz")" = 200 ] && answered=$((answered + 1))
    done
    check "it answers during a SYN flood ($answered of 10)" test "$answered" -ge 9
    kill "$flood" 2>/dev/null
    wait "$flood" 2>/dev/null
fi
check "and is still well" test "$(status_of "http://$OURS/healthz")" = 200
check "nothing panicked" sh -c '! grep panicked log'
stops "it stops cleanly with slow clients connected"
finish
