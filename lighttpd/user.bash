#!/usr/bin/env bash
# Sourced by coffer-serve: started as root, it does what only root can, then becomes the service's
# user for good (docs/decisions/0030).
# shellcheck disable=SC2154 # set by coffer-serve

# setpriv's options for the service's user; sets the array `become`. No capability stays but the one
# that a port below 1024 needs, which the programs give up at their start.
choose_become() {
    local uid=${COFFER_RUN_AS%%:*} gid=${COFFER_RUN_AS#*:} name=${COFFER_RUN_AS##*:}
    gid=${gid%%:*}
    become=(setpriv --reuid "$uid" --regid "$gid")
    if [ "$name" = "$uid" ]; then
        become+=(--clear-groups)
    else
        become+=(--init-groups)
    fi
    become+=(--no-new-privs)
    capabilities_kept
    become+=("${capabilities[@]}")
}

is_privileged_port() {
    local first=1024
    read -r first 2>/dev/null </proc/sys/net/ipv4/ip_unprivileged_port_start || true
    [ "$port" -lt "$first" ]
}

# Sets the array `capabilities`: setpriv's options that take all away but what the port needs, and,
# where COFFER_USER=root serves a folder of another user, what root is root for.
capabilities_kept() {
    local kept=-all ambient=-all is_root=''
    [ "$(id -u)" -ne 0 ] || is_root=yes
    if [ -n "$is_root${COFFER_GAVE_UP_ROOT-}" ] && is_privileged_port; then
        kept=-all,+net_bind_service
        [ -n "$is_root" ] && [ -z "$COFFER_RUN_AS" ] || ambient=$kept
    fi
    if [ -n "$is_root" ] && [ -z "$COFFER_RUN_AS" ] && [ -e "$DATA_DIR" ] && [ "$(stat -c %u -- "$DATA_DIR")" -ne 0 ]; then
        kept=$kept,+dac_override,+fowner
    fi
    capabilities=(--inh-caps="$kept" --ambient-caps="$ambient")
    [ -z "$is_root" ] || capabilities+=(--bounding-set="$kept")
}

is_runtime_dir_roots() {
    [ -d "$RUNTIME_DIR" ] && [ ! -L "$RUNTIME_DIR" ] && [ "$(stat -c %u -- "$RUNTIME_DIR")" = 0 ]
}

# A folder of root's is left from a start as root; the user makes its own where it may.
give_runtime_dir() {
    if is_runtime_dir_roots; then
        ! is_running || die "already running as root with RUNTIME_DIR $RUNTIME_DIR: stop that first"
        rm -rf -- "$RUNTIME_DIR"
    fi
    [ ! -e "$RUNTIME_DIR" ] || return 0
    if ! "${become[@]}" -- mkdir -p -- "$RUNTIME_DIR" 2>/dev/null; then
        if ! { (umask 022 && mkdir -p -- "${RUNTIME_DIR%/*}") && mkdir -m 700 -- "$RUNTIME_DIR" &&
            chown -- "${COFFER_RUN_AS%:*}" "$RUNTIME_DIR"; }; then
            die "RUNTIME_DIR $RUNTIME_DIR can't be made"
        fi
    fi
}

# What root alone may make: DATA_DIR and, beside it, the memory of it.
give_data_dir() {
    if [ "$role" = gateway ] || { [ "$STORAGE_DRIVER" != fs ] && [ "$METADATA_DRIVER" != sqlite ]; }; then
        if [ ! -e "$DATA_DIR" ] && mkdir -m 750 -- "$DATA_DIR" 2>/dev/null; then
            chown -- "${COFFER_RUN_AS%:*}" "$DATA_DIR"
        fi
    else
        prepare_data
    fi
}

# Becomes the service's user by another start of this script. `foreground` and `start` need what root
# can make; what looks for a service only needs to be the user.
give_up_root() {
    [ "$(id -u)" -eq 0 ] && [ -n "$COFFER_RUN_AS" ] || return 0
    local -a become capabilities enclose=() line
    case $command in
    stop | reopen | status) ! is_runtime_dir_roots || return 0 ;; # a service that was started as root
    esac
    choose_become
    line=("${become[@]}" -- "$self" "${role_words[@]}" "$command")
    case $command in
    foreground | start | restart)
        give_data_dir
        give_runtime_dir
        if [ "$role" != nodes ]; then
            "${become[@]}" -- mkdir -p -- "$spool" || die "RUNTIME_DIR $RUNTIME_DIR belongs to another user"
            choose_namespace
        fi
        ;;
    esac
    if [ "${#enclose[@]}" -gt 0 ]; then
        # shellcheck disable=SC2016 # expanded by the inner shell
        line=("${enclose[@]}" sh -c 'mount -t tmpfs -o "$1" coffer-spool "$2"; shift 2; exec "$@"'
            sh "$(spool_options),uid=${COFFER_RUN_AS%%:*}" "$spool" "${line[@]}")
    fi
    # What is here may be out of the user's reach.
    cd /
    export COFFER_GAVE_UP_ROOT=1
    exec "${line[@]}"
}

# As whom it runs, for those that started it as root.
tell_user() {
    if [ "$(id -u)" -eq 0 ]; then
        say "runs as root: $COFFER_RUN_AS_WHY"
    elif [ -n "${COFFER_GAVE_UP_ROOT-}" ]; then
        say "runs as user $(id -un 2>/dev/null || id -u) (uid $(id -u)), not as root"
    fi
}
