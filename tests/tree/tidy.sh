#!/usr/bin/env bash
# clang-tidy on every source once, however many targets share it: tidy.sh BUILD_FOLDER, which clang has built (gcc's
# commands name flags that clang does not know). Of the kernels, which are the same source for each ISA, with AVX-512.
set -euo pipefail
cd "$1"
mkdir -p tidy
python3 - <<'PYTHON'
import json
once = {command["file"]: command for command in json.load(open("compile_commands.json"))}
for isa in ("sse2", "avx2"):
    del once[next(file for file in once if file.endswith(f"/kernels/{isa}.cpp"))]
json.dump(list(once.values()), open("tidy/compile_commands.json", "w"))
PYTHON
run-clang-tidy -quiet -p tidy
