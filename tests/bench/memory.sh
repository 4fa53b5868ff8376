#!/bin/sh
# The least RAM: CalDAV boots and serves 1,000 events in 32 MiB, the template answers in 8 MiB (microvm, TCG). Needs root.
set -u
. "$(dirname "$0")/lib.sh"
EVENTS=${EVENTS:-1000}

build_load || exit 1
make_our_path
start_machine() {
    ip netns exec skb-client qemu-system-x86_64 -accel tcg -cpu max -M microvm,acpi=on -nodefaults -no-user-config \
        -display none -serial stdio -no-reboot -netdev tap,id=n,ifname=skbtap,script=no,downscript=no \
        -device virtio-net-device,netdev=n -object rng-random,id=r,filename=/dev/urandom -device virtio-rng-device,rng=r \
        "$@" >"$WORK/machine.log" 2>&1 </dev/null &
    MACHINE_PID=$!
    wait_for_line '^ready ' "$WORK/machine.log" "$MACHINE_PID"
}
# Like check, but in this shell, which keeps the machine's process id.
booted() {
    what=$1
    shift
    if "$@"; then pass "$what"; else fail "$what"; fi
}

booted "the template boots in 8 MiB" start_machine -m 8 -kernel "$PROJECT/target/images/template.elf" \
    -append "--ipv4=$OURS/24 --ipv6=none"
check "and answers" in_client curl -s --fail -o /dev/null --max-time 20 "http://$OURS/"
kill -KILL "$MACHINE_PID"
wait "$MACHINE_PID" 2>/dev/null

rm -f "$WORK/memory.img"
truncate -s 256M "$WORK/memory.img"
{ echo 'plain = true'; "$PROJECT/deploy/passwd.sh" bench --password bench; } >"$WORK/memory.toml" || exit 1
booted "CalDAV boots in 32 MiB" start_machine -m 32 -kernel "$PROJECT/target/images/caldav.elf" \
    -append "--ipv4=$OURS/24 --ipv6=none" -initrd "$WORK/memory.toml" \
    -drive "file=$WORK/memory.img,format=raw,if=none,id=d" -device virtio-blk-device,drive=d
in_client curl -s -u bench:bench --max-time 60 -X MKCALENDAR "http://$OURS/calendars/bench/full/"
check "and stores $EVENTS events" in_client "$LOAD" fill "$OURS:80" /calendars/bench/full/ bench:bench 16 "$EVENTS"
check "and serves them" in_client "$LOAD" get "$OURS:80" /calendars/bench/full/ bench:bench 16 5 "$EVENTS"
check "and still over HTTPS" in_client curl -sk --fail -o /dev/null --max-time 60 -u bench:bench \
    "https://$OURS/calendars/bench/full/bench-7.ics"
kill -KILL "$MACHINE_PID"
finish
