#!/bin/sh
# Many connections. 20,000 open ones are held by the process on a tap, and it still answers others; with 1,000 open and
# idle neither the process nor the virtual machine uses a CPU tick in ten seconds. Needs root.
set -u
. "$(dirname "$0")/lib.sh"
MANY=${MANY:-20000}
# Seconds until connections on which nothing happens have given their buffers back.
SETTLE=5

build_load || exit 1
make_our_path
ip netns exec skb-client sysctl -q -w net.ipv4.ip_local_port_range="1024 65535"

# hold HOLDER CONNECTIONS PORT: a process opens them, and holds them until it is released. Descriptors are limited for
# each process, so many connections need several.
hold() {
    rm -f "$WORK/hold-$1.in"
    mkfifo "$WORK/hold-$1.in"
    : >"$WORK/hold-$1.log"
    # It must not hold open the input of the other.
    (exec 8>&- 9>&- && in_client "$LOAD" idle "$OURS:$3" "$2" <"$WORK/hold-$1.in" >"$WORK/hold-$1.log" 2>&1) &
    holder=$!
    case $1 in
        8) exec 8>"$WORK/hold-8.in" ;;
        9) exec 9>"$WORK/hold-9.in" ;;
    esac
    wait_for_line '^open=' "$WORK/hold-$1.log" "$holder"
}
# release HOLDER: ends it, and waits for its last line: how many of its connections the server had closed.
release() {
    case $1 in
        8) exec 8>&- ;;
        9) exec 9>&- ;;
    esac
    wait_for_line '^closed_by_server=' "$WORK/hold-$1.log" $$
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
if hold 8 $((MANY / 2)) 7 && hold 9 $((MANY - MANY / 2)) 7; then
    pass "$MANY connections are open"
else
    fail "$MANY connections are open"
fi
check "it still answers new ones" in_client "$LOAD" pull "$OURS:19" 10000000
awk '/VmHWM/ { printf "resident: %d MiB\n", $2 / 1024 }' "/proc/$OUR_PID/status"
release 8
release 9
check "none was closed" test "$(tail -q -n 1 "$WORK/hold-8.log" "$WORK/hold-9.log" | sort -u)" = closed_by_server=0
stop_pid "$OUR_PID"

# On a new path: the client's kernel goes on for a minute with what it has not seen the end of.
clean_up
make_our_path
start_ours streams --memory=128 || exit 1
hold 9 1000 7
sleep "$SETTLE"
at_most "CPU ticks of the process in 10 s with 1,000 open connections" "$(idle_ticks "$OUR_PID")" 0
release 9
stop_pid "$OUR_PID"

clean_up
make_our_path
ip netns exec skb-client qemu-system-x86_64 -accel tcg -cpu max -M microvm,acpi=on -m 128 -nodefaults -no-user-config \
    -display none -serial stdio -no-reboot -kernel "$PROJECT/target/images/streams.elf" \
    -append "--ipv4=$OURS/24 --ipv6=none" -netdev tap,id=n,ifname=skbtap,script=no,downscript=no \
    -device virtio-net-device,netdev=n -object rng-random,id=r,filename=/dev/urandom -device virtio-rng-device,rng=r \
    >"$WORK/machine.log" 2>&1 </dev/null &
machine=$!
wait_for_line '^ready ' "$WORK/machine.log" "$machine" || exit 1
hold 9 1000 7
sleep "$SETTLE"
at_most "CPU ticks of the virtual machine in 10 s with 1,000 open connections" "$(idle_ticks "$machine")" 0
release 9
kill -KILL "$machine"
finish
