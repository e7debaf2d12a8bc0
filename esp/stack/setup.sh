#!/bin/sh
# Finds a Python that can do the job and lets it set up the checkout: setup.sh embedded|dev|node
# `setup.sh --probe` only says whether there is one that could.
# PYTHON=/path/to/python chooses one.
set -eu
cd "$(dirname "$0")/../.."

usable() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

found=
for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
    usable "$candidate" || continue
    found=$candidate
    # Prefer one that brings venv; Debian packs it apart.
    if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then break; fi
done
if [ -z "$found" ]; then
    echo "Python 3.11 or newer is needed and none was found: install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name one with PYTHON=/path/to/python." >&2
    exit 1
fi
if [ "${1:-}" = --probe ]; then
    exec "$found" -c 'import venv, ensurepip'
fi
exec "$found" -I esp/stack/bootstrap.py "$@"
