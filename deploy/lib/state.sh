# shellcheck shell=sh
# The state directory. What lasts: storage.img (the image's disk), console.log, config/, first-password. What is there
# only while an image runs: pid, running (how it was started), bundle.tar (config/ packed), the monitor's pipes, passt's
# socket.

prepare_state() {
    find_configuration
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

# The bundle's file is a multiple of this many bytes, the rest zeroes: a virtual machine has it as a disk, which does not
# grow under it, and the next configuration may be longer.
BUNDLE_ROOM=262144

# Sets CONFIG to where the configuration is, and BUNDLE to the file that the image reads; both empty if there is none.
find_configuration() {
    if [ -z "$CONFIG" ] && [ -d "$STATE/config" ]; then
        CONFIG=$STATE/config
    fi
    BUNDLE=
    if [ -n "$CONFIG" ]; then
        BUNDLE=$STATE/bundle.tar
    fi
}

prepare_configuration() {
    rm -f "$STATE/bundle.tar"
    if [ -n "$CONFIG" ]; then
        pack_configuration "$BUNDLE"
        CONFIG=$(realpath "$CONFIG")
    fi
}

# pack_configuration FILE: packs CONFIG into FILE.
pack_configuration() {
    if [ -d "$CONFIG" ]; then
        need tar tar
        tar -C "$CONFIG" -cf "$1" . || fail "$CONFIG: cannot be packed"
    else
        cat "$CONFIG" >"$1" || fail "$CONFIG: cannot be read"
    fi
    length=$(wc -c <"$1")
    truncate -s "$(((length / BUNDLE_ROOM + 1) * BUNDLE_ROOM))" "$1"
}

# Seconds until a running image has said what it thinks of a new configuration: a virtual machine looks once a minute.
RELOAD_TIMEOUT=150

# Gives a running image its configuration as it is now. Fails if the image does not take it; then the one before goes on.
reload_running() {
    find_running || fail "nothing runs on $STATE"
    CONFIG=$(sed -n 's/^config=//p' "$STATE/running")
    HV=$(sed -n 's/^hv=//p' "$STATE/running")
    [ -n "$CONFIG" ] || fail "it was started without a configuration: --stop it, and start it with one"
    umask 077
    pack_configuration "$STATE/bundle.new"
    if [ "$HV" != process ] && [ "$(wc -c <"$STATE/bundle.new")" -gt "$(wc -c <"$STATE/bundle.tar")" ]; then
        rm -f "$STATE/bundle.new"
        fail "the configuration has become too long for the virtual machine's disk of it: --stop, and start again"
    fi
    said=$(count_reloads)
    # Into the same file: the image has it open.
    dd if="$STATE/bundle.new" of="$STATE/bundle.tar" bs=64k conv=notrunc status=none
    rm -f "$STATE/bundle.new"
    if [ "$HV" = process ]; then
        kill -HUP "$PID"
    else
        say "the virtual machine looks at its configuration once a minute"
    fi
    waited=0
    while [ "$(count_reloads)" -eq "$said" ]; do
        find_running || fail "it has ended: see $STATE/console.log"
        if [ "$waited" -ge $((RELOAD_TIMEOUT * 5)) ]; then
            fail "it said nothing in $RELOAD_TIMEOUT s: is this configuration another than before? See $STATE/console.log"
        fi
        sleep 0.2
        waited=$((waited + 1))
    done
    answer=$(sed 's/\r$//' "$STATE/console.log" | grep ': the configuration ' | tail -n 1)
    case $answer in
        *'stays as it was'*) fail "${answer#*: }" ;;
    esac
    say "${answer#*: }"
}

count_reloads() {
    grep -c ': the configuration ' "$STATE/console.log" || true
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
    printf 'hv=%s\nnet=%s\npublish=%s\nconfig=%s\n' "$HV" "$NET" "$PUBLISH" "$CONFIG" >"$STATE/running"
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
