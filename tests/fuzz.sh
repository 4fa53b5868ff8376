#!/bin/sh
# Fuzzes each parser of outside bytes for FUZZ_SECONDS (10), with coverage, overflow checks and debug assertions. What it
# finds new it keeps in target/fuzz/corpus; a crash is left in target/fuzz and fails the step.
#
#   tests/fuzz.sh [TARGET...]
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$TESTS")
# shellcheck source=lib/report.sh
. "$TESTS/lib/report.sh"
FUZZ_SECONDS=${FUZZ_SECONDS:-10}
OUT=$PROJECT/target/fuzz
mkdir -p "$OUT"

# libFuzzer's instrumentation, which stable Rust has; the image's own flags do not apply here.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16"
export CARGO_TARGET_DIR="$OUT/build"
(cd "$TESTS/fuzz" && cargo build -q --release --locked --target x86_64-unknown-linux-gnu) || exit 1

[ $# -gt 0 ] || set -- configuration calendar contact dav frames answers http tls disk
for target in "$@"; do
    mkdir -p "$OUT/corpus/$target"
    seeds=$TESTS/fuzz/seeds/$target
    [ -d "$seeds" ] || seeds=
    # Memory beyond 2 GiB (the disk target makes a disk for each input) or ten seconds for one input are findings, too.
    # shellcheck disable=SC2086
    check "$target: ${FUZZ_SECONDS} s" "$OUT/build/x86_64-unknown-linux-gnu/release/$target" -max_total_time="$FUZZ_SECONDS" \
        -timeout=10 -rss_limit_mb=2048 -max_len=16384 -artifact_prefix="$OUT/$target-" -verbosity=0 -print_final_stats=1 \
        "$OUT/corpus/$target" $seeds
done
finish
