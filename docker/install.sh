#!/bin/sh
# Install what the bot needs into a virtual environment: exactly the versions and hashes of the lock, wheels only.
# The image and the checks both use it.
#
#   docker/install.sh FOLDER [LOCK]     LOCK: default requirements/run.txt
#
# PYTHON names the interpreter; default python3.
set -eu

if [ "$#" -lt 1 ]; then
    echo "usage: docker/install.sh FOLDER [LOCK]" >&2
    exit 2
fi
folder=$1
lock=${2:-"$(dirname "$0")/../requirements/run.txt"}

"${PYTHON:-python3}" -m venv --clear "$folder"
# Wheels only: building a package would run code of its author here.
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
    --only-binary :all: --require-hashes -r "$lock"
"$folder/bin/python" -m pip check
