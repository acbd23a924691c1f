#!/usr/bin/env bash
# Runs the stages of `make test` one after the other: one line for each with its time, what a stage
# wrote only when it failed (and in build/test/STAGE.log). The last line counts the tests: CUnit's
# and pytest's, and a stage that counts none as one.
#     MAKE=make run-stages.sh STAGE...
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
logs=build/test
mkdir -p "$logs"
passed=0 failed=0

# Passed and failed tests in a log: CUnit's "tests" rows, pytest's closing line.
count_tests() {
    awk '
        $1 == "tests" && NF == 6 { passed += $4; failed += $5 }
        /^=+ .*(passed|failed|error).* in [0-9.]+s/ {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^(failed|error)/) failed += $(i - 1)
            }
        }
        END { print passed + 0, failed + 0 }' "$1"
}

for stage in "$@"; do
    started=$SECONDS
    result=ok
    "${MAKE:-make}" --no-print-directory "$stage" >"$logs/$stage.log" 2>&1 </dev/null || result=FAILED
    read -r good bad < <(count_tests "$logs/$stage.log")
    if [ "$result" = ok ]; then
        [ $((good + bad)) -gt 0 ] || good=1
    else
        [ "$bad" -gt 0 ] || bad=1
        tail -n 200 "$logs/$stage.log"
    fi
    printf '%-12s %-7s %4d s, %d passed, %d failed\n' "$stage" "$result" $((SECONDS - started)) "$good" "$bad"
    passed=$((passed + good))
    failed=$((failed + bad))
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
