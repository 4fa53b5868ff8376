#!/bin/sh
# Provokes each fault in a guest and looks at what the console says and with which status QEMU ends.
#
#     tests/guest-faults.sh [IMAGE]
#
# Without IMAGE the test image is built. Needs qemu-system-x86_64; no KVM, no root.
set -eu

cd "$(dirname "$0")/.."
image=${1:-}
if [ -z "$image" ]; then
    cargo build --quiet -p faults
    image=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/debug/faults
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
printf 'a small bundle' >"$work/module"

passed=0
failed=0

# guest MACHINE CPU OPTIONS ARGUMENTS: runs the image; its console is in $work/log, QEMU's status in $status.
# A guest that hangs is ended by the time limit, with status 124.
guest() {
    status=0
    # shellcheck disable=SC2086 # options are words
    timeout 60 qemu-system-x86_64 -M "$1" -accel tcg -cpu "$2" -m 32M -nodefaults -no-user-config -display none \
        -no-reboot -serial stdio -device isa-debug-exit,iobase=0xf4 -kernel "$image" $3 -append "$4" \
        </dev/null >"$work/raw" 2>"$work/errors" || status=$?
    tr -d '\r' <"$work/raw" >"$work/log"
}

# expect STATUS TEXT: checks the last guest. Twice an exit status plus one is what isa-debug-exit gives.
expect() {
    if [ "$status" = "$1" ] && grep -qF -- "$2" "$work/log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $name: wanted status $1 and '$2', got status $status and:"
        sed 's/^/    /' "$work/log" "$work/errors"
    fi
}

# fault NAME STATUS TEXT: provokes one on the smallest machine.
fault() {
    name=$1
    guest microvm max '' "$1"
    expect "$2" "$3"
}

exception=131
overflow=133
double_fault=135

fault null $exception 'write at 0x8, in the null page'
fault text $exception "in the program's text"
fault constant $exception "in the program's read-only data"
fault execute $exception 'execution at 0x'
fault instruction $exception 'exception 6, invalid opcode'
fault double-fault $double_fault 'exception 8, double fault'
fault recursion $overflow 'in the guard page of the main stack'
fault overflow-main $overflow 'in the guard page of the main stack'
fault overflow-boot $overflow 'in the guard page of the boot stack'
fault overflow-system-call $overflow 'in the guard page of the system call stack'
fault overflow-exception $overflow 'in the guard page of the exception (IST 1) stack'
fault overflow-emergency $overflow 'in the guard page of the emergency (IST 2) stack'
fault nested 137 'nested system call 24'
fault futex 139 'futex wait'
fault abort 141 'signal 6 (abort)'
fault memory 211 'out of memory: 1048576 bytes wanted'
fault panic 203 'nobody catches this'
expect 203 'return addresses'
fault panic-in-task 0 'the task failed: Ok(true); panics counted: 1'
fault thread 0 'thread refused: true'
fault registers 0 'clobbered: 0'
fault sleep 0 'slept: true true'
fault exit 15 'a guest with'

# The report's addresses have names.
name='symbolised report'
guest microvm max '' panic
tests/symbolise.sh "$image" <"$work/log" >"$work/named" && cp "$work/named" "$work/log"
expect 203 'faults::main'

# The other machines, and what a loader passes.
for machine in microvm microvm,acpi=off pc q35; do
    well=0
    [ "$machine" != microvm,acpi=off ] || well=1
    name="hello on $machine"
    guest "$machine" max '' "hello one 'two three'"
    expect $well 'arguments: ["one", "two three"]'
    name="module on $machine"
    guest "$machine" max "-initrd $work/module" module
    expect $well 'module: Some("a small bundle")'
    name="null on $machine"
    guest "$machine" max '' null
    expect $exception 'write at 0x8, in the null page'
    name="sleep on $machine"
    guest "$machine" max '' sleep
    expect $well 'slept: true true'
done

# Without a true source of randomness the image does not start; vector state also survives without XSAVE.
name='no randomness'
guest microvm qemu64 '' hello
expect 129 'no source of randomness'
name='no randomness among the devices either'
guest microvm qemu64 '' randomness
expect 129 'no source of randomness'
name='virtio-rng is a source'
guest microvm qemu64 '-device virtio-rng-device' randomness
expect 0 'two numbers differ: true'
name='registers without XSAVE'
guest microvm qemu64 '' registers
expect 0 'clobbered: 0'

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
