#!/usr/bin/env bash
# Everything that must hold: installs what is missing, builds with warnings as errors, and runs all tests: on every ISA of
# this CPU, with the other compiler, under sanitizers and valgrind, of the installed package, of format and lint.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

say() { printf '\n==== %s\n\n' "$*"; }
trap 'echo "tests/run.sh: failed at the step named last above" >&2' ERR

say "Installing what is missing"
bash cmake/setup.sh test
# The Debian and the Python package consist of what build/ci compiles, with the same flags: they take it from the cache.
export CCACHE_DIR="$PWD/build/ccache" CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
say "Building in build/ci"
cmake --preset ci
cmake --build --preset ci
say "Testing (tree.clang and tree.asan build everything once more and take minutes)"
ctest --preset ci
