#!/usr/bin/env bash
# Configures, builds and tests one preset of this tree: preset.sh SOURCE_FOLDER PRESET
set -euo pipefail
cd "$1"
cmake --preset "$2"
cmake --build --preset "$2" --parallel "$(nproc)" # not two more: this test runs beside another
ctest --preset "$2" -j "$(nproc)"
