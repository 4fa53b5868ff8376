#!/bin/sh
# The test command: installs what the tests need on Debian, and runs them. Steps by name, or all that CI runs:
#
#   tests/run.sh                 everything below but the full benches and long soaks
#   tests/run.sh STEP...
#
#   lint          formatting, clippy, shellcheck, cargo deny
#   unit          unit tests, property tests, simulations
#   images        builds the images, and holds them to their budgets
#   worlds        the same image and the same client tests as a process and in QEMU's microvm, q35 and pc
#   seccomp       the system calls after start-up are the filter's, and another kills
#   reload        a certificate and users replaced in a running image
#   operators     health, metrics, events, and the log at a collector
#   guest-faults  faults provoked in the guest end as designed; idling and the power button
#   network       DHCP, router advertisements, DNS, UDP and TCP between the stack and Linux on a tap
#   devices       the guest's drivers on QEMU's disks and networks, over MMIO and PCI
#   bad-input     wrong configuration, disks and requests: a clear error or a bounded refusal
#   kvm           deploy/run-caldav.sh --hv kvm on a real /dev/kvm, in an emulated machine
#   fuzz          each parser of outside bytes, FUZZ_SECONDS each (10)
#   soak          the simulations with thousands of seeds (SKERRY_SEEDS), and longer fuzzing; hours
#   bench         the figures of SPECIFICATION.md (short: SHORT=1)
set -eu
TESTS=$(cd "$(dirname "$0")" && pwd)
cd "$TESTS/.."
export WORK="${WORK:-$PWD/target/tests}"
mkdir -p "$WORK"

packages() {
    missing=''
    for package in "$@"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    sudo=''
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get update -q >/dev/null
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends $missing >/dev/null
}

python_clients() {
    [ -x "$WORK/venv/bin/pytest" ] && return
    packages python3 python3-venv
    python3 -m venv "$WORK/venv"
    "$WORK/venv/bin/pip" install -q -r "$TESTS/clients/requirements.txt"
}

step_lint() {
    packages shellcheck
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    find deploy tests .ci \( -name '*.sh' -o -path .ci/run \) -exec shellcheck -x {} +
    command -v cargo-deny >/dev/null || cargo install -q --locked cargo-deny
    cargo deny --offline check licenses bans sources || cargo deny check licenses bans sources
}

step_unit() {
    packages git
    cargo test --workspace --locked
}

step_images() {
    packages gcc libc6-dev binutils
    for image in template caldav streams; do
        deploy/build-image.sh "$image"
    done
    # Faults are provoked in an image with the checks of a debug build.
    cargo build -q --locked -p faults
    cp target/x86_64-unknown-linux-gnu/debug/faults target/images/faults.elf
}

step_worlds() {
    packages qemu-system-x86 passt curl openssl
    python_clients
    tests/worlds.sh
}

step_seccomp() {
    packages strace passt
    tests/seccomp.sh
}

step_reload() {
    packages passt curl openssl
    tests/reload.sh
}

step_operators() {
    packages iproute2 curl socat
    tests/operators.sh
}

step_guest_faults() {
    packages qemu-system-x86 binutils socat
    tests/guest-faults.sh
    tests/guest-power.sh
}

step_devices() {
    packages qemu-system-x86 iproute2 iperf3 socat python3
    tests/devices.sh
}

step_bad_input() {
    packages iproute2 passt curl hping3
    tests/bad-input.sh
}

step_kvm() {
    packages qemu-system-x86 curl busybox-static cpio seabios
    tests/kvm.sh
}

step_network() {
    packages iproute2 dnsmasq-base socat
    tests/network.sh
}

step_fuzz() {
    packages g++
    tests/fuzz.sh
}

step_soak() {
    SKERRY_SEEDS=${SKERRY_SEEDS:-20000} cargo test --workspace --locked --release -- simulation transfers crash
    FUZZ_SECONDS=${FUZZ_SECONDS:-900} tests/fuzz.sh
}

step_bench() {
    packages qemu-system-x86 nginx-light wrk iproute2 curl busybox-static cpio openssl python3-venv
    tests/bench/run.sh
}

[ $# -gt 0 ] || set -- lint unit images worlds seccomp reload operators guest-faults network devices bad-input kvm fuzz
for step in "$@"; do
    function=step_$(echo "$step" | tr - _)
    command -v "$function" >/dev/null || {
        echo "tests/run.sh: no step '$step'; the head of the file lists them" >&2
        exit 2
    }
    printf '\n== %s\n' "$step"
    started=$(date +%s)
    "$function"
    printf '== %s: %s s\n' "$step" "$(($(date +%s) - started))"
done
