#!/usr/bin/env bash
# Sourced by coffer-serve: its commands beside `foreground`.
# shellcheck disable=SC2154,SC2031 # set by coffer-serve; is_live has a host of its own

is_running() { [ -e "$RUNTIME_DIR/lock" ] && ! flock -n "$RUNTIME_DIR/lock" true; }

start_command() {
    local pid
    make_runtime_dir
    ! is_running || die "already running with RUNTIME_DIR $RUNTIME_DIR"
    rm -f -- "$RUNTIME_DIR/ready"
    setsid "$self" "${role_words[@]}" foreground >"$RUNTIME_DIR/output" 2>&1 </dev/null &
    pid=$!
    while [ ! -e "$RUNTIME_DIR/ready" ]; do
        if ! kill -0 "$pid" 2>/dev/null; then
            cat -- "$RUNTIME_DIR/output" >&2 2>/dev/null || true
            exit 1
        fi
        sleep 0.02
    done
    cat -- "$RUNTIME_DIR/output"
}

need_running() {
    is_running || {
        say "not running with RUNTIME_DIR $RUNTIME_DIR"
        exit "$NOT_RUNNING"
    }
}

# SIGHUP would end a launcher on a terminal.
reopen_command() {
    need_running
    kill -USR2 "$(cat "$RUNTIME_DIR/launcher.pid")"
}

stop_command() {
    need_running
    kill -TERM "$(cat "$RUNTIME_DIR/launcher.pid")"
    flock -w $((2 * STOP_GRACE_SECONDS + 15)) "$RUNTIME_DIR/lock" true ||
        die "did not stop within $((2 * STOP_GRACE_SECONDS + 15)) s"
}

status_command() {
    if ! is_running; then
        printf 'not running (RUNTIME_DIR %s)\n' "$RUNTIME_DIR"
        exit "$NOT_RUNNING"
    fi
    local state=starting
    [ ! -e "$RUNTIME_DIR/ready" ] || state=running
    printf '%s at http://%s:%s/ (process %s, RUNTIME_DIR %s)\n' "$state" "$COFFER_BIND" \
        "$port" "$(cat "$RUNTIME_DIR/launcher.pid")" "$RUNTIME_DIR"
}

# A whole upload may wait in the spool. What is mounted there says by itself how much it holds.
check_spool() {
    local holds=$SPOOL_MAX_BYTES
    if mountpoint -q -- "$spool"; then
        holds=$(($(stat -f -c '%b * %S' -- "$spool")))
    fi
    [ "$MAX_FILE_SIZE" -le "$holds" ] ||
        die "MAX_FILE_SIZE ($MAX_FILE_SIZE bytes) is more than the upload spool holds ($holds): set SPOOL_MAX_BYTES, or mount a larger file system at $spool"
}

check_command() {
    local configuration=${role:-single}.conf place
    local -a listen=("$host" "$port")
    check_lighttpd
    check_spool
    # Its own port is taken while it runs.
    ! is_running || listen=()
    "$coffer" check "${listen[@]}" || exit 1
    raise_limits
    # What lighttpd wants to see, though nothing is started.
    place=$(mktemp -d)
    # shellcheck disable=SC2064 # the value of now
    trap "rm -rf -- '$place'" EXIT
    export COFFER_SPOOL_DIR=$place COFFER_NODES_FILE=$place/nodes.conf COFFER_ACCESS_LOG=''
    if [ "$role" = gateway ] || [ "$role" = nodes ]; then
        configuration=gateway.conf
        begin_nodes_file
    fi
    (cd -- "$COFFER_BIN" && lighttpd -tt -f "$COFFER_SHARE/$configuration") ||
        die "lighttpd refuses $COFFER_SHARE/$configuration"
    printf 'settings, DATA_DIR, LOG_FILE, port %s of %s, lighttpd and its configuration are in order\n' \
        "$port" "$host"
}
