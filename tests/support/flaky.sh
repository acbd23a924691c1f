#!/usr/bin/env bash
# Runs end-to-end tests 50 times each, one after the other, while both cores are busy:
#     flaky.sh                        those that the last run called FLAKY (build/test/flaky)
#     flaky.sh BACKEND NODE-ID        this one, e.g. fs+sqlite tests/e2e/test_log.py::test_rotation
# TIMES=50 says how often. Prints each failure's log and the count; fails when one failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
times=${TIMES:-50}
named=build/test/flaky
if [ $# -eq 2 ]; then
    tests="$1 $2"
elif [ $# -eq 0 ] && [ -s "$named" ]; then
    tests=$(<"$named")
else
    echo "flaky.sh: no test is named, and the last run of the stages called none FLAKY" >&2
    exit 2
fi

busy=()
# shellcheck disable=SC2317 # called by the trap
cleanup() { kill "${busy[@]}" 2>/dev/null || true; }
trap cleanup EXIT
for ((core = 0; core < $(nproc); core++)); do
    while :; do :; done &
    busy+=("$!")
done

log=$(mktemp)
failed=0
while read -r backend test; do
    bad=0
    for ((number = 1; number <= times; number++)); do
        COFFER_TEST_BACKEND=$backend .cache/venv/bin/python -B -m pytest -c tests/e2e/pytest.ini \
            -p no:cacheprovider -q "$test" >"$log" 2>&1 </dev/null && continue
        bad=$((bad + 1))
        tail -n 60 "$log"
    done
    printf '%s %s: %d of %d failed\n' "$backend" "$test" "$bad" "$times"
    failed=$((failed + bad))
done <<<"$tests"
rm -f -- "$log"
[ "$failed" -eq 0 ]
