#!/usr/bin/env bash
# Runs commands at the same time, writes what each wrote when all have ended, in their order, and
# fails when one failed.
#     side-by-side.sh COMMAND...      each a shell command
set -uo pipefail
logs=$(mktemp -d)
running=()

# Also on Ctrl-C: nothing goes on by itself.
# shellcheck disable=SC2317 # called by the trap
cleanup() {
    [ ${#running[@]} -eq 0 ] || kill -- "${running[@]}" 2>/dev/null
    wait
    rm -rf -- "$logs"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

for command in "$@"; do
    bash -c "exec $command" >"$logs/${#running[@]}" 2>&1 </dev/null &
    running+=("$!")
done
failed=0
at=0
for pid in "${running[@]}"; do
    wait "$pid" || failed=1
    cat -- "$logs/$at"
    at=$((at + 1))
done
running=()
exit "$failed"
