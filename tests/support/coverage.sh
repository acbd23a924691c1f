#!/usr/bin/env bash
# Runs unit tests, contract tests and fuzz corpora of a coverage build; prints the line coverage of
# shared/ and fails below the minimum.
#     coverage.sh BUILD MINIMUM FUZZER...
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1 minimum=$2
shift 2
find "$build" -name '*.gcda' -delete
"$build/tests/unit/run" >"$build/unit.log" || { tail -n 40 "$build/unit.log"; exit 1; }
"$build/tests/contract/run" >"$build/contract.log" || { tail -n 40 "$build/contract.log"; exit 1; }
for name in "$@"; do
    "$build/tests/fuzz/run/$name" "tests/fuzz/corpus/${name#fuzz_}" >/dev/null
done
lcov --quiet --capture --directory "$build/shared" --output-file "$build/coverage.info"
lcov --quiet --extract "$build/coverage.info" "$PWD/shared/*" --output-file "$build/shared.info"
lcov --list "$build/shared.info" | sed -n '/\.c/p'
awk -F '[:,]' -v minimum="$minimum" '
    /^LF:/ { lines += $2 }
    /^LH:/ { hit += $2 }
    END {
        percent = lines ? 100 * hit / lines : 0
        printf "line coverage of shared/: %.1f %% (%d of %d lines)\n", percent, hit, lines
        if (percent < minimum) { printf "below %d %%\n", minimum; exit 1 }
    }' "$build/shared.info"
