#!/usr/bin/env bash
# Installs the package into a virtual environment, as a user would, and runs its tests: test.sh BUILD_FOLDER
# The system's Python, for Debian's python3-torch; from elsewhere: PYTHON=/path/to/python3.
set -euo pipefail
folder=$(readlink -f "$1")/python
here=$(dirname "$(readlink -f "$0")")
"${PYTHON:-/usr/bin/python3}" -m venv --system-site-packages "$folder"
# The compiler of BUILD_FOLDER rather than the one that built Python: what it compiled may be in a cache.
CC=${CC:-cc} CXX=${CXX:-c++} CMAKE_ARGS=-DBNORM_WARNINGS_AS_ERRORS=ON \
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$here"
cd "$folder"
bin/python -m unittest discover -s "$here/tests"
bin/python "$here/benchmark.py" --quick
