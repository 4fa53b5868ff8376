#!/bin/sh
# Real KVM: a Debian kernel under emulation has a working /dev/kvm (nested SVM is emulated too); in there
# `deploy/run-caldav.sh --hv kvm` must run the image, and the image serve.
#
#   tests/kvm.sh          WORK=DIR sets where the guest is built (default target/tests)
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$TESTS")
WORK=${WORK:-$PROJECT/target/tests}
. "$TESTS/lib/report.sh"
. "$TESTS/lib/linux-guest.sh"

# Seconds for the whole of it: one emulated machine inside another, on two busy cores.
LIMIT=${LIMIT:-420}

mkdir -p "$WORK"
linux_kernel || { fail "Debian's cloud kernel could be had"; finish; exit 1; }
initramfs_begin "$WORK/kvm-root"
initramfs_program /usr/bin/qemu-system-x86_64 /usr/bin/curl /usr/bin/timeout /usr/bin/nohup /bin/bash
initramfs_module irqbypass kvm kvm-amd kvm-intel
mkdir -p "$ROOT/usr/share" "$ROOT/skerry/deploy/images"
mkdir -p "$ROOT/usr/share/qemu" "$ROOT/usr/share/seabios"
# QEMU looks for its firmware beside its own folder, which is /bin there.
ln -s usr/share "$ROOT/share"
cp -L /usr/share/seabios/* "$ROOT/usr/share/seabios/"
cp -L /usr/share/qemu/bios-microvm.bin /usr/share/qemu/qboot.rom /usr/share/qemu/pvh.bin \
    /usr/share/qemu/linuxboot_dma.bin /usr/share/qemu/kvmvapic.bin "$ROOT/usr/share/qemu/" 2>/dev/null
cp -r "$PROJECT/deploy/lib" "$PROJECT"/deploy/*.sh "$ROOT/skerry/deploy/"
cp "$PROJECT/target/images/caldav.elf" "$ROOT/skerry/deploy/images/"
cp "$TESTS/lib/kvm-init.sh" "$ROOT/init"
chmod 755 "$ROOT/init"
initramfs_pack "$WORK/kvm.cpio.gz"

log=$WORK/kvm.log
timeout "$LIMIT" qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 1500 -nodefaults -display none -serial stdio \
    -no-reboot -kernel "$KERNEL" -initrd "$WORK/kvm.cpio.gz" -append "console=ttyS0 panic=-1 quiet" \
    </dev/null >"$log" 2>&1

for what in 'there is a /dev/kvm' 'auto takes KVM' 'run-caldav.sh --hv kvm starts the image' \
    'status says that it runs under KVM' 'it answers over HTTPS' 'it asks for a password' \
    'the first user is let in' 'an event is stored' 'stop ends it cleanly' 'the event is there after a restart'; do
    if grep -q "^CHECK $what: yes" "$log"; then
        pass "$what"
    else
        fail "$what"
    fi
done
[ "$FAILED" -eq 0 ] || tail -n 60 "$log"
finish
