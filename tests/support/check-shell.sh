#!/usr/bin/env bash
# Every shell script under version control passes shellcheck.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts=()
while IFS= read -r file; do
    [ -f "$file" ] || continue
    if IFS= read -r line <"$file" && [[ $line =~ ^'#!'.*(/|env\ )(ba|da)?sh ]]; then
        scripts+=("$file")
    fi
done < <(git ls-files --cached --others --exclude-standard) 2>/dev/null
[ "${#scripts[@]}" -gt 0 ] || {
    echo "no shell script was found" >&2
    exit 1
}
shellcheck -x "${scripts[@]}"
