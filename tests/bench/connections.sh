#!/bin/sh
# Many connections. 20,000 open ones are held by the process on a tap, and it still answers others; a message on one of
# them costs at most half as much again as a message on one of 10; with 1,000 open and idle neither the process nor the
# virtual machine uses a CPU tick in ten seconds. Needs root.
#
# What a message costs is the time of the server's process on its processor, in the kernel too. Over 20,000 connections it
# is higher for three reasons: little of what belongs to a connection is still in the caches; its buffers have been given
# back; and the client's kernel acknowledges each echo by itself, as no next message carries that.
set -u
. "$(dirname "$0")/lib.sh"
MANY=${MANY:-20000}
# Seconds until connections on which nothing happens have given their buffers back.
SETTLE=5
# Connections that have no messages, so that one process has descriptors enough for all others.
SILENT=100
# Seconds of messages in each round, and rounds: the least counts, as other work on the machine only ever adds.
SECONDS_EACH=${SECONDS_EACH:-5}
ROUNDS=${ROUNDS:-3}

build_load || exit 1
# A new path, as the client's kernel goes on for a minute with what it has not seen the end of on the old one. There is a
# port for every connection. What the server sends is received on the client's core, else the client's TCP would count as
# the server's.
make_path() {
    clean_up
    make_our_path
    ip netns exec skb-client sysctl -q -w net.ipv4.ip_local_port_range="1024 65535"
    mask=$(printf %x $((1 << CLIENT_CORE)))
    ip netns exec skb-client sh -c "echo $mask >/sys/class/net/skbtap/queues/rx-0/rps_cpus"
}

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

# least A B: the smaller number; A may be none yet.
least() {
    awk -v a="$1" -v b="$2" 'BEGIN { print (a == "" || b < a + 0 ? b : a) }'
}

make_path
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

# chatter CONNECTIONS: prints what a message on one of them costs, in nanoseconds of the server.
chatter() {
    line=$(in_client "$LOAD" chatter "$OURS:7" "$1" "$SECONDS_EACH" "$OUR_PID" 9>&-) || return 1
    figure server_ns_per_message "$line"
}
few=
many=
round=0
while [ "$round" -lt "$ROUNDS" ]; do
    round=$((round + 1))
    make_path
    start_ours streams --memory=512 || exit 1
    one=$(chatter 10) && few=$(least "$few" "$one")
    stop_pid "$OUR_PID"
    make_path
    start_ours streams --memory=512 || exit 1
    hold 9 "$SILENT" 7
    one=$(chatter $((MANY - SILENT))) && many=$(least "$many" "$one")
    release 9
    stop_pid "$OUR_PID"
done
echo "ns of the server for a message: ${few:-none} with 10 connections, ${many:-none} with $MANY"
at_most "cost of a message with $MANY connections, in that with 10" \
    "$(awk -v many="$many" -v few="$few" 'BEGIN { if (many > 0 && few > 0) printf "%.2f", many / few }')" 1.5

make_path
start_ours streams --memory=128 || exit 1
hold 9 1000 7
sleep "$SETTLE"
at_most "CPU ticks of the process in 10 s with 1,000 open connections" "$(idle_ticks "$OUR_PID")" 0
release 9
stop_pid "$OUR_PID"

make_path
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
