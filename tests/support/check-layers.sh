#!/usr/bin/env bash
# Layers and confinement: what may include what (docs/ARCHITECTURE.md).
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A level=([base]=0 [net]=1 [observe]=2 [http]=2 [storage]=2 [metadata]=2
    [access]=3 [files]=4 [app]=5 [fcgi-apps]=6 [cli]=6)
failed=0

fault() {
    echo "$*" >&2
    failed=1
}

check_includes() {
    local file=$1 own=$2 other
    while IFS= read -r other; do
        [ -n "${level[$other]-}" ] || continue
        if [ "$other" != "$own" ] && [ "${level[$other]}" -ge "${level[$own]}" ]; then
            fault "$file: layer $own includes from $other, which does not stand below it"
        fi
    done < <(sed -nE 's|^ *# *include "([a-z-]+)/.*|\1|p' "$file")
}

# What stands in a folder of a driver or of a program is for that folder alone.
check_folder() {
    local file=$1 other path
    while IFS= read -r other; do
        for path in "shared/$other" "fcgi-apps/$other"; do
            [ -e "$path" ] || continue
            [ "${path%/*}" != "${file%/*}" ] || continue
            case $path in
            shared/*/*/* | fcgi-apps/*/*) fault "$file: $path is for its own folder" ;;
            esac
        done
    done < <(sed -nE 's|^ *# *include "([^"]+)".*|\1|p' "$file")
}

for file in shared/*/*.[ch] shared/*/*/*.[ch] fcgi-apps/*.[ch] fcgi-apps/*/*.[ch] cli/*.[ch]; do
    [ -e "$file" ] || continue
    check_folder "$file"
    own=${file#shared/}
    own=${own%%/*}
    if [ -z "${level[$own]-}" ]; then
        fault "$file: no layer is called $own"
        continue
    fi
    check_includes "$file" "$own"
done

# PATTERN, then the files that may hold it.
confine() {
    local pattern=$1 allowed=$2 found
    found=$(grep -lE "$pattern" -r shared fcgi-apps cli --include='*.[ch]' | grep -vE "$allowed" || true)
    [ -z "$found" ] || fault "$pattern stands outside $allowed: $found"
}
confine '<fcgiapp\.h>' '^shared/app/'
confine '<fcgi_stdio\.h>' '^$'
confine '<sqlite3\.h>' '^shared/metadata/sqlite/'
confine '<curl/curl\.h>' '^shared/net/'
confine '<mongoc/' '^shared/metadata/mongodb/'
confine '<libs3\.h>' '^shared/storage/libs3/'
confine '\bdlopen\(' '^shared/(storage/libs3/storage_libs3_request|metadata/metadata)\.c$'
confine '<backtrace\.h>' '^shared/observe/stack_names\.c$'
confine '<unwind\.h>' '^shared/observe/stack\.c$'
confine '<seccomp\.h>' '^shared/base/sandbox_calls\.c$'
confine '<linux/landlock\.h>' '^shared/base/sandbox_files\.c$'
confine '<magic\.h>' '^shared/files/sniff\.c$'
confine '\b(secure_)?getenv\(' '^shared/base/(config|config_env|crash)\.c$'
exit "$failed"
