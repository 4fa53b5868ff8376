#!/bin/sh
# The same image file, byte for byte, passes the same client tests in every world: as a process, and in QEMU's microvm,
# q35 and pc machines. Then its disk moves from one world to the next, through kill -9.
#
#   tests/worlds.sh [WORLD...]
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$TESTS")
WORK=${WORK:-$PROJECT/target/tests}
. "$TESTS/lib/report.sh"
. "$TESTS/lib/world.sh"
[ $# -gt 0 ] || set -- process microvm q35 pc

VENV=$WORK/venv
IMAGE=$PROJECT/target/images/caldav.elf
mkdir -p "$WORK"
sum=$(sha256sum "$IMAGE")

client_tests() {
    SKERRY_URL=$URL SKERRY_USER=$USER_NAME SKERRY_PASSWORD=$PASSWORD SKERRY_CERTIFICATE=$CERTIFICATE SKERRY_VENV=$VENV \
        "$VENV/bin/python" -m pytest -q -p no:cacheprovider --tb=short "$TESTS/clients"
}

for world in "$@"; do
    rm -rf "$WORK/state-$world-caldav"
    if ! world_start "$world" caldav; then
        fail "$world: the image starts"
        continue
    fi
    pass "$world: the image starts"
    check "$world: client tests" client_tests
    check "$world: it stops cleanly" world_stop
    check "$world: its disk is sound" "$PROJECT/deploy/check-storage.sh" --service caldav "$STATE/storage.img"
done
check "the same bytes in every world" test "$(sha256sum "$IMAGE")" = "$sum"

# One disk, through every world, killed in each.
moving=$WORK/moving.img
rm -f "$moving"
event() {
    printf 'BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//skerry//tests//EN\r\nBEGIN:VEVENT\r\nUID:%s@move\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260302T090000Z\r\nSUMMARY:%s\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n' "$1" "$1"
}
store() {
    event "$1" | curl -sk --fail --max-time 60 -u "$USER_NAME:$PASSWORD" -T - -H 'Content-Type: text/calendar' \
        "$URL/calendars/$USER_NAME/default/$1.ics"
}
stored() {
    event "$1" >"$WORK/expected.ics"
    curl -sk --fail --max-time 60 -u "$USER_NAME:$PASSWORD" "$URL/calendars/$USER_NAME/default/$1.ics" |
        cmp - "$WORK/expected.ics"
}
before=''
account=''
for world in "$@"; do
    rm -rf "$WORK/state-$world-caldav"
    mkdir -p "$WORK/state-$world-caldav"
    if [ -f "$moving" ]; then
        mv "$moving" "$WORK/state-$world-caldav/storage.img"
        cp "$account" "$WORK/state-$world-caldav/first-password"
    fi
    world_start "$world" caldav || { fail "$world: starts on a moved disk"; break; }
    for earlier in $before; do
        check "$world: the event stored in $earlier is there" stored "$earlier"
    done
    check "$world: an event is stored, then the image is killed" store "$world"
    world_kill
    cp --sparse=always "$STATE/storage.img" "$moving"
    account=$WORK/first-password
    cp "$STATE/first-password" "$account"
    before="$before $world"
done
finish
