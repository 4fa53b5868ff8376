#!/bin/sh
# The guest's drivers on QEMU's devices: disks and networks over MMIO and PCI, legacy and modern, by messages and by
# lines. What a disk was given is looked for on the host's file; networks are real taps between network namespaces.
#
#     tests/devices.sh [IMAGE]
#
# Without IMAGE the test image is built. Needs qemu-system-x86_64, iproute2, iperf3, socat, python3; no KVM. The network
# part needs root (it makes the namespaces skt-dev-a and skt-dev-b).
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$TESTS")
. "$TESTS/lib/report.sh"

IMAGE=${1:+$(realpath "$1")}
if [ -z "$IMAGE" ]; then
    (cd "$PROJECT" && cargo build --quiet --release -p devices) || exit 1
    IMAGE=${CARGO_TARGET_DIR:-$PROJECT/target}/x86_64-unknown-linux-gnu/release/devices
fi
DIRECTORY=$(mktemp -d)
QEMU=''
CPU=max

clean_up() {
    [ -z "$QEMU" ] || kill -KILL "$QEMU" 2>/dev/null
    for space in skt-dev-a skt-dev-b; do
        if [ -e "/run/netns/$space" ]; then
            ip netns delete "$space"
        fi
    done
    rm -rf "$DIRECTORY"
}
trap clean_up EXIT
trap 'exit 1' INT TERM
cd "$DIRECTORY" || exit 1

# emulate MACHINE ARGUMENTS OPTION...: the command line of the guest, in the arguments of what is run.
emulate() {
    machine=$1 arguments=$2
    shift 2
    exec qemu-system-x86_64 -M "$machine" -accel tcg -cpu "$CPU" -m 64M -nodefaults -no-user-config \
        -display none -no-reboot -serial stdio -device isa-debug-exit,iobase=0xf4 -kernel "$IMAGE" \
        -append "$arguments" "$@"
}

# run MACHINE ARGUMENTS OPTION...: the guest until it ends; its console is in `log`.
run() {
    (emulate "$@" </dev/null >raw 2>errors) &
    QEMU=$!
    waited=0
    while kill -0 "$QEMU" 2>/dev/null && [ "$waited" -lt 600 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    kill -KILL "$QEMU" 2>/dev/null && echo 'it did not end' >>raw
    wait "$QEMU" 2>/dev/null
    QEMU=''
    tr -d '\r' <raw >log
}

# says PATTERN...: each pattern is in the log.
says() {
    for pattern in "$@"; do
        if ! grep -Eq -- "$pattern" log; then
            echo "not found: $pattern"
            cat log errors
            return 1
        fi
    done
}

# What the image writes: at each offset, the offset.
python3 -c 'import array, sys; sys.stdout.buffer.write(array.array("Q", range(0, 16 << 20, 8)).tobytes())' >expected

written() {
    head -c 16M "$1" | cmp - expected
}

# disk_case WHAT MACHINE NET BLOCK ENTROPY [OPTION...]: a disk of 32 MiB is written, flushed, read and looked at.
disk_case() {
    title=$1 machine=$2 net=$3 block=$4 entropy=$5
    shift 5
    rm -f disk.img
    truncate -s 32M disk.img
    run "$machine" disks "$@" -drive if=none,id=disk,file=disk.img,format=raw -netdev user,id=net \
        -device "$net,netdev=net" -device "$block,drive=disk" -device "$entropy"
    check "$title: the disk works: $(sed -n 's/^storage: //p' log)" says '^storage: .*ok$'
    check "$title: the host's file has it" written disk.img
}

disk_case 'microvm, legacy' microvm virtio-net-device virtio-blk-device virtio-rng-device \
    -global virtio-mmio.force-legacy=true
check '  probed from the top: the first device is the highest' says 'mmio 0xfeb02e00: network' 'mmio 0xfeb02c00: block' \
    'mmio 0xfeb02a00: entropy'
disk_case 'microvm, modern' microvm virtio-net-device virtio-blk-device virtio-rng-device \
    -global virtio-mmio.force-legacy=false
disk_case 'microvm without ACPI' microvm,acpi=off virtio-net-device virtio-blk-device virtio-rng-device \
    -global virtio-mmio.force-legacy=false
check '  announced on the command line' says 'mmio 0xfeb00e00: network' 'mmio 0xfeb00c00: block'
disk_case 'microvm with one I/O APIC' microvm,ioapic2=off virtio-net-device virtio-blk-device virtio-rng-device
for machine in q35 pc; do
    disk_case "$machine, messages" "$machine" virtio-net-pci virtio-blk-pci virtio-rng-pci
    check '  by MSI-X' says 'pci 00:0.*MSI-X.*network' 'pci 00:0.*MSI-X.*block'
    disk_case "$machine, lines" "$machine" virtio-net-pci,vectors=0 virtio-blk-pci,vectors=0 virtio-rng-pci,vectors=0
    check '  by INTx' says 'INTx.*network' 'INTx.*block'
    legacy=disable-modern=on,disable-legacy=off
    disk_case "$machine, legacy" "$machine" virtio-net-pci,$legacy virtio-blk-pci,$legacy virtio-rng-pci,$legacy
    check '  by MSI-X, without VERSION_1' says 'MSI-X.*network.*features 0x2' 'MSI-X.*block.*features 0x2'
    disk_case "$machine, legacy, lines" "$machine" virtio-net-pci,$legacy,vectors=0 virtio-blk-pci,$legacy,vectors=0 \
        virtio-rng-pci,$legacy,vectors=0
done
disk_case 'q35, behind a bridge' q35 virtio-net-pci,bus=bridge virtio-blk-pci virtio-rng-pci \
    -device pcie-root-port,id=bridge,chassis=1
check '  found there' says 'pci 01:00.0.*network'
disk_case 'a small queue, without EVENT_IDX' q35 virtio-net-pci,event_idx=off \
    virtio-blk-pci,event_idx=off,queue-size=16 virtio-rng-pci,event_idx=off
disk_case 'sectors of 4096 bytes' q35 virtio-net-pci \
    virtio-blk-pci,logical_block_size=4096,physical_block_size=4096 virtio-rng-pci
check '  seen' says 'sector_size: 4096'

rm -f disk.img
cp expected disk.img
truncate -s 32M disk.img
run q35 disks -drive if=none,id=disk,file=disk.img,format=raw,read-only=on -device virtio-blk-pci,drive=disk
check 'a read-only disk is read and not written' says 'read_only: true' '^storage: read.*ok$'

truncate -s 32M other.img
run microvm disks -drive if=none,id=one,file=disk.img,format=raw -drive if=none,id=two,file=other.img,format=raw \
    -device virtio-blk-device,drive=one -device virtio-blk-device,drive=two
check 'two disks, in their order' says '^storage: .*ok$' '^storage1: .*ok$' 'block storage1: .*33554432'

# cards MACHINE DEVICE: several network devices keep their order.
cards() {
    run "$1" '' -device "$2,mac=52:54:00:00:00:01" -device "$2,mac=52:54:00:00:00:02" -device "$2,mac=52:54:00:00:00:03"
    says 'net service: .* 0, 0, 0, 1]' 'net service1: .* 0, 0, 0, 2]' 'net service2: .* 0, 0, 0, 3]'
}
check 'three network devices on microvm, in their order' cards microvm virtio-net-device
check 'three network devices on q35, in their order' cards q35 virtio-net-pci

# A drive that fails what is written in its fifth megabyte.
cat >blkdebug.conf <<END
[inject-error]
event = "none"
iotype = "write"
errno = "5"
sector = "8192"
END
run q35 disks -blockdev driver=file,node-name=file,filename=disk.img \
    -blockdev driver=blkdebug,node-name=disk,image=file,config=blkdebug.conf \
    -device virtio-blk-pci,drive=disk,werror=report
check 'an error of the disk is reported, and nothing else happens' says '^storage: FAILED: the device reported'

CPU=qemu64
run q35 disks -device virtio-rng-pci
check 'the entropy device seeds a processor without RDRAND' says 'entropy device' '^guest on'
run q35 disks
check 'without either the image refuses' says 'no source of randomness'
CPU=max

# wait_for PATTERN: until the guest says it.
wait_for() {
    waited=0
    until grep -q "$1" log 2>/dev/null; do
        if ! kill -0 "$QEMU" 2>/dev/null || [ "$waited" -ge 300 ]; then
            cat log errors
            return 1
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
}

# start MACHINE ARGUMENTS OPTION...: the guest in the namespace, until it says that it is ready.
start() {
    machine=$1 arguments=$2
    shift 2
    rm -f log
    ip netns exec skt-dev-a qemu-system-x86_64 -M "$machine" -accel tcg -cpu max -m 64M -nodefaults -no-user-config \
        -display none -no-reboot -serial file:log -monitor unix:monitor,server=on,wait=off -kernel "$IMAGE" \
        -append "$arguments" "$@" </dev/null >errors 2>&1 &
    QEMU=$!
    wait_for ready
}

stop() {
    kill -KILL "$QEMU"
    wait "$QEMU" 2>/dev/null
    QEMU=''
}

ticks() {
    # User and system time of all threads.
    sed 's/.*) //' "/proc/$QEMU/stat" | awk '{ print $12 + $13 }'
}

# The guest uses no processor time while nothing happens. QEMU's main loop may wake for its own timers.
idle() {
    before=$(ticks)
    sleep 10
    used=$(($(ticks) - before))
    echo "$used ticks in 10 s"
    [ "$used" -le 1 ]
}

in_a() {
    ip netns exec skt-dev-a "$@"
}
in_b() {
    ip netns exec skt-dev-b "$@"
}

make_spaces() {
    ip netns add skt-dev-a
    ip netns add skt-dev-b
    for tap in skt0 skt1; do
        in_a ip tuntap add dev $tap mode tap vnet_hdr
    done
    in_a ip addr add 10.79.0.1/24 dev skt0
    in_a ip link set skt0 up
    in_a ip link set skt1 up
}
remove_spaces() {
    ip netns delete skt-dev-a
    ip netns delete skt-dev-b
}

udp_echo() {
    [ "$(printf 'as it was sent' | in_a socat -t 2 - UDP4:10.79.0.2:7)" = 'as it was sent' ]
}

TAP=tap,script=no,downscript=no,vhost=off

# net_case WHAT MACHINE DEVICE [OPTION...]: answers over one device.
net_case() {
    title=$1 machine=$2 device=$3
    shift 3
    make_spaces
    if ! start "$machine" --answer=10.79.0.2 -netdev $TAP,id=net0,ifname=skt0 -device "$device,netdev=net0" "$@"; then
        fail "$title: it starts"
        remove_spaces
        return
    fi
    check "$title: ping" in_a ping -q -c 3 -i 0.2 -W 5 10.79.0.2
    check "$title: full-sized pings" in_a ping -q -c 3 -i 0.2 -W 5 -s 1472 -M 'do' 10.79.0.2
    flood=$(in_a ping -q -f -c 5000 -l 32 -W 5 10.79.0.2 2>&1)
    check "$title: a flood of pings: $(echo "$flood" | sed -n 's/.*received, //p')" \
        sh -c "echo '$flood' | grep -q '5000 received'"
    check "$title: UDP, with checksums left to be finished" udp_echo
    check "$title: idle" idle
    check "$title: and alive after it" in_a ping -q -c 1 -W 5 10.79.0.2
    stop
    remove_spaces
}

# forward_case WHAT MACHINE DEVICE [OPTION...]: TCP through the guest, between two devices.
forward_case() {
    title=$1 machine=$2 device=$3
    shift 3
    make_spaces
    if ! start "$machine" forward -netdev $TAP,id=net0,ifname=skt0 -netdev $TAP,id=net1,ifname=skt1 \
        -device "$device,netdev=net0,mac=52:54:00:00:00:01" -device "$device,netdev=net1,mac=52:54:00:00:00:02" "$@"
    then
        fail "$title: it starts"
        remove_spaces
        return
    fi
    ip -n skt-dev-a link set skt1 netns skt-dev-b
    in_b ip addr add 10.79.0.2/24 dev skt1
    in_b ip link set skt1 up
    case $title in
        *"all offloads"*) check "$title: agreed" says 'tcp4: true, transmit_tcp6: true, receive: true' ;;
        *"no offloads"*) check "$title: agreed" says 'checksum: false, .*tcp4: false, .*receive: false' ;;
    esac
    check "$title: ping through the guest" in_a ping -q -c 3 -i 0.2 -W 5 10.79.0.2
    in_b timeout 60 socat -u TCP4-LISTEN:9000 OPEN:received,creat,trunc &
    receiver=$!
    in_a timeout 60 socat -u OPEN:expected TCP4:10.79.0.2:9000,retry=50,interval=0.1
    wait "$receiver"
    check "$title: 16 MiB by TCP, as sent" cmp expected received
    rm -f received
    in_b timeout 60 iperf3 -s -1 >/dev/null 2>&1 &
    receiver=$!
    for direction in '' -R; do
        [ -z "$direction" ] || { in_b timeout 60 iperf3 -s -1 >/dev/null 2>&1 & receiver=$!; }
        sleep 0.5
        # shellcheck disable=SC2086 # no word or one
        in_a timeout 60 iperf3 -c 10.79.0.2 -t 4 $direction >iperf 2>&1
        wait "$receiver"
        check "$title: TCP${direction:+ the other way}: $(sed -n 's/.*sec *\([0-9.]* [GM]Bytes\) *\([0-9.]* [GM]bits.sec\).*receiver/\2/p' iperf)" \
            grep -q receiver iperf
    done
    stop
    remove_spaces
}

# The disk grows while the guest runs.
growth() {
    (emulate q35 watch -drive if=none,id=disk,file=disk.img,format=raw -device virtio-blk-pci,drive=disk \
        -monitor unix:monitor,server=on,wait=off </dev/null >log 2>errors) &
    QEMU=$!
    wait_for ready && echo 'block_resize disk 48M' | socat - UNIX-CONNECT:monitor >/dev/null && wait_for 'grown'
    status=$?
    says '^storage has grown to 50331648 bytes' || status=1
    stop
    return $status
}
check 'a disk that grows is seen to' growth

if [ "$(id -u)" -ne 0 ]; then
    echo "the network part needs root: left out"
    finish
    exit
fi
MODERN=virtio-mmio.force-legacy=false
LEGACY=virtio-mmio.force-legacy=true
net_case 'microvm, modern' microvm virtio-net-device -global $MODERN
net_case 'microvm, legacy' microvm virtio-net-device -global $LEGACY
net_case 'q35, messages' q35 virtio-net-pci
net_case 'pc, lines' pc virtio-net-pci,vectors=0
forward_case 'microvm, modern, all offloads' microvm virtio-net-device -global $MODERN
forward_case 'microvm, legacy' microvm virtio-net-device -global $LEGACY
forward_case 'q35, messages, all offloads' q35 virtio-net-pci
forward_case 'pc, lines' pc virtio-net-pci,vectors=0
forward_case 'q35, no offloads' q35 \
    virtio-net-pci,csum=off,guest_csum=off,host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off,mrg_rxbuf=off
finish
