#!/usr/bin/env bash
# Sourced by coffer-serve: what only a gateway and a set of nodes on one machine need. Why the
# gateway asks its nodes how they are, and how: docs/decisions/0010-gateway-checks.md.
# shellcheck disable=SC2154,SC2030,SC2031 # set by coffer-serve; a child has its own RUNTIME_DIR

readonly CHECK_EVERY=1      # seconds between two rounds of checks
readonly CHECK_SECONDS=2    # until a node that says nothing counts as hung
readonly CHECKS_TO_LEAVE=2  # bad answers in a row until a node is left out
readonly CHECKS_TO_RETURN=2 # good ones until it is taken back
readonly RESOLVE_EVERY=10   # rounds between two looks at the names in GATEWAY_NODES

# -- a gateway's nodes ---------------------------------------------------------------------------

# A gateway needs no store, so it does not ask for their settings and passes no secret on.
forget_stores() {
    local name
    while IFS= read -r name; do
        case $name in
        S3_* | MINIO_* | MONGODB_*) unset "$name" ;;
        esac
    done < <(compgen -e)
    export STORAGE_DRIVER=fs METADATA_DRIVER=sqlite DOWNLOAD_MODE=stream NODE_MODE=single
}

# Sets nodes: GATEWAY_NODES as ADDRESS:PORT; a name gives all its addresses, or those it had last.
resolve_nodes() {
    local each name number address found=''
    for each in ${GATEWAY_NODES//,/ }; do
        name=${each%:*} number=3847
        [ "$name" = "$each" ] || number=${each##*:}
        if [[ $name =~ ^[0-9.]+$ ]]; then
            known[$each]=$name
        else
            address=$(getent ahostsv4 "$name" 2>/dev/null | cut -d ' ' -f 1) || true
            [ -z "$address" ] || known[$each]=$address
        fi
        for address in ${known[$each]-}; do
            found+=$address:$number$'\n'
        done
    done
    mapfile -t nodes < <(printf '%s' "$found" | sort -u)
}

# lighttpd's lists of these nodes. Where there is none, a port that nobody listens on: 503.
write_nodes_file() {
    local list each read_timeout
    {
        for list in nodes nodes_uploads; do
            read_timeout=', "read-timeout" => env.COFFER_NODE_TIMEOUT'
            [ "$list" = nodes ] || read_timeout=''
            printf 'var.%s = (\n' "$list"
            for each in "${@:-127.0.0.1:1}"; do
                printf '    ( "host" => "%s", "port" => %s%s ) + var.node_timeouts,\n' \
                    "${each%:*}" "${each##*:}" "$read_timeout"
            done
            printf ')\n'
        done
    } >"$COFFER_NODES_FILE.new"
    mv -f -- "$COFFER_NODES_FILE.new" "$COFFER_NODES_FILE"
}

# All nodes, until they have been asked.
begin_nodes_file() {
    local -A known=()
    local -a nodes
    resolve_nodes
    write_nodes_file "${nodes[@]}"
}

# Rules for lighttpd: a gateway's nodes are told of a request that a proxy outside TRUSTED_PROXIES
# forwarded (shared/access/origin.h). Without X-Forwarded-For the address that lighttpd knows is the
# peer's own. With it, the nodes see from the addresses in it whether the peer was listed; but for
# 127.0.0.1, which they may list because their gateway has it.
# shellcheck disable=SC2016,SC2059 # lighttpd's variables, templates of its rules
list_forwarded_rules() {
    local each begin='' end='' name
    local -r given='$REQUEST_HEADER["%s"] =~ "." { setenv.set-request-header += (%s"X-Coffer-Unlisted-Proxy" => "1") }\n'
    local -r drop='"X-Forwarded-For" => ""'
    if [ -z "${TRUSTED_PROXIES-}" ]; then
        printf 'setenv.set-request-header += (%s, "Forwarded" => "")\n' "$drop"
        for name in X-Forwarded-For Forwarded Via; do printf "$given" "$name" ''; done
        return
    fi
    for each in ${TRUSTED_PROXIES//,/ }; do
        begin+="\$HTTP[\"remoteip\"] != \"$each\" {"$'\n'
        end+='}'
    done
    {
        printf '%s$HTTP["remoteip"] == "127.0.0.1" {\n' "$begin"
        printf "$given" X-Forwarded-For "$drop, "
        printf '}\n$REQUEST_HEADER["X-Forwarded-For"] == "" {\n'
        printf "$given" Forwarded '' Via ''
        printf '}\n%s\n' "$end"
    }
}

# -- the attendant: asks the nodes, keeps the health program running -----------------------------

start_attendant() {
    (
        exec 9>&- 8>>"$RUNTIME_DIR/running" </dev/null >>"$COFFER_GATEWAY_LOG" 2>&1
        flock -s 8
        cd -- "$COFFER_BIN" || exit 1
        trap - EXIT INT
        attend
    ) &
    attendant=$!
}

end_attendant() {
    [ -z "$stop" ] || flock -w $((STOP_GRACE_SECONDS + 5)) "$RUNTIME_DIR/serving" true || true
    [ -z "$drain" ] || kill "$drain" 2>/dev/null || true
    drain=''
    [ -z "$attendant" ] || kill -TERM "$attendant" 2>/dev/null || true
    attendant=''
}

# Old lighttpds of a gateway serve as long as their clients take; a stop ends that.
limit_drain() {
    [ -z "$drain" ] && [ -n "$lighttpd" ] || return 0
    (
        exec 9>&-
        trap - EXIT INT HUP
        trap 'kill "$!" 2>/dev/null; exit' TERM
        sleep "$STOP_GRACE_SECONDS" &
        wait "$!"
        kill -TERM -- "-$lighttpd" 2>/dev/null
    ) &
    drain=$!
}

# For the life of the launcher, whose pid is $$.
attend() {
    local -A known=() bad=() good=() out=()
    local -a nodes=()
    local -a inside
    local keeper='' round=0 before
    resolve_nodes
    before=${nodes[*]}
    trap 'kill -TERM -- "-$keeper" 2>/dev/null; exit' TERM
    trap 'kill -HUP -- "-$keeper" 2>/dev/null' HUP
    while [ -e "/proc/$$/exe" ]; do
        if [ -z "$keeper" ] || ! kill -0 "$keeper" 2>/dev/null; then
            keep_errors
        fi
        [ $((round++ % RESOLVE_EVERY)) -ne 0 ] || resolve_nodes
        check_nodes
        choose_nodes
        if [ "${inside[*]}" != "$before" ]; then
            change_nodes "${inside[@]}" && before=${inside[*]}
        fi
        sleep "$CHECK_EVERY" &
        wait "$!"
    done
    # The launcher was killed, and lighttpd told to end; it has no limit of its own.
    flock -w "$STOP_GRACE_SECONDS" "$RUNTIME_DIR/serving" true || true
    kill -TERM -- "-$lighttpd" "-$keeper" 2>/dev/null
}

# A lighttpd that runs the gateway's two programs (errors.conf); what one that died left is ended.
keep_errors() {
    [ -z "$keeper" ] || kill -TERM -- "-$keeper" 2>/dev/null
    rm -f -- "$RUNTIME_DIR"/sockets/{health-0,metrics-0,errors}
    local -a capabilities
    capabilities_kept
    setsid setpriv --no-new-privs --pdeathsig TERM "${capabilities[@]}" "$(command -v lighttpd)" -D -f "$COFFER_SHARE/errors.conf" &
    keeper=$!
}

# Asks all nodes at once and counts what they say.
check_nodes() {
    local -A asked=()
    local each code
    for each in "${nodes[@]}"; do
        check_node "${each%:*}" "${each##*:}" &
        asked[$each]=$!
    done
    for each in "${nodes[@]}"; do
        code=0
        wait "${asked[$each]}" || code=$?
        case $code in
        0) bad[$each]=0 good[$each]=$((${good[$each]-0} + 1)) ;;
        3) bad[$each]=0 good[$each]=0 ;; # lighttpd leaves it out by itself, and takes it back sooner
        *) bad[$each]=$((${bad[$each]-0} + 1)) good[$each]=0 ;;
        esac
    done
}

# 0: ready, 1: not ready, 3: it refused or ended the connection, 124: it said nothing in time.
check_node() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    exec timeout "$CHECK_SECONDS" bash -c '
        exec 3<>"/dev/tcp/$1/$2" || exit 3
        printf "GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n" >&3 || exit 3
        IFS= read -r line <&3 || exit 3
        [[ $line == HTTP/1.?" 200 "* ]]' sh "$1" "$2" 2>/dev/null
}

# Sets inside: the nodes that get requests. When none is well, all: their own answers tell more.
choose_nodes() {
    local each
    inside=()
    for each in "${nodes[@]}"; do
        if [ "${bad[$each]-0}" -ge "$CHECKS_TO_LEAVE" ]; then
            out[$each]=yes
        elif [ "${good[$each]-0}" -ge "$CHECKS_TO_RETURN" ]; then
            unset "out[$each]"
        fi
        [ -n "${out[$each]-}" ] || inside+=("$each")
    done
    [ "${#inside[@]}" -gt 0 ] || inside=("${nodes[@]}")
}

# A new lighttpd with a new list on the same port; the old one ends with its last request. False
# while one is just starting: SIGUSR1 would end it.
change_nodes() {
    local name caught
    write_nodes_file "$@"
    while read -r name caught; do
        if [ "$name" = SigCgt: ] && [ $((16#$caught >> 9 & 1)) -eq 1 ]; then
            printf '%(%Y-%m-%d %H:%M:%S)T: (coffer-serve) nodes: %s\n' -1 "$*"
            kill -USR1 "$lighttpd" 2>/dev/null
            return
        fi
    done 2>/dev/null <"/proc/$lighttpd/status"
    return 1
}

# After a SIGINT that ended a lighttpd just started anew, before it caught any: it has not told the one
# before it to end, which waits for that. A second SIGINT would make it drop its requests.
end_predecessor() {
    local stat pid name group
    for stat in /proc/[0-9]*/stat; do
        read -r pid name _ _ group _ 2>/dev/null <"$stat" || continue
        if [ "$group" = "$lighttpd" ] && [ "$name" = '(lighttpd)' ]; then
            kill -INT "$pid" 2>/dev/null || true
        fi
    done
}

# -- several nodes on this machine ---------------------------------------------------------------

# With no store named, `make run NODES=3` shall work all the same: servers for a try.
bring_stores() {
    local with=$source_tree/infrastructure/scripts/with-stores
    local named=${S3_ENDPOINT-}${MINIO_ENDPOINT-}${MONGODB_URI-}${MONGODB_URI_FILE-}
    if [ "$1" = foreground ] && [ "${NODE_MODE:-cluster}" = cluster ] && [ -z "$named" ] && [ -x "$with" ]; then
        exec "$with" "$self" "${role_words[@]}" foreground
    fi
}

# start_child NAME SETTING=VALUE...: a launcher of its own; the name is its role, or role-port.
start_child() {
    local name=$1 setting
    shift
    (
        exec 9>&- </dev/null
        export RUNTIME_DIR="$RUNTIME_DIR/$name"
        for setting in "$@"; do
            export "${setting?}"
        done
        case $LOG_FILE in
        unix:*) ;;
        *.ndjson) LOG_FILE=${LOG_FILE%.ndjson}-$name.ndjson ;;
        *) LOG_FILE=$LOG_FILE-$name ;;
        esac
        exec setsid env --default-signal=INT setpriv --pdeathsig TERM "$self" "${name%-*}" foreground
    ) &
    child_of[$name]=$!
}

start_named() {
    case $1 in
    gateway) start_child gateway "GATEWAY_NODES=$(join_nodes)" ;;
    *) start_child "$1" "NODE_PORT=${1#node-}" NODE_HOST=127.0.0.1 \
        "TRUSTED_PROXIES=${TRUSTED_PROXIES:+$TRUSTED_PROXIES,}127.0.0.1" ;;
    esac
    started_at[$1]=$SECONDS
}

join_nodes() {
    local name list=''
    for name in "${names[@]}"; do
        [ "$name" = gateway ] || list+=${list:+,}127.0.0.1:${name#node-}
    done
    printf '%s' "$list"
}

# Ports from NODE_PORT on that nobody listens on.
name_nodes() {
    local next=$NODE_PORT
    names=()
    while [ "${#names[@]}" -lt "$node_count" ]; do
        [ "$next" -le 65535 ] || die "there are no $node_count free ports from $NODE_PORT on"
        if [ "$next" -ne "$GATEWAY_PORT" ] && ! (exec 3<>"/dev/tcp/127.0.0.1/$next") 2>/dev/null; then
            names+=("node-$next")
        fi
        next=$((next + 1))
    done
    names+=(gateway)
}

# Ends children by name and waits for them.
end_children() {
    local name
    for name in "$@"; do
        kill -TERM "${child_of[$name]}" 2>/dev/null || true
    done
    for name in "$@"; do
        while kill -0 "${child_of[$name]}" 2>/dev/null; do
            wait "${child_of[$name]}" 2>/dev/null || true
        done
    done
}

# Starts again what ended, and not in haste what ends at once again and again; false when that is so
# before all were up.
revive_children() {
    local name age
    for name in "${names[@]}"; do
        if kill -0 "${child_of[$name]}" 2>/dev/null; then
            continue
        fi
        [ -z "$stop" ] || return 0
        age=$((SECONDS - started_at[$name]))
        [ "$age" -lt "$RESTART_AFTER" ] || failed[$name]=0
        failed[$name]=$((${failed[$name]-0} + 1))
        if [ "${failed[$name]}" -ge "$RESTART_FAILURES" ]; then
            failed[$name]=$((RESTART_FAILURES - 1))
            [ ! -e "$RUNTIME_DIR/ready" ] || continue
            say "$name does not start"
            return 1
        fi
        say "$name ended and is started again"
        start_named "$name"
    done
}

all_ready() {
    local name
    for name in "${names[@]}"; do
        [ -e "$RUNTIME_DIR/$name/ready" ] || return 1
    done
}

# shellcheck disable=SC2317 # called by trap
pass_hangup() {
    [ -z "$terminal" ] || stop=yes
    [ -n "$terminal" ] || kill -HUP "${child_of[@]}" 2>/dev/null || true
}

# shellcheck disable=SC2317 # called by trap
pass_reopen() { kill -USR2 "${child_of[@]}" 2>/dev/null || true; }

# A gateway and its nodes, each with a launcher of its own, which is a child. The gateway ends first,
# so that nobody meets a node that has left.
serve_nodes() {
    local -A child_of=() started_at=() failed=()
    local -a names
    local name code=0
    stop='' terminal=''
    [ ! -t 0 ] || terminal=yes
    check_lighttpd
    make_runtime_dir
    lock_runtime_dir
    trap clean_up EXIT
    clean_up
    trap : USR1 USR2
    printf '%s\n' "$$" >"$RUNTIME_DIR/launcher.pid"
    trap 'stop=yes' INT TERM
    trap pass_reopen USR2
    trap pass_hangup HUP
    prepare_stores
    name_nodes
    for name in "${names[@]}"; do
        start_named "$name"
    done
    while [ -z "$stop" ]; do
        revive_children || {
            code=1
            break
        }
        # The parts look after their own.
        if [ -z "$stop" ] && ! { [ -e "$RUNTIME_DIR/launcher.pid" ] && [ -e "$RUNTIME_DIR/lock" ]; }; then
            say "RUNTIME_DIR $RUNTIME_DIR vanished and is made anew"
            take_runtime_dir
        fi
        if [ ! -e "$RUNTIME_DIR/ready" ] && all_ready; then
            : >"$RUNTIME_DIR/ready"
        fi
        sleep 0.2 &
        { wait "$!" || true; } 2>/dev/null # bash tells there that a child was killed
    done
    end_children gateway
    end_children "${names[@]}"
    return "$code"
}
