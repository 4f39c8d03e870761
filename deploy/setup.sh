#!/bin/sh
# Sets up what the make targets need, from nothing but Python 3.11+ (with venv and pip) and npm.
#
#   deploy/setup.sh python            .venv with the packages locked in requirements/dev.txt
#   deploy/setup.sh python-3.13       the same in .venv-3.13, if a python3.13 runs
#   deploy/setup.sh player            what package-lock.json locks; of it hls.js into player/web/vendor
#   deploy/setup.sh packages          the Debian packages some tests need: installed if root, else named
#   deploy/setup.sh bench             those that the benchmark compares with and loads with
#   deploy/setup.sh rivals            .venv-rivals with libtorrent, and nginx: what the netlab compares with
#
# PYTHON=/path/to/python (PYTHON313 for the second) overrides the search. Only `packages` and `bench` ever use root.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Usable: it runs (a version manager's shim may not), is new enough, and can make a virtual environment.
usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if usable "$candidate"; then echo "$candidate"; return; fi
    done
    say "no usable Python 3.11 or newer among: ${PYTHON:-python3.11 python3.12 python3.13 python3}"
    say "it must have venv and pip (Debian: apt-get install python3 python3-venv); or name one: make setup PYTHON=/path/to/python3"
    return 1
}

# $1: directory, $2: interpreter, $3: the lock. An environment whose interpreter is gone or too old is made anew.
make_venv() {
    if ! usable "$1/bin/python" || ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
        say "making $1 with $("$2" --version)"
        "$2" -m venv --clear "$1"
    fi
    say "installing $3 into $1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$3"
    touch "$1/.stamp"
}

set_up_python() {
    python=$(find_python)
    make_venv .venv "$python" requirements/dev.txt
}

set_up_python_313() {
    python=${PYTHON313:-python3.13}
    if usable "$python"; then make_venv .venv-3.13 "$python" requirements/dev.txt; else say "no usable $python: nothing will be tested on Python 3.13"; fi
}

set_up_rivals() {
    python=$(find_python)
    make_venv .venv-rivals "$python" requirements/rivals.txt
    set_up_packages missing_netlab_packages
}

set_up_player() {
    if ! have npm; then
        say "npm is missing: the page /-/player/ will have no hls.js, and browser tests cannot run (Debian: apt-get install npm)"
        return
    fi
    say "fetching hls.js"
    npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >&2
    mkdir -p player/web/vendor
    cp node_modules/hls.js/dist/hls.min.mjs player/web/vendor/hls.min.mjs
    cp node_modules/hls.js/LICENSE player/web/vendor/hls.LICENSE
}

# One line for each missing package: the package, then what goes untested without it.
missing_packages() {
    have chromium || echo "chromium: the player page in a browser (marked browser)"
    { have prometheus && have promtool; } || echo "prometheus: metrics, rules and dashboards against a real Prometheus (marked prometheus)"
    { have nft || [ -x /usr/sbin/nft ]; } || echo "nftables: lossy and cut networks (marked root)"
}

missing_bench_packages() {
    have nginx || [ -x /usr/sbin/nginx ] || echo "nginx: what the edge is compared with"
    have varnishd || [ -x /usr/sbin/varnishd ] || echo "varnish: what the edge is compared with"
    have wrk || echo "wrk: makes the load"
}

missing_netlab_packages() {
    have nginx || [ -x /usr/sbin/nginx ] || echo "nginx: the foreign origin of the netlab, and web seed"
}

install_packages() {
    say "installing from Debian: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >&2
    apt-get -qq install -y --no-install-recommends "$@" >&2
}

# $1: the function that names what is missing.
set_up_packages() {
    missing=$("$1")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ] && have apt-get; then
        # shellcheck disable=SC2046 # one word per package is meant
        install_packages $(echo "$missing" | cut -d: -f1) || say "apt-get failed"
        missing=$("$1")
    fi
    [ -z "$missing" ] || echo "$missing" | while read -r line; do say "not installed, so not tested: $line"; done
}

case "${1:-}" in
    python) set_up_python ;;
    python-3.13) set_up_python_313 ;;
    player) set_up_player ;;
    packages) set_up_packages missing_packages ;;
    rivals) set_up_rivals ;;
    bench) set_up_packages missing_bench_packages ;;
    *) sed -n '2,11p' "$0"; exit 2 ;;
esac
