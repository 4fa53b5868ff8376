# shellcheck shell=sh
# The state directory. What lasts: storage.img (the image's disk), console.log, config/, first-password. What is there
# only while an image runs: pid, running (how it was started), the monitor's pipes, passt's socket.

prepare_state() {
    if [ "$DRY_RUN" = yes ]; then
        return
    fi
    umask 077
    mkdir -p "$STATE" || fail "--state $STATE: cannot make this directory"
    disk=$(default_disk)
    if [ -n "$disk" ] && [ ! -e "$STATE/storage.img" ]; then
        truncate -s "$disk" "$STATE/storage.img" || fail "$STATE/storage.img: cannot be made"
    fi
    prepare_configuration
}

# Leaves the configuration bundle's file in BUNDLE, or nothing.
prepare_configuration() {
    BUNDLE=$CONFIG
    if [ -z "$BUNDLE" ] && [ -d "$STATE/config" ]; then
        BUNDLE=$STATE/config
    fi
    if [ -d "$BUNDLE" ]; then
        need tar tar
        tar -C "$BUNDLE" -cf "$STATE/bundle.tar" . || fail "$BUNDLE: cannot be packed"
        BUNDLE=$STATE/bundle.tar
    fi
}

# Sets PID if an image runs on this state directory.
find_running() {
    PID=
    if [ -f "$STATE/pid" ]; then
        PID=$(cat "$STATE/pid")
        if [ -z "$PID" ] || ! kill -0 "$PID" 2>/dev/null; then
            PID=
        fi
    fi
    [ -n "$PID" ]
}

refuse_second_start() {
    if find_running; then
        fail "already running on $STATE as process $PID: end it with --stop, or use another --state"
    fi
}

note_running() {
    printf 'hv=%s\nnet=%s\npublish=%s\n' "$HV" "$NET" "$PUBLISH" >"$STATE/running"
}

forget_running() {
    rm -f "$STATE/pid" "$STATE/running" "$STATE/monitor.in" "$STATE/monitor.out" "$STATE/passt.socket"
}

# Asks a running image to stop: the power button of a virtual machine, SIGTERM to a process.
stop_gently() {
    if [ -p "$STATE/monitor.in" ]; then
        echo system_powerdown >"$STATE/monitor.in"
    else
        kill -TERM "$1" 2>/dev/null || true
    fi
}

# Tenths of a second that an image may take to finish its requests and flush its disk.
STOP_TIMEOUT=300

stop_running() {
    if ! find_running; then
        say "nothing runs on $STATE"
        return 0
    fi
    if [ -f "$STATE/running" ]; then
        NET=$(sed -n 's/^net=//p' "$STATE/running")
    fi
    stop_gently "$PID"
    waited=0
    while kill -0 "$PID" 2>/dev/null && [ "$(process_state "$PID")" != Z ]; do
        if [ "$waited" -ge "$STOP_TIMEOUT" ]; then
            kill -KILL "$PID" 2>/dev/null || true
            forget_running
            stop_network
            fail "it did not stop in $((STOP_TIMEOUT / 10)) s and was killed; nothing acknowledged is lost by that"
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    forget_running
    stop_network
    say "stopped"
}

# R, S, Z... as in /proc; empty for a process that has gone.
process_state() {
    sed -n 's/^State:[[:space:]]*\([A-Z]\).*/\1/p' "/proc/$1/status" 2>/dev/null
}

show_status() {
    if ! find_running; then
        echo "stopped"
        return 3
    fi
    echo "running as process $PID"
    sed 's/=/: /' "$STATE/running" 2>/dev/null
    sed 's/\r$//' "$STATE/console.log" | grep '^ready ' | tail -n 1
}

show_logs() {
    [ -f "$STATE/console.log" ] || fail "$STATE/console.log: nothing has run here yet"
    cat "$STATE/console.log"
}
