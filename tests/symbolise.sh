#!/bin/sh
# Names the return addresses in a guest's report, offline.
#
#     tests/symbolise.sh UNSTRIPPED_IMAGE <CONSOLE_LOG
#
# Lines that hold one address alone, as reports print them, are followed by function, file and line; all others pass as
# they are. A return address lies after its call, so the byte before it is looked up.
set -eu

if [ $# != 1 ] || [ ! -f "$1" ]; then
    echo "usage: $0 UNSTRIPPED_IMAGE <CONSOLE_LOG" >&2
    exit 2
fi
if ! command -v addr2line >/dev/null; then
    echo "$0: addr2line is missing: apt-get install binutils" >&2
    exit 1
fi
tr -d '\r' | while IFS= read -r line; do
    case $line in
    '  0x'*[!0-9a-fx]*) printf '%s\n' "$line" ;;
    '  0x'*)
        address=${line#  }
        printf '%s' "$line  "
        addr2line -Cfpi -e "$1" "$(printf '0x%x' $((address - 1)))"
        ;;
    *) printf '%s\n' "$line" ;;
    esac
done
