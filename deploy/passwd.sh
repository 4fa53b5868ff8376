#!/bin/sh
# Gives a user of the calendar server a password: prints the lines for the configuration.
#
#   deploy/passwd.sh USER [--password PASSWORD] [--image FILE] >>caldav-state/config/caldav.toml
#
# Without --password it asks, twice. The image itself does the hashing (argon2id); no password is ever an argument of a
# process.
set -eu
SERVICE=caldav
DEPLOY=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib/say.sh
. "$DEPLOY/lib/say.sh"
# shellcheck source=lib/image.sh
. "$DEPLOY/lib/image.sh"

USER_NAME='' PASSWORD='' IMAGE='' DRY_RUN=no
while [ $# -gt 0 ]; do
    case $1 in
        --password | --image)
            [ $# -ge 2 ] || fail "$1 wants a value"
            case $1 in
                --password) PASSWORD=$2 ;;
                --image) IMAGE=$2 ;;
            esac
            shift
            ;;
        --help | -h)
            sed -n '2,7s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        -*) fail "unknown option $1; see --help" ;;
        *)
            [ -z "$USER_NAME" ] || fail "one user at a time"
            USER_NAME=$1
            ;;
    esac
    shift
done
[ -n "$USER_NAME" ] || fail "which user? deploy/passwd.sh USER"

ask() {
    printf '%s' "$1" >&2
    stty -echo 2>/dev/null || true
    IFS= read -r ANSWER || ANSWER=''
    stty echo 2>/dev/null || true
    printf '\n' >&2
}
if [ -z "$PASSWORD" ]; then
    ask "Password for $USER_NAME: "
    PASSWORD=$ANSWER
    [ -n "$PASSWORD" ] || fail "an empty password lets everybody in"
    if [ -t 0 ]; then
        ask "Again: "
        [ "$ANSWER" = "$PASSWORD" ] || fail "the two passwords are not the same"
    fi
fi

find_image
# Sixteen MiB: the hash takes seven. The image's console is its standard error.
LINES=$(printf '%s\n' "$PASSWORD" |
    "$IMAGE" --memory=16 --config=/dev/stdin -- --hash-password "$USER_NAME" 2>&1) || fail "$LINES"
printf '%s\n' "$LINES"
