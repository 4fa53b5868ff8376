# shellcheck shell=sh
# Messages: results go to standard output, everything else to standard error.

say() {
    printf '%s\n' "$*" >&2
}

# Ends with what is wrong and what would be right.
fail() {
    say "$(basename "$0"): $*"
    exit 1
}

# A word as the shell reads it back.
quote() {
    case $1 in
        '' | *[!A-Za-z0-9_./:=,@%+-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf '%s' "$1" ;;
    esac
}
