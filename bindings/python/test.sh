#!/usr/bin/env bash
# Installs the package into a virtual environment, as a user would, and runs its tests: test.sh BUILD_FOLDER
# The system's Python, for Debian's python3-torch; from elsewhere: PYTHON=/path/to/python3.
set -euo pipefail
folder=$(readlink -f "$1")/python
here=$(dirname "$(readlink -f "$0")")
"${PYTHON:-/usr/bin/python3}" -m venv --system-site-packages "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check "$here"
cd "$folder"
bin/python -m unittest discover -s "$here/tests"
bin/python "$here/benchmark.py" --quick
