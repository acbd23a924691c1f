#!/bin/sh
# Installs the Debian packages that Coffer needs, those that are missing only.
#     install-deps.sh [run] [servers] [test] [bench] [containers]
# `servers` is what tests/servers/install needs; it brings a Go of its own where there is none.
set -eu

run_packages='gcc libc6-dev make lighttpd libfcgi-dev libsqlite3-dev libcjson-dev libssl-dev
    libmagic-dev libcurl4-openssl-dev libmongoc-dev libs3-dev libseccomp-dev util-linux'
server_packages='python3-venv util-linux ca-certificates'
test_packages='clang clang-format clang-tidy libclang-rt-14-dev shellcheck lcov libcunit1-dev
    curl git openssl prometheus prometheus-alertmanager chromium chromium-driver
    rsyslog maven openjdk-17-jre-headless systemd logrotate'
bench_packages='lighttpd-mod-webdav wrk nodejs npm'
container_packages='docker.io debootstrap iptables iproute2 python3-venv'

wanted=''
for set in "${@:-run}"; do
    case $set in
    run) wanted="$wanted $run_packages" ;;
    servers) wanted="$wanted $server_packages" ;;
    test) wanted="$wanted $server_packages $test_packages" ;;
    bench) wanted="$wanted $bench_packages" ;;
    containers) wanted="$wanted $container_packages" ;;
    *)
        echo "usage: install-deps.sh [run] [servers] [test] [bench] [containers]" >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    # shellcheck disable=SC2086 # a list of words
    echo "not a Debian system: these packages are needed:" $wanted >&2
    exit 0
fi

# shellcheck disable=SC2086
have=$(dpkg-query -W -f '${db:Status-Status}=${Package}\n' $wanted 2>/dev/null || true)
missing=''
for package in $wanted; do
    case "
$have
" in
    *"
installed=$package
"*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=''
elif command -v sudo >/dev/null; then
    as_root='sudo'
else
    echo "these packages are missing, and neither root nor sudo is at hand: apt-get install$missing" >&2
    exit 1
fi

echo "installing:$missing"
# Debian's packages of lighttpd, Prometheus and rsyslog start servers of their own: not wanted here.
# And none is taken away: rsyslog would remove another system log.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
$as_root apt-get -qq update
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends --no-remove \
    -o Dpkg::Use-Pty=0 install $missing >/dev/null
for server in lighttpd prometheus prometheus-alertmanager rsyslog docker.io; do
    case "$missing " in
    *" $server "*)
        if [ -d /run/systemd/system ]; then
            $as_root systemctl disable --quiet "${server%.io}"
        fi
        ;;
    esac
done
