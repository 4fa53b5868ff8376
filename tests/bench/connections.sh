#!/bin/sh
# Many connections. 20,000 open ones are held by the process on a tap, and it still answers others; with 1,000 open and
# idle neither the process nor the virtual machine uses a CPU tick in ten seconds. Needs root.
set -u
. "$(dirname "$0")/lib.sh"
MANY=${MANY:-20000}

build_load || exit 1
make_our_path
# shellcheck disable=SC3045 # dash has it, and busybox too
ulimit -n 65536
ip netns exec skb-client sysctl -q -w net.ipv4.ip_local_port_range="1024 65535"

# hold CONNECTIONS PORT: opens them; sets HOLDER, whose input is descriptor 9.
hold() {
    rm -f "$WORK/hold.in"
    mkfifo "$WORK/hold.in"
    : >"$WORK/hold.log"
    in_client "$LOAD" idle "$OURS:$2" "$1" <"$WORK/hold.in" >"$WORK/hold.log" 2>&1 &
    HOLDER=$!
    exec 9>"$WORK/hold.in"
    wait_for_line '^open=' "$WORK/hold.log" "$HOLDER"
}
release() {
    exec 9>&-
    wait "$HOLDER"
    tail -n 1 "$WORK/hold.log"
}
ticks() {
    awk '{ print $14 + $15 }' "/proc/$1/stat"
}
idle_ticks() {
    before=$(ticks "$1")
    sleep 10
    echo $(($(ticks "$1") - before))
}

start_ours streams --memory=512 || exit 1
if hold "$MANY" 7; then pass "$MANY connections are open"; else fail "$MANY connections are open"; fi
check "it still answers new ones" in_client "$LOAD" pull "$OURS:19" 10000000
awk '/VmHWM/ { printf "resident: %d MiB\n", $2 / 1024 }' "/proc/$OUR_PID/status"
check "none was closed" test "$(release)" = closed_by_server=0
stop_pid "$OUR_PID"

start_ours streams --memory=128 || exit 1
hold 1000 7
sleep 2
at_most "CPU ticks of the process in 10 s with 1,000 open connections" "$(idle_ticks "$OUR_PID")" 0
release >/dev/null
stop_pid "$OUR_PID"

ip netns exec skb-client qemu-system-x86_64 -accel tcg -cpu max -M microvm,acpi=on -m 128 -nodefaults -no-user-config \
    -display none -serial stdio -no-reboot -kernel "$PROJECT/target/images/streams.elf" \
    -append "--ipv4=$OURS/24 --ipv6=none" -netdev tap,id=n,ifname=skbtap,script=no,downscript=no \
    -device virtio-net-device,netdev=n -object rng-random,id=r,filename=/dev/urandom -device virtio-rng-device,rng=r \
    >"$WORK/machine.log" 2>&1 </dev/null &
machine=$!
wait_for_line '^ready ' "$WORK/machine.log" "$machine" || exit 1
hold 1000 7
sleep 2
at_most "CPU ticks of the virtual machine in 10 s with 1,000 open connections" "$(idle_ticks "$machine")" 0
release >/dev/null
kill -KILL "$machine"
finish
