#!/bin/sh
# Builds the image of a service: target/images/SERVICE.elf, and SERVICE.debug beside it, which has the symbols.
# Prints its size against the budget in the service's image.toml, and fails over it.
#
#   deploy/build-image.sh SERVICE [CARGO-ARGUMENT...]
set -eu
DEPLOY=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib/say.sh
. "$DEPLOY/lib/say.sh"

[ $# -ge 1 ] || fail "which service? One of: $(cd "$DEPLOY/../services" && echo */ | tr -d /)"
service=$1
shift
cd "$DEPLOY/.."
manifest=services/$service/image.toml
# The images that only tests use are built in the same way.
[ -f "$manifest" ] || manifest=tests/images/$service/image.toml
[ -f "$manifest" ] || fail "$service: there is no services/$service/image.toml"
command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs, or apt-get install cargo"
command -v cc >/dev/null || fail "a C compiler is missing: apt-get install gcc libc6-dev"

cargo build --release --locked -p "$service" --features platform/lean "$@"
mkdir -p target/images
built=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release/$service
cp "$built" "target/images/$service.debug"
strip -o "target/images/$service.elf.new" "$built"
mv "target/images/$service.elf.new" "target/images/$service.elf"

size=$(wc -c <"target/images/$service.elf")
budget=$(sed -n 's/^image_bytes *= *\([0-9_]*\).*/\1/p' "$manifest" | tr -d _)
[ -n "$budget" ] || fail "$manifest: [budget] image_bytes is missing"
echo "target/images/$service.elf: $size of $budget bytes"
[ "$size" -le "$budget" ] || fail "the image is over its budget by $((size - budget)) bytes"
