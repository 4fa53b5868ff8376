#!/bin/sh
# Durable PUT of a 1 KB event by 16 clients, GET and calendar-query over 10,000 events: ours as a process on a tap against
# Radicale and Xandikos over a veth pair, each with fsync on. Plain HTTP for all three. Needs root; installs the peers from
# PyPI into its work directory.
set -u
. "$(dirname "$0")/lib.sh"
SECONDS_EACH=${SECONDS_EACH:-8}
EVENTS=${EVENTS:-10000}
CLIENTS=16

build_load || exit 1
if [ ! -x "$WORK/peers/bin/radicale" ]; then
    python3 -m venv "$WORK/peers" && "$WORK/peers/bin/pip" install -q radicale==3.9.0 xandikos==0.4.10 || exit 1
fi
# All disks on one file system that has a true fsync.
DISKS=$WORK/bench-disks
rm -rf "$DISKS"
mkdir -p "$DISKS/radicale" "$DISKS/xandikos"

make_our_path
make_peer_path

{ echo 'plain = true'; "$PROJECT/deploy/passwd.sh" bench --password bench; } >"$WORK/bench-caldav.toml" || exit 1
truncate -s 4G "$DISKS/ours.img"
start_ours caldav --memory=256 "--block=storage:file=$DISKS/ours.img" "--config=$WORK/bench-caldav.toml" || exit 1

printf 'bench:bench\n' >"$WORK/radicale.users"
cat >"$WORK/radicale.conf" <<END
[server]
hosts = $PEER:5232
max_connections = 64
[auth]
type = htpasswd
htpasswd_filename = $WORK/radicale.users
htpasswd_encryption = plain
delay = 0
[storage]
filesystem_folder = $DISKS/radicale
_filesystem_fsync = True
[logging]
level = error
END
in_peer "$WORK/peers/bin/radicale" --config "$WORK/radicale.conf" >"$WORK/radicale.log" 2>&1 &
in_peer "$WORK/peers/bin/xandikos" serve -d "$DISKS/xandikos" --defaults --listen-address "$PEER" --port 8080 \
    --current-user-principal /bench/ >"$WORK/xandikos.log" 2>&1 &
wait_for_port skb-client "$PEER" 5232 || exit 1
wait_for_port skb-client "$PEER" 8080 || exit 1

make_calendar() {
    in_client curl -s --fail -u bench:bench -X MKCALENDAR "$1" || in_client curl -s -u bench:bench -X PROPFIND -o /dev/null "$1"
}
ours() {
    in_client "$LOAD" "$1" "$OURS:80" "/calendars/bench/$2/" bench:bench "$CLIENTS" "$3" ${4:+"$4"}
}
radicale() {
    in_client "$LOAD" "$1" "$PEER:5232" "/bench/$2/" bench:bench "$CLIENTS" "$3" ${4:+"$4"}
}
xandikos() {
    in_client "$LOAD" "$1" "$PEER:8080" "/bench/calendars/$2/" bench:bench "$CLIENTS" "$3" ${4:+"$4"}
}
for name in put full; do
    make_calendar "http://$OURS/calendars/bench/$name/"
    make_calendar "http://$PEER:5232/bench/$name/"
    make_calendar "http://$PEER:8080/bench/calendars/$name/"
done

for server in ours radicale xandikos; do
    "$server" put put "$SECONDS_EACH" >"$WORK/put-$server" || fail "$server: PUT"
    echo "$server put: $(cat "$WORK/put-$server")"
done
for peer in radicale xandikos; do
    at_least "durable PUT against $peer, a second" "$(figure per_second "$(cat "$WORK/put-ours")")" \
        "$(figure per_second "$(cat "$WORK/put-$peer")")" 20
done

cat >"$WORK/query.xml" <<'END'
<?xml version="1.0" encoding="utf-8"?>
<C:calendar-query xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:prop><D:getetag/><C:calendar-data/></D:prop>
<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">
<C:time-range start="20260101T000000Z" end="20260201T000000Z"/></C:comp-filter></C:comp-filter></C:filter></C:calendar-query>
END
for server in ours radicale; do
    "$server" fill full "$EVENTS" >"$WORK/fill-$server" || fail "$server: filling"
    "$server" get full "$SECONDS_EACH" "$EVENTS" >"$WORK/get-$server" || fail "$server: GET"
    CLIENTS=1
    "$server" report full "$SECONDS_EACH" "$WORK/query.xml" >"$WORK/query-$server" || fail "$server: calendar-query"
    CLIENTS=16
    echo "$server get: $(cat "$WORK/get-$server")"
    echo "$server query: $(cat "$WORK/query-$server")"
done
for what in get query; do
    at_least "$what over $EVENTS events against radicale, a second" "$(figure per_second "$(cat "$WORK/$what-ours")")" \
        "$(figure per_second "$(cat "$WORK/$what-radicale")")" 20
done
rm -rf "$DISKS"
finish
