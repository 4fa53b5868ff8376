# shellcheck shell=sh
# A small Linux guest: Debian's cloud kernel with an initramfs of our making. The peer in benches, and the host of nested
# KVM. Sourced; WORK is the directory it may fill.

# Debian's newest cloud kernel, unpacked once: sets KERNEL and MODULES.
linux_kernel() {
    kernel_root=$WORK/linux
    if [ ! -f "$kernel_root/complete" ]; then
        rm -rf "$kernel_root"
        mkdir -p "$kernel_root"
        package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -n 1)
        (cd "$kernel_root" && apt-get download "$package" >/dev/null 2>&1 && dpkg-deb -x "$package"_*.deb . && rm -f ./*.deb) ||
            return 1
        : >"$kernel_root/complete"
    fi
    KERNEL=$(echo "$kernel_root"/boot/vmlinuz-*)
    MODULES=$(echo "$kernel_root"/lib/modules/*)
}

# initramfs_begin DIRECTORY: an empty root with busybox.
initramfs_begin() {
    ROOT=$1
    rm -rf "$ROOT"
    mkdir -p "$ROOT/bin" "$ROOT/dev" "$ROOT/proc" "$ROOT/sys" "$ROOT/tmp" "$ROOT/etc" "$ROOT/run" "$ROOT/modules" \
        "$ROOT/root" "$ROOT/var/log"
    cp /bin/busybox "$ROOT/bin/busybox"
    for applet in $("$ROOT/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$ROOT/bin/$applet"
    done
    ln -s bin "$ROOT/sbin"
    mkdir -p "$ROOT/usr"
    ln -s ../bin "$ROOT/usr/bin"
    ln -s ../bin "$ROOT/usr/sbin"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nwww-data:x:33:33:www:/:/bin/false\n' \
        >"$ROOT/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\nwww-data:x:33:\n' >"$ROOT/etc/group"
    # Unpacked by the kernel; run first.
    ln -sf bin/busybox "$ROOT/linuxrc"
}

# initramfs_program PROGRAM...: programs with the libraries that they name.
initramfs_program() {
    for program in "$@"; do
        rm -f "$ROOT/bin/$(basename "$program")"
        cp -L "$program" "$ROOT/bin/"
        ldd "$program" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
            mkdir -p "$ROOT$(dirname "$library")"
            cp -nL "$library" "$ROOT$library"
        done
    done
}

# initramfs_module NAME...: kernel modules, in the order in which they are to be loaded.
initramfs_module() {
    for module in "$@"; do
        file=$(find "$MODULES" -name "$module.ko" | head -n 1)
        [ -n "$file" ] || return 1
        cp "$file" "$ROOT/modules/"
        echo "$module" >>"$ROOT/modules/order"
    done
}

# initramfs_pack FILE
initramfs_pack() {
    (cd "$ROOT" && find . | cpio -o -H newc --quiet | gzip -1) >"$1"
}
