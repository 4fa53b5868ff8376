# shellcheck shell=sh
# Runs the service named by SERVICE. Sourced by run-SERVICE.sh; the parts lie beside this file.
#
#   options.sh     the command line
#   say.sh         messages
#   tools.sh       missing tools, and how to get them
#   image.sh       the image: found, or built
#   state.sh       the state directory: what lasts, what runs, stop, status, logs
#   hypervisor.sh  which hypervisor works here, and its command line
#   network.sh     the network of each kind

for part in say options tools image state hypervisor network; do
    # shellcheck source=/dev/null
    . "$DEPLOY/lib/$part.sh"
done

# Starts the image in the foreground, its console on standard output and in the log. Returns its exit status.
run_in_foreground() {
    console=$STATE/console.fifo
    rm -f "$console"
    mkfifo -m 600 "$console"
    log_console <"$console" &
    reader=$!
    "$@" >"$console" 2>&1 </dev/null &
    pid=$!
    rm -f "$console"
    echo "$pid" >"$STATE/pid"
    trap 'stop_gently "$pid"' INT TERM
    # A signal ends `wait` early: wait again until the image has gone.
    status=0
    wait "$pid" || status=$?
    while kill -0 "$pid" 2>/dev/null; do
        status=0
        wait "$pid" || status=$?
    done
    trap - INT TERM
    wait "$reader" || true
    forget_running
    return "$status"
}

# Copies the console to standard output and the log, and keeps the account of a first start.
log_console() {
    awk -v log_file="$STATE/console.log" -v account="$STATE/first-password" '
        { sub(/\r$/, ""); print; print >> log_file; fflush() }
        /^first start/ { print > account; close(account) }
    '
}

# Where --net user publishes the service on this host.
show_urls() {
    [ "$NET" = user ] || return 0
    for publication in $PUBLISH; do
        split_publication "$publication"
        case $PROTOCOL/$GUEST_PORT in
            tcp/443) echo "published on https://$ADDRESS:$HOST_PORT/" ;;
            tcp/80) echo "published on http://$ADDRESS:$HOST_PORT/" ;;
            *) echo "published on $ADDRESS:$HOST_PORT/$PROTOCOL" ;;
        esac
    done
}

# Starts the image in the background, and waits until it serves or ends.
run_in_background() {
    : >>"$STATE/console.log"
    before=$(wc -c <"$STATE/console.log")
    nohup "$@" >>"$STATE/console.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$STATE/pid"
    waited=0
    while :; do
        if tail -c "+$((before + 1))" "$STATE/console.log" | grep -q '^ready '; then
            break
        fi
        if ! kill -0 "$pid" 2>/dev/null; then
            tail -c "+$((before + 1))" "$STATE/console.log" >&2
            forget_running
            fail "the image ended before it was ready; its console is above and in $STATE/console.log"
        fi
        if [ "$waited" -ge "$READY_TIMEOUT" ]; then
            fail "not ready after $((READY_TIMEOUT / 5)) s; it goes on trying: see $STATE/console.log, or --stop it"
        fi
        sleep 0.2
        waited=$((waited + 1))
    done
    tail -c "+$((before + 1))" "$STATE/console.log" | sed 's/\r$//' | grep -E '^(ready|first start)' >"$STATE/started"
    if grep '^first start' "$STATE/started" >"$STATE/first-password.new"; then
        mv "$STATE/first-password.new" "$STATE/first-password"
    fi
    cat "$STATE/started"
    show_urls
    rm -f "$STATE/started" "$STATE/first-password.new"
}

# Fifths of a second that a detached image may take until it is ready. Emulation on a busy machine is slow.
READY_TIMEOUT=600

parse_options "$@"
case $ACTION in
    stop) stop_running; exit ;;
    reload) reload_running; exit ;;
    status) show_status; exit ;;
    logs) show_logs; exit ;;
esac
find_image
choose_hypervisor
prepare_state
prepare_network
compose_command
if [ "$DRY_RUN" = yes ]; then
    print_command
    exit 0
fi
refuse_second_start
start_network
note_running
if [ "$DETACH" = yes ]; then
    eval "run_in_background $COMMAND"
else
    status=0
    show_urls
    eval "run_in_foreground $COMMAND" || status=$?
    stop_network
    exit "$status"
fi
