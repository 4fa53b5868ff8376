# shellcheck shell=sh
# Counts checks, and ends a script with the line that says how they went. Sourced by the scripts in tests/.

PASSED=0
FAILED=0

pass() {
    PASSED=$((PASSED + 1))
    printf 'ok    %s\n' "$*"
}

fail() {
    FAILED=$((FAILED + 1))
    printf 'FAIL  %s\n' "$*"
}

# check WHAT COMMAND...: the command must succeed. What it printed is shown if it does not.
check() {
    what=$1
    shift
    if output=$("$@" 2>&1); then
        pass "$what"
    else
        fail "$what"
        printf '%s\n' "$output" | tail -n 20 | sed 's/^/      /'
    fi
}

# Prints the closing line; fails if anything failed or nothing was checked.
finish() {
    printf '%s passed, %s failed\n' "$PASSED" "$FAILED"
    [ "$FAILED" -eq 0 ] && [ "$PASSED" -gt 0 ]
}
