#!/usr/bin/env bash
# Times bnorm beside the peers that are found (oneDNN, PyTorch, ONNX Runtime) and writes a report with plots:
#   bash bench/run.sh --quick     a few minutes; --help tells the other options
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

say() { printf '\n==== %s\n\n' "$*"; }
trap 'echo "bench/run.sh: stopped at the step named last above" >&2' ERR

say "Installing what is missing"
bash cmake/setup.sh bench
say "Building in build/demo"
cmake --preset demo
cmake --build --preset demo
say "Measuring: leave the machine alone meanwhile"
python3 bench/compare.py --build build/demo "$@"
