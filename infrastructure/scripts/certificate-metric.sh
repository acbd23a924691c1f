#!/bin/sh
# Writes when the certificates that these servers really serve expire, for node_exporter's textfile folder.
# For cron or a timer, once an hour.
set -eu

usage() {
    cat <<'END'
usage: certificate-metric.sh [--dry-run] FOLDER HOST[:PORT]...

Asks each HOST (port 443) for its certificate and writes FOLDER/coffer-certificates.prom:
    coffer_certificate_expiry_timestamp_seconds{name="HOST:PORT"} SECONDS
A host that does not answer has no line. --dry-run prints instead. Exit code 1 when one did not answer.
END
}

dry_run=''
while :; do
    case ${1-} in
    --help | -h)
        usage
        exit 0
        ;;
    --dry-run) dry_run=1 ;;
    *) break ;;
    esac
    shift
done
[ $# -ge 2 ] || {
    usage >&2
    exit 2
}
folder=$1
shift

code=0
lines='# HELP coffer_certificate_expiry_timestamp_seconds End of the certificate that a server serves.
# TYPE coffer_certificate_expiry_timestamp_seconds gauge'
for name in "$@"; do
    case $name in
    *[!A-Za-z0-9.:-]*)
        echo "certificate-metric.sh: $name is no host" >&2
        exit 2
        ;;
    *:*) ;;
    *) name=$name:443 ;;
    esac
    end=$(openssl s_client -connect "$name" -servername "${name%:*}" </dev/null 2>/dev/null |
        openssl x509 -noout -enddate 2>/dev/null) || end=''
    if [ -z "$end" ]; then
        echo "certificate-metric.sh: $name does not answer with a certificate" >&2
        code=1
        continue
    fi
    lines="$lines
coffer_certificate_expiry_timestamp_seconds{name=\"$name\"} $(date -u -d "${end#notAfter=}" +%s)"
done

if [ -n "$dry_run" ]; then
    printf '%s\n' "$lines"
    exit "$code"
fi
new=$(mktemp "$folder/.coffer-certificates.XXXXXX")
printf '%s\n' "$lines" >"$new"
chmod 644 "$new"
mv -f "$new" "$folder/coffer-certificates.prom"
exit "$code"
