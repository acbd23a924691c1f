#!/usr/bin/env bash
# Sizes of files, marks that must not stay, and white space, over all files under version control.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0

fault() {
    echo "$*" >&2
    failed=1
}

mapfile -t files < <(git ls-files --cached --others --exclude-standard |
    grep -vE '^tests/fuzz/corpus/|package-lock\.json$')
for file in "${files[@]}"; do
    [ -f "$file" ] || continue
    case $file in
    *.c | *.h)
        lines=$(wc -l <"$file")
        [ "$lines" -le 800 ] || fault "$file: $lines lines, more than 800"
        ;;
    esac
done
# Split, so that this file does not hold them itself.
marks='\b(TO''DO|FIX''ME|XX''X)\b'
if grep -nEI "$marks" -- "${files[@]}"; then
    fault "marks were left"
fi
if grep -nEI '[[:blank:]]+$' -- "${files[@]}"; then
    fault "blanks at the end of lines"
fi
exit "$failed"
