#!/bin/sh
# The configuration replaced in a running image: new connections see the new certificate and the new users, an open one
# goes on, and a wrong configuration is refused with file and line while the one before goes on.
#
#   tests/reload.sh [process|qemu]...     (default: process)
set -u
TESTS=$(cd "$(dirname "$0")" && pwd)
PROJECT=$(dirname "$TESTS")
WORK=${WORK:-$PROJECT/target/tests}
. "$TESTS/lib/report.sh"

RUN="$PROJECT/deploy/run-caldav.sh"
PORT=${PORT:-18453}
STATE=$WORK/reload

clean_up() {
    exec 3>&- 2>/dev/null
    "$RUN" --state "$STATE" --stop >/dev/null 2>&1
}
trap clean_up EXIT

certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$1" \
        -keyout "$STATE/config/key.pem" -out "$STATE/config/certificate.pem" 2>/dev/null
}
subject() {
    openssl s_client -connect "127.0.0.1:$PORT" -servername localhost </dev/null 2>/dev/null |
        openssl x509 -noout -subject
}
status_of() {
    curl -sk --max-time 60 -o /dev/null -w '%{http_code}' -X PROPFIND -H 'Depth: 0' "$@"
}
reload() {
    "$RUN" --state "$STATE" --reload
}
count_answers() {
    grep -c '^HTTP/1.1 200' "$STATE/open.out"
}
# Asks once more on the open connection, and waits for the answer.
ask_again() {
    before=$(count_answers)
    printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3
    waited=0
    until [ "$(count_answers)" -gt "$before" ]; do
        [ "$waited" -lt 100 ] || return 1
        sleep 0.1
        waited=$((waited + 1))
    done
}

reloads_in() {
    rm -rf "$STATE"
    mkdir -p "$STATE/config"
    "$PROJECT/deploy/passwd.sh" alice --password one >"$STATE/config/caldav.toml"
    certificate first
    check "$1: it starts" "$RUN" --hv "$1" --state "$STATE" --publish "$PORT:443" --detach
    check "$1: the first certificate" sh -c "echo '$(subject)' | grep -q 'CN *= *first'"
    url=https://127.0.0.1:$PORT/calendars/alice/
    check "$1: the first password" test "$(status_of -u alice:one "$url")" = 207

    mkfifo "$STATE/open.in"
    openssl s_client -quiet -connect "127.0.0.1:$PORT" <"$STATE/open.in" >"$STATE/open.out" 2>/dev/null &
    exec 3>"$STATE/open.in"
    check "$1: a connection is open" ask_again

    "$PROJECT/deploy/passwd.sh" alice --password two >"$STATE/config/caldav.toml"
    "$PROJECT/deploy/passwd.sh" bob --password three >>"$STATE/config/caldav.toml"
    certificate second
    check "$1: it takes another configuration" reload
    check "$1: the second certificate" sh -c "echo '$(subject)' | grep -q 'CN *= *second'"
    check "$1: the first password is refused" test "$(status_of -u alice:one "$url")" = 401
    check "$1: the second is taken" test "$(status_of -u alice:two "$url")" = 207
    check "$1: a new user is let in" test "$(status_of -u bob:three "https://127.0.0.1:$PORT/calendars/bob/")" = 207
    check "$1: the connection from before goes on" ask_again

    printf 'plian = true\n' >"$STATE/config/wrong.toml"
    certificate third
    refusal=$(reload 2>&1)
    check "$1: a wrong one is refused, with file and line" \
        sh -c "echo '$(echo "$refusal" | tr -d "\`'")' | grep -q 'stays as it was: wrong.toml, line 1: .*plian'"
    check "$1: the second certificate goes on" sh -c "echo '$(subject)' | grep -q 'CN *= *second'"
    check "$1: and the users" test "$(status_of -u alice:two "$url")" = 207

    rm "$STATE/config/wrong.toml"
    check "$1: put right, it is taken" reload
    check "$1: the third certificate" sh -c "echo '$(subject)' | grep -q 'CN *= *third'"
    check "$1: the connection from before still goes on" ask_again
    exec 3>&-
    check "$1: it stops cleanly" "$RUN" --state "$STATE" --stop
    check "$1: nothing panicked" sh -c "! grep panicked '$STATE/console.log'"
}

[ $# -gt 0 ] || set -- process
for world in "$@"; do
    reloads_in "$world"
done
finish
