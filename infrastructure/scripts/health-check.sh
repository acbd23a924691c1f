#!/bin/sh
# One line for each service of the compose files: its name, its state, its health.
set -eu

usage() {
    cat <<'END'
usage: health-check.sh [--dry-run] COMPOSE-FILE...

Prints a line for each service of these files that is no one-time job: "ok", "starting" or "DOWN", its name,
state and health. Exit code 1 when one is not ok. Environment: COMPOSE (docker compose).
END
}

dry_run=''
while :; do
    case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
    --dry-run) dry_run=1 ;;
    *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || {
    usage >&2
    exit 2
}
files=''
for file in "$@"; do
    [ -f "$file" ] || {
        echo "health-check.sh: $file is no file" >&2
        exit 2
    }
    files="$files -f $file"
done
# shellcheck disable=SC2086 # lists of words
set -- ${COMPOSE:-docker compose} $files
if [ -n "$dry_run" ]; then
    echo "$* ps --all"
    exit 0
fi

state=$("$@" ps --all --format '{{.Service}} {{.State}} {{.Health}} {{.ExitCode}}')
services=$("$@" config --services)
code=0
for service in $services; do
    lines=$(printf '%s\n' "$state" | grep "^$service " || true)
    if [ -z "$lines" ]; then
        echo "DOWN      $service: no container"
        code=1
        continue
    fi
    while read -r _ status health _; do
        case $status/$health in
        exited/0) continue ;; # a one-time job that is done: no health, its exit code
        running/healthy | running/0) word='ok' ;;
        running/starting) word='starting' code=1 ;;
        *) word='DOWN' code=1 ;;
        esac
        printf '%-9s %s: %s %s\n' "$word" "$service" "$status" "$(printf '%s' "$health" | tr -d '0-9')"
    done <<LINES
$lines
LINES
done
exit "$code"
