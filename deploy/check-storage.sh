#!/bin/sh
# Checks the disk of a service that is not running: superblocks, database, and what the service keeps in it. Changes nothing.
#
#   deploy/check-storage.sh [--service SERVICE] [--image FILE] STORAGE-IMAGE
#
# Prints what it found; exit status 0 if all is sound.
set -eu
SERVICE=caldav
DEPLOY=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib/say.sh
. "$DEPLOY/lib/say.sh"
# shellcheck source=lib/image.sh
. "$DEPLOY/lib/image.sh"

IMAGE='' DISK='' DRY_RUN=no
while [ $# -gt 0 ]; do
    case $1 in
        --service | --image)
            [ $# -ge 2 ] || fail "$1 wants a value"
            case $1 in
                --service) SERVICE=$2 ;;
                --image) IMAGE=$2 ;;
            esac
            shift
            ;;
        --help | -h)
            sed -n '2,6s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        -*) fail "unknown option $1; see --help" ;;
        *) DISK=$1 ;;
    esac
    shift
done
[ -n "$DISK" ] || fail "which disk? deploy/check-storage.sh caldav-state/storage.img"
[ -f "$DISK" ] || [ -b "$DISK" ] || fail "$DISK: no such file"

find_image
exec "$IMAGE" --check-storage --memory=256 "--block=storage:file=$DISK"
