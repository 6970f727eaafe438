#!/bin/sh
# Makes .venv: a Python that Bytewax has wheels for, the dependencies of requirements.lock by their hashes, and the command `vitalane`.
# Says in one sentence what is missing and how to get it. A second run with nothing changed does nothing.
set -eu

cd "$(dirname "$0")/.."
why="Vitalane needs CPython 3.11 or 3.12, because its stream processor Bytewax has no wheel for any other version"

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

fits() {
    "$1" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 13) and sys.implementation.name == "cpython"))' 2>/dev/null
}

version_of() { "$1" -c 'import platform; print(platform.python_implementation(), platform.python_version())' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.11 python3 python; do
        path=$(command -v "$candidate" 2>/dev/null) || continue
        if fits "$path"; then
            printf '%s\n' "$path"
            return 0
        fi
    done
    return 1
}

found_pythons() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python python3.13 python3.14 python3.10; do
        path=$(command -v "$candidate" 2>/dev/null) || continue
        version=$(version_of "$path") || continue
        printf '%s is %s\n' "$path" "$version"
    done | sort -u | paste -s -d ';' - | sed 's/;/; /g'
}

# Debian and Ubuntu keep `ensurepip` in a package of its own.
need_venv_module() {
    "$1" -c 'import venv; from ensurepip import version' 2>/dev/null && return 0
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "Installing $package, which $1 needs to make an environment."
        apt_install "$package" || die "$package could not be installed: see above; install it and run make again."
        "$1" -c 'import venv; from ensurepip import version' 2>/dev/null && return 0
    fi
    command -v uv >/dev/null 2>&1 && return 1
    die "$1 cannot make an environment because its package $package is missing: run 'sudo apt-get install $package' (or install uv), then run make again."
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@" >/dev/null; } >&2
}

install_with_pip() {
    python=.venv/bin/python
    "$python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock &&
        "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-index --no-deps --no-build-isolation -e .
}

install_with_uv() {
    uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock &&
        uv pip install --quiet --python .venv/bin/python --offline --no-deps --no-build-isolation -e .
}

wanted="$(cat pyproject.toml requirements.lock deploy/bootstrap.sh | cksum) $(pwd)"
if [ -x .venv/bin/vitalane ] && [ -x .venv/bin/python ] && [ "$(cat .venv/complete 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

if fits .venv/bin/python && { .venv/bin/python -c 'from pip import main' 2>/dev/null || command -v uv >/dev/null 2>&1; }; then
    rm -f .venv/complete
elif python=$(find_python) && need_venv_module "$python"; then
    say "Making .venv with $(version_of "$python") ($python)."
    rm -rf .venv
    "$python" -m venv .venv || die "$python could not make an environment: see above."
elif command -v uv >/dev/null 2>&1; then
    say "Making .venv with uv, which brings a Python where the machine has none that fits."
    rm -rf .venv
    uv venv --quiet --python '>=3.11,<3.13' .venv || die "$why; uv could not bring one: see above."
else
    found=$(found_pythons)
    die "$why; found: ${found:-no Python at all}. Install python3.12 with its python3.12-venv package (or 3.11), or uv (https://docs.astral.sh/uv/), which brings one; then run make again."
fi
install=install_with_pip
if ! .venv/bin/python -c 'from pip import main' 2>/dev/null && command -v uv >/dev/null 2>&1; then
    install=install_with_uv
fi

say "Installing the dependencies of requirements.lock into .venv; the first time takes a minute or two."
$install || die "The dependencies could not be installed: the lines above say which and why (most often the network or a proxy); run make again to go on."
printf '%s\n' "$wanted" > .venv/complete
