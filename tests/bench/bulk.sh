#!/bin/sh
# One bulk TCP connection. As a process on a tap against the kernel's own TCP between namespaces over veth; in a virtual
# machine (microvm, TCG) against a Debian cloud kernel on the same machine type. The program at the peer's end is the same
# plain loop. Needs root.
set -u
. "$(dirname "$0")/lib.sh"
BYTES=${BYTES:-4000000000}
GUEST_BYTES=${GUEST_BYTES:-200000000}
ROUNDS=${ROUNDS:-3}
# shellcheck source=../lib/linux-guest.sh
. "$PROJECT/tests/lib/linux-guest.sh"

build_load || exit 1
make_our_path
make_peer_path
start_ours streams --memory=64 || exit 1
in_peer "$LOAD" serve "$PEER" >"$WORK/serve.log" 2>&1 &
wait_for_line '^ready ' "$WORK/serve.log" $! || exit 1

# transfer WHAT HOST PORT BYTES FIGURES: appends its speed to the file FIGURES.
transfer() {
    figure mbit_per_second "$(in_client "$LOAD" "$1" "$2:$3" "$4")" >>"$WORK/bulk-$5.$$"
}
# compare WHAT FIGURES RATIO: the medians of two files of speeds.
compare() {
    at_least "bulk TCP $1, Mbit/s" "$(median "$WORK/bulk-ours-$2.$$")" "$(median "$WORK/bulk-peer-$2.$$")" "$3"
    rm -f "$WORK"/bulk-*-"$2.$$"
}
# Interleaved, and the median: the machine is never quite still.
for _ in $(seq "$ROUNDS"); do
    transfer pull "$OURS" 19 "$BYTES" ours-out
    transfer pull "$PEER" 19 "$BYTES" peer-out
    transfer push "$OURS" 9 "$BYTES" ours-in
    transfer push "$PEER" 9 "$BYTES" peer-in
done
compare "out of the process" out 0.5
compare "into the process" in 0.5
stop_pid "$OUR_PID"

# Virtual machines, one after the other, on the same tap.
#
# start_machine KIND QEMU-ARGUMENT...: started again when it hangs or stays deaf, as Linux at times does on microvm under
# TCG: it calibrates its clock wrongly there.
start_machine() {
    kind=$1
    shift
    for _ in 1 2 3 4 5; do
        ip netns exec skb-client taskset -c "$SERVER_CORE" qemu-system-x86_64 -accel tcg -cpu max -M "$kind" -m 256 \
            -nodefaults -no-user-config -display none -serial stdio -no-reboot \
            -netdev tap,id=n,ifname=skbtap,script=no,downscript=no,vnet_hdr=on \
            -device virtio-net-device,netdev=n,mac=02:00:00:00:00:02 -object rng-random,id=r,filename=/dev/urandom \
            -device virtio-rng-device,rng=r -global virtio-mmio.force-legacy=false "$@" >"$WORK/machine.log" 2>&1 </dev/null &
        MACHINE_PID=$!
        wait_for_line '^ready ' "$WORK/machine.log" "$MACHINE_PID" 200 && reachable && return
        kill -KILL "$MACHINE_PID"
        wait "$MACHINE_PID" 2>/dev/null
    done
    return 1
}
reachable() {
    for _ in 1 2 3 4 5 6 7 8; do
        ip netns exec skb-client timeout 1 bash -c "exec 3<>/dev/tcp/$OURS/9" 2>/dev/null && return
        sleep 0.5
    done
    return 1
}
transfer_machine() {
    transfer pull "$OURS" 19 "$GUEST_BYTES" "$1-out"
    transfer push "$OURS" 9 "$GUEST_BYTES" "$1-in"
    kill -KILL "$MACHINE_PID"
    wait "$MACHINE_PID" 2>/dev/null
}

linux_kernel || exit 1
initramfs_begin "$WORK/bulk-root"
initramfs_program "$LOAD"
initramfs_module virtio_ring virtio virtio_mmio failover net_failover virtio_net virtio-rng
cat >"$ROOT/init" <<END
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
while read -r module; do insmod /modules/\$module.ko; done </modules/order
ifconfig lo 127.0.0.1 up
ifconfig eth0 $OURS netmask 255.255.255.0 up
load serve $OURS
END
chmod +x "$ROOT/init"
initramfs_pack "$WORK/bulk.cpio.gz"

for _ in $(seq "$ROUNDS"); do
    start_machine microvm,acpi=on -kernel "$PROJECT/target/images/streams.elf" -append "--ipv4=$OURS/24 --ipv6=none" || exit 1
    transfer_machine ours
    start_machine microvm,acpi=on -kernel "$KERNEL" -initrd "$WORK/bulk.cpio.gz" -append "console=ttyS0 quiet" || exit 1
    transfer_machine peer
done
compare "out of the virtual machine" out 1.0
compare "into the virtual machine" in 1.0
finish
