#!/usr/bin/env bash
# .env.example and the settings table of docs/OPERATIONS.md are what the admin command prints.
#     settings.sh check|write COFFER
set -euo pipefail
mode=$1
coffer=$(readlink -f -- "$2")
cd "$(dirname "$0")/../.."
page=docs/OPERATIONS.md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$coffer" config --env-example >"$work/env"
"$coffer" config --markdown >"$work/table"
# The page with its first table that begins with "| Setting |" replaced.
awk -v table="$work/table" '
    /^\| Setting \|/ && !done { while ((getline line <table) > 0) print line; done = skip = 1 }
    skip && !/^\|/ { skip = 0 }
    !skip { print }
    END { exit !done }
' "$page" >"$work/page" || {
    echo "$page has no settings table" >&2
    exit 1
}

if [ "$mode" = write ]; then
    cp "$work/env" .env.example
    cp "$work/page" "$page"
    exit 0
fi
if ! diff -u .env.example "$work/env" || ! diff -u "$page" "$work/page"; then
    echo "\`make settings\` writes both files anew" >&2
    exit 1
fi
