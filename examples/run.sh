#!/usr/bin/env bash
# Builds bnorm and shows what it does: trains a network on real digits with and without batch norm, then times the kernels
# beside the memory of this machine. Takes the options of train_digits, --help among them.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

say() { printf '\n==== %s\n\n' "$*"; }
trap 'echo "examples/run.sh: stopped at the step named last above" >&2' ERR

say "Installing what is missing"
bash cmake/setup.sh build
say "Building in build/demo"
cmake --preset demo
cmake --build --preset demo
say "Training on handwritten digits, without (o) and with (#) batch norm"
build/demo/examples/train_digits "$@"
say "Timing the kernels against this machine's memory: one minute"
build/demo/bench/bnorm_summary
