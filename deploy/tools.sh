#!/bin/sh
# Gets the real servers that the tests and the demo run against: Mosquitto from the distribution's packages, InfluxDB 1.8 built from its Go
# module. What the machine does not have goes into a cache outside the repository. Does nothing where everything is there.
set -eu

HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
export HOME
cache=${VITALANE_TOOLS:-$HOME/.cache/vitalane/tools}
bin=$cache/bin
influxdb=github.com/influxdata/influxdb/cmd/influxd@v1.8.10
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/go/bin:$HOME/go/bin:$bin
export PATH DEBIAN_FRONTEND=noninteractive

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

apt_install() {
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@" >/dev/null; } >&2
}

# Unpacks packages into the cache, without root: no file of the system is touched.
apt_unpack() {
    (cd "$work" && apt-get download -qq "$@" >&2) || return 1
    for package in "$work"/*.deb; do
        dpkg -x "$package" "$cache/root" || return 1
        rm -f "$package"
    done
}

# A command in the cache that finds its libraries there.
wrap() {
    libraries=$(find "$cache/root" -name '*.so.*' -exec dirname {} \; | sort -u | paste -s -d : -)
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "%s" "$@"\n' "$libraries" "$2" > "$bin/$1"
    chmod +x "$bin/$1"
}

# The libraries of a program that the machine lacks, as package names of Debian and Ubuntu.
missing_libraries() {
    LD_LIBRARY_PATH=$(find "$cache/root" -name '*.so.*' -exec dirname {} \; | sort -u | paste -s -d : -) ldd "$1" | awk '/not found/ { print $1 }'
}

get_mosquitto() {
    if have mosquitto && have mosquitto_passwd; then
        return 0
    fi
    if ! have apt-get; then
        say "Mosquitto is missing and this system has no apt-get: install Mosquitto 2 (mosquitto and mosquitto_passwd) with its package manager."
        return 1
    fi
    if is_root; then
        say "Installing mosquitto."
        apt_install mosquitto || { say "mosquitto could not be installed: see above."; return 1; }
        return 0
    fi
    say "Unpacking mosquitto into $cache, because only root may install packages."
    mkdir -p "$cache/root"
    # shellcheck disable=SC2046
    apt_unpack mosquitto $(apt-cache depends mosquitto | awk '$1 == "Depends:" && $2 ~ /^lib/ && $2 !~ /^libc6$/ { print $2 }') || {
        say "mosquitto could not be fetched: run 'sudo apt-get install mosquitto'."
        return 1
    }
    wrap mosquitto "$cache/root/usr/sbin/mosquitto"
    wrap mosquitto_passwd "$cache/root/usr/bin/mosquitto_passwd"
    left=$(missing_libraries "$cache/root/usr/sbin/mosquitto")
    if [ -n "$left" ]; then
        rm -f "$bin/mosquitto" "$bin/mosquitto_passwd"
        say "mosquitto still lacks $(printf '%s' "$left" | paste -s -d ' ' -): run 'sudo apt-get install mosquitto'."
        return 1
    fi
}

get_influxd() {
    if have influxd; then
        return 0
    fi
    if ! have go; then
        if ! is_root || ! have apt-get; then
            say "influxd is missing and building it needs Go: run 'sudo apt-get install golang-go' (or install Go), then make tools again."
            return 1
        fi
        say "Installing golang-go, which builds influxd."
        apt_install golang-go || { say "golang-go could not be installed: see above."; return 1; }
    fi
    say "Building influxd 1.8.10 with $(go version | cut -d ' ' -f 3); this takes a minute or two."
    if ! (cd "$work" && CGO_ENABLED=0 GOBIN="$bin" go install "$influxdb" >"$work/go.log" 2>&1); then
        tail -n 20 "$work/go.log" >&2
        say "influxd could not be built: see above."
        return 1
    fi
}

mkdir -p "$bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
get_mosquitto || failed=1
get_influxd || failed=1
[ "$failed" = 0 ] || exit 1
say "Servers: $(command -v mosquitto), $(command -v influxd)"
