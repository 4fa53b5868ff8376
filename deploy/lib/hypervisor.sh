# shellcheck shell=sh
# Where the image runs, and the command that runs it there.

QEMU=qemu-system-x86_64

# Seconds that the image may take to say its name under KVM when `auto` tries it.
PROBE_TIMEOUT=10

# Whether KVM runs this image: by trying, since a /dev/kvm that is there may still not work.
kvm_works() {
    [ -r /dev/kvm ] && [ -w /dev/kvm ] && command -v "$QEMU" >/dev/null 2>&1 || return 1
    timeout "$PROBE_TIMEOUT" "$QEMU" -accel kvm -cpu host -M microvm,acpi=on -m 64 -nodefaults -no-user-config \
        -display none -serial stdio -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 \
        -kernel "$IMAGE" -append --version </dev/null 2>/dev/null | grep -q "^$SERVICE "
}

choose_hypervisor() {
    case $HV in
        auto)
            if kvm_works; then
                HV=kvm
            else
                HV=process
            fi
            ;;
        kvm)
            if [ ! -e /dev/kvm ]; then
                fail "--hv kvm: there is no /dev/kvm here (modprobe kvm-intel or kvm-amd; in a guest, nested virtualisation)"
            fi
            if [ ! -w /dev/kvm ]; then
                fail "--hv kvm: /dev/kvm may not be used by $(id -un): add this user to the group kvm"
            fi
            ;;
    esac
    case $HV in
        kvm | qemu) need "$QEMU" qemu-system-x86 ;;
    esac
}

# Appends words to COMMAND, quoted for eval.
add() {
    for word in "$@"; do
        COMMAND="$COMMAND $(quote "$word")"
    done
}

compose_command() {
    COMMAND=
    case $HV in
        process) compose_process ;;
        kvm) compose_machine kvm host ;;
        qemu) compose_machine tcg max ;;
    esac
}

compose_process() {
    add "$IMAGE" "--memory=$MEMORY" "--net=service:$PROCESS_NET"
    if [ -n "$(default_disk)" ]; then
        add "--block=storage:file=$STATE/storage.img"
    fi
    if [ -n "${BUNDLE:-}" ]; then
        add "--config=$BUNDLE"
    fi
    COMMAND="$COMMAND$IMAGE_ARGUMENTS"
}

# compose_machine ACCELERATOR CPU
compose_machine() {
    case $MACHINE in
        microvm) kind=microvm,acpi=on,rtc=on bus=device ;;
        *) kind=$MACHINE bus=pci ;;
    esac
    add "$QEMU" -accel "$1" -cpu "$2" -M "$kind" -m "$MEMORY" -nodefaults -no-user-config \
        -display none -serial stdio -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 \
        -chardev "pipe,id=monitor,path=$STATE/monitor" -mon chardev=monitor,mode=readline \
        -kernel "$IMAGE"
    if [ "$bus" = device ]; then
        add -global virtio-mmio.force-legacy=false
    fi
    add -netdev "$QEMU_NET" -device "virtio-net-$bus,netdev=service"
    if [ -n "$(default_disk)" ]; then
        add -drive "file=$STATE/storage.img,format=raw,if=none,id=storage" \
            -device virtio-blk-$bus,drive=storage
    fi
    add -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-$bus,rng=rng
    if [ -n "${BUNDLE:-}" ]; then
        # After the storage: so the image tells them apart. A disk, not an initrd, can be read again.
        add -drive "file=$BUNDLE,format=raw,if=none,id=config,readonly=on" -device virtio-blk-$bus,drive=config
    fi
    if [ -n "$IMAGE_ARGUMENTS" ]; then
        eval "set -- $IMAGE_ARGUMENTS"
        add -append "$*"
    fi
    if [ "$DRY_RUN" != yes ]; then
        rm -f "$STATE/monitor.in" "$STATE/monitor.out"
        mkfifo -m 600 "$STATE/monitor.in" "$STATE/monitor.out"
    fi
}

print_command() {
    printf '%s\n' "${COMMAND# }"
    if [ -n "${COMPANION:-}" ]; then
        printf '# beside it: %s\n' "${COMPANION# }"
    fi
}
