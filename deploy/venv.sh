#!/bin/sh
# Makes the development environment: venv.sh PYTHON DIRECTORY. Says exactly what is missing instead of half-making it.
set -eu

python=$1
venv=$2

say() {
    printf '%s\n' "$@" >&2
}

command -v "$python" >/dev/null || {
    say "There is no $python here. Fieldgate needs Python 3.11 or newer (Debian: apt install python3 python3-venv)," \
        "or name another one: make PYTHON=/path/to/python3.12"
    exit 1
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "$("$python" --version) is too old: Fieldgate needs Python 3.11 or newer. Name one: make PYTHON=python3.12"
    exit 1
}

"$python" -c 'import ensurepip, venv' 2>/dev/null || {
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    say "$python cannot make virtual environments: Debian keeps that in a package of its own." \
        "Install it, then run make again:  apt install $package   (or python3-venv, for the system's Python)"
    exit 1
}

if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
    say "$venv is there and is no virtual environment: it is left alone. Name another directory."
    exit 1
fi

say "Making $venv with $("$python" --version). Once; about a minute."
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
