#!/usr/bin/env bash
# clang-tidy on every source once, however many targets share it: tidy.sh BUILD_FOLDER, which clang has built (gcc's
# commands name flags that clang does not know).
set -euo pipefail
cd "$1"
mkdir -p tidy
python3 - <<'PYTHON'
import json
once = {command["file"]: command for command in json.load(open("compile_commands.json"))}
json.dump(list(once.values()), open("tidy/compile_commands.json", "w"))
PYTHON
run-clang-tidy -quiet -p tidy
