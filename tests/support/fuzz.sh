#!/usr/bin/env bash
# Runs libFuzzer programs for FUZZ_SECONDS each. The corpora are copied, so that nothing is written
# into the tree; a finding is kept in build/fuzz/NAME.
#     fuzz.sh BUILD FUZZER...
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
shift
for name in "$@"; do
    unit=${name#fuzz_}
    work=build/fuzz/$name
    mkdir -p "$work/corpus"
    options=(-max_total_time="$FUZZ_SECONDS" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
        -artifact_prefix="$work/")
    [ ! -e "tests/fuzz/$unit.dict" ] || options+=(-dict="tests/fuzz/$unit.dict")
    if ! "$build/tests/fuzz/run/$name" "${options[@]}" "$work/corpus" "tests/fuzz/corpus/$unit" \
        >"$work/log" 2>&1; then
        tail -n 60 "$work/log"
        echo "$name: a finding, kept in $work" >&2
        exit 1
    fi
    printf '%s: %s, no finding\n' "$name" \
        "$(sed -nE 's/^stat::number_of_executed_units: +/inputs tried: /p' "$work/log")"
done
