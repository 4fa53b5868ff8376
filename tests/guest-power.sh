#!/bin/sh
# An idle guest uses no CPU, and its power button ends it cleanly.
#
#     tests/guest-power.sh [IMAGE]
#
# IDLE_SECONDS (10) is how long idling is watched. Without IMAGE the test image is built.
set -eu

cd "$(dirname "$0")/.."
image=${1:-}
if [ -z "$image" ]; then
    cargo build --quiet -p faults
    image=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/debug/faults
fi
work=$(mktemp -d)
guest=
trap '[ -z "$guest" ] || kill "$guest" 2>/dev/null; rm -rf "$work"' EXIT INT TERM

passed=0
failed=0

# check WHAT ACTUAL WANTED
check() {
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $machine: $1: wanted $3, got $2"
        sed 's/^/    /' "$work/log"
    fi
}

# The CPU time of the guest's process so far, in ticks of 10 ms.
ticks() {
    sed 's/.*) //' "/proc/$guest/stat" | awk '{ print $12 + $13 }'
}

# wait_for SECONDS COMMAND...: until the command succeeds; fails after that time.
wait_for() {
    tries=$(($1 * 10))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

has_ended() {
    ! kill -0 "$guest" 2>/dev/null
}

for machine in microvm pc q35; do
    rm -f "$work/log" "$work/monitor"
    qemu-system-x86_64 -M "$machine" -accel tcg -cpu max -m 32M -nodefaults -no-user-config -display none -no-reboot \
        -serial "file:$work/log" -monitor "unix:$work/monitor,server,nowait" -kernel "$image" -append idle &
    guest=$!
    if wait_for 60 grep -qs '^idle' "$work/log"; then
        # QEMU itself settles for a moment after the guest's last access.
        sleep 1
        before=$(ticks)
        sleep "${IDLE_SECONDS:-10}"
        check 'ticks while idle' $(($(ticks) - before)) 0
    else
        check 'started' no yes
    fi
    echo system_powerdown | socat -t 1 - "unix-connect:$work/monitor" >/dev/null
    wait_for 20 has_ended || kill "$guest"
    status=0
    wait "$guest" || status=$?
    guest=
    check 'status after the power button' "$status" 0
    pressed=no
    ! grep -q '^power button: true' "$work/log" || pressed=yes
    check 'the image saw the power button' $pressed yes
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
