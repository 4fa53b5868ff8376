#!/bin/sh
# The figures of SPECIFICATION.md, each by the bench that prints it. SHORT=1 runs them briefly.
#
#   tests/bench/run.sh [boot|http|bulk|connections|flows|calendar|memory]...
set -u
BENCH=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$(dirname "$BENCH")")
cd "$PROJECT" || exit 1
if [ "${SHORT:-}" = 1 ]; then
    export SECONDS_EACH=3 ROUNDS=1 BYTES=1000000000 GUEST_BYTES=50000000 EVENTS=1000
fi
[ $# -gt 0 ] || set -- boot http bulk connections flows calendar memory
status=0
for bench in "$@"; do
    printf '\n-- %s\n' "$bench"
    case $bench in
        flows) cargo run -q --release --locked -p bench-flows || status=1 ;;
        *) "$BENCH/$bench.sh" || status=1 ;;
    esac
done
exit "$status"
