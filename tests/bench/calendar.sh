#!/bin/sh
# Durable PUT of a 1 KB event by 16 clients, GET and calendar-query over 10,000 events: ours as a process on a tap against
# Radicale and Xandikos over a veth pair, each with fsync on. Plain HTTP for all three. Needs root; installs the peers from
# PyPI into its work directory.
set -u
. "$(dirname "$0")/lib.sh"
SECONDS_EACH=${SECONDS_EACH:-8}
EVENTS=${EVENTS:-10000}
# Of each measure, interleaved; an odd number.
ROUNDS=${ROUNDS:-3}
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
[logging]
level = error
END
# Radicale flushes what it stores, and no configuration file can turn that off. So it is filled, which nobody times, in a
# folder in memory, where a flush costs nothing, and then moved to the disk.
FILLED=$(mktemp -d -p /dev/shm skerry-bench.XXXXXX)
trap 'rm -rf "$FILLED"; clean_up' EXIT
sed "s|^filesystem_folder = .*|filesystem_folder = $FILLED|" "$WORK/radicale.conf" >"$WORK/radicale-filled.conf"

# start_radicale CONFIGURATION, start_xandikos: in the peer's namespace, waited for. Set RADICALE_PID and XANDIKOS_PID.
start_radicale() {
    ip netns exec skb-peer taskset -c "$SERVER_CORE" "$WORK/peers/bin/radicale" \
        --config "$1" >>"$WORK/radicale.log" 2>&1 &
    RADICALE_PID=$!
    wait_for_port skb-client "$PEER" 5232
}
start_xandikos() {
    ip netns exec skb-peer taskset -c "$SERVER_CORE" "$WORK/peers/bin/xandikos" serve -d "$DISKS/xandikos" \
        --state-dir "$WORK/xandikos-state" --defaults --listen-address "$PEER" --port 8080 --current-user-principal /bench/ >>"$WORK/xandikos.log" 2>&1 &
    XANDIKOS_PID=$!
    wait_for_port skb-client "$PEER" 8080
}
start_radicale "$WORK/radicale-filled.conf" || exit 1
start_xandikos || exit 1

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
collections="full traced $(seq -f put%g "$ROUNDS")"
for name in $collections; do
    make_calendar "http://$OURS/calendars/bench/$name/"
    make_calendar "http://$PEER:5232/bench/$name/"
    make_calendar "http://$PEER:8080/bench/calendars/$name/"
done
cat >"$WORK/query.xml" <<'END'
<?xml version="1.0" encoding="utf-8"?>
<C:calendar-query xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:prop><D:getetag/><C:calendar-data/></D:prop>
<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">
<C:time-range start="20260101T000000Z" end="20260201T000000Z"/></C:comp-filter></C:comp-filter></C:filter></C:calendar-query>
END
# query_events URL: how many events an answer has.
query_events() {
    in_client curl -s --fail -u bench:bench -X REPORT -H 'Depth: 1' -H 'Content-Type: application/xml' \
        --data-binary "@$WORK/query.xml" "$1" | grep -c 'UID:bench-'
}
ours fill full "$EVENTS" >"$WORK/fill-ours" || fail "ours: filling"

# A PUT into Radicale takes the longer the more events there are; so many would take hours. Its storage is a file for each
# event; what it keeps beside them it makes when it is first asked for them.
"$LOAD" write "$FILLED/collection-root/bench/full" "$EVENTS" || fail "radicale: filling"
found=$(query_events "http://$OURS/calendars/bench/full/")
check "both find the same $found events" [ "$found" = "$(query_events "http://$PEER:5232/bench/full/")" ]

# Xandikos keeps git repositories through dulwich, which flushes objects only where a repository's configuration says so
# (references always).
stop_pid "$RADICALE_PID"
stop_pid "$XANDIKOS_PID"
cp -a "$FILLED/." "$DISKS/radicale/"
for name in $collections; do
    printf '[core]\n\tfsyncObjectFiles = true\n' >>"$DISKS/xandikos/bench/calendars/$name/.git/config"
done
start_radicale "$WORK/radicale.conf" || exit 1
start_xandikos || exit 1

# flushes SERVER PID...: counts the flushes during some PUTs, by strace.
flushes() {
    server=$1
    shift
    processes=$(for pid in "$@"; do printf ' -p %s' "$pid"; done)
    # shellcheck disable=SC2086
    strace -f -qq -e trace=fsync,fdatasync -o "$WORK/strace-$server" $processes 2>"$WORK/strace.log" &
    tracer=$!
    sleep 1
    figures=$("$server" put traced 2)
    kill -INT "$tracer"
    wait "$tracer" 2>/dev/null
    stored=$(figure requests "$figures")
    flushed=$(grep -c -E '(fsync|fdatasync)\(.*= 0|<... (fsync|fdatasync) resumed>.*= 0' "$WORK/strace-$server")
    echo "$server: $flushed flushes in $stored durable PUTs, under strace"
}
# A process on a tap has a second one, its child, which flushes its disk.
# shellcheck disable=SC2046
flushes ours "$OUR_PID" $(pgrep -P "$OUR_PID")
# An acknowledgement may go to each of the clients at once, but to none twice.
at_least "flushes of ours against groups of $CLIENTS" "$((flushed * CLIENTS))" "$stored" 1
flushes radicale "$RADICALE_PID"
at_least "flushes of radicale against its PUTs" "$flushed" "$stored" 1
flushes xandikos "$XANDIKOS_PID"
at_least "flushes of xandikos against its PUTs" "$flushed" "$stored" 1

# rounds WHAT SERVER...: interleaved; the figures of a server are in $WORK/WHAT-SERVER, a round on a line.
rounds() {
    what=$1
    shift
    for server in "$@"; do : >"$WORK/$what-$server"; done
    for round in $(seq "$ROUNDS"); do
        for server in "$@"; do
            figures=$("measure_$what" "$server" "$round") || fail "$server: $what"
            echo "$server $what: $figures"
            figure per_second "$figures" >>"$WORK/$what-$server"
        done
    done
}

# A PUT of what is there already stores nothing: each round fills a calendar of its own.
measure_put() { "$1" put "put$2" "$SECONDS_EACH"; }
measure_get() { "$1" get full "$SECONDS_EACH" "$EVENTS"; }
measure_query() { CLIENTS=1 && "$1" report full "$SECONDS_EACH" "$WORK/query.xml"; }

rounds put ours radicale xandikos
rounds get ours radicale
rounds query ours radicale
for peer in radicale xandikos; do
    at_least "durable PUT against $peer, a second" "$(median "$WORK/put-ours")" "$(median "$WORK/put-$peer")" 20
done
for what in get query; do
    at_least "$what over $EVENTS events against radicale, a second" "$(median "$WORK/$what-ours")" \
        "$(median "$WORK/$what-radicale")" 20
done
rm -rf "$DISKS"
finish
