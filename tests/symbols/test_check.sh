#!/usr/bin/env bash
# check.sh must refuse what it is there to refuse. $1: the C++ compiler.
set -euo pipefail
compiler=$1
check=$(dirname "$(readlink -f "$0")")/check.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

compile() { # name, flags...; the source comes on standard input
    "$compiler" -x c++ -std=c++20 -c -o "$folder/$1.o" "${@:2}" -
}

refuses() { # message, arguments of check.sh
    local message=$1 output
    shift
    if output=$("$check" "$@" 2>&1); then
        echo "failed: check.sh accepts: $*" >&2
        failures=$((failures + 1))
    elif ! grep -q "$message" <<<"$output"; then
        echo "failed: check.sh $*: \"$output\" does not say \"$message\"" >&2
        failures=$((failures + 1))
    fi
}

accepts() {
    if ! "$check" "$@"; then
        echo "failed: check.sh refuses: $*" >&2
        failures=$((failures + 1))
    fi
}

table='namespace bnorm::kernels { extern int (*const kAvx2Kernels)(float*);
static int kernel(float* x) { for (int i = 0; i < 64; ++i) x[i] *= 2; return 0; }
int (*const kAvx2Kernels)(float*) = kernel; }'
compile good -O3 -mavx2 <<<"$table"
compile too_new -O3 -mavx512f -mprefer-vector-width=512 <<<"$table"
compile weak -O0 -mavx2 <<<"inline int twice(int x) { return 2 * x; }
namespace bnorm::kernels { extern int (*const kAvx2Kernels)(int); int (*const kAvx2Kernels)(int) = twice; }"
compile foreign -O2 -mavx2 <<<"extern int elsewhere(int);
namespace bnorm::kernels { extern int (*const kAvx2Kernels)(int); int (*const kAvx2Kernels)(int) = elsewhere; }"
compile two_names -O2 <<<"$table
int second_name(int x) { return x; }"
accepts kernels avx2 "$folder/good.o"
accepts kernels avx512 "$folder/too_new.o"
refuses 'instructions beyond avx2' kernels avx2 "$folder/too_new.o"
refuses 'instructions beyond sse2' kernels sse2 "$folder/good.o"
refuses 'instructions beyond sse2' baseline "$folder/two_names.o" "$folder/good.o"
refuses 'weak symbols' kernels avx2 "$folder/weak.o"
refuses 'calls into other objects' kernels avx2 "$folder/foreign.o"
refuses 'public symbols other than one table' kernels avx2 "$folder/two_names.o"
refuses 'No such file' kernels avx2 "$folder/missing.o"

library() { # name, source
    "$compiler" -x c++ -shared -fPIC -o "$folder/$1.so" - <<<"$2"
}
echo 'int main(void) { return bnorm_one(); }' >"$folder/calls_one.c"
library one 'extern "C" int bnorm_one() { return 0; }'
library two 'extern "C" int bnorm_one() { return 0; } extern "C" int bnorm_two() { return 0; }'
library leaking 'extern "C" int bnorm_one() { return 0; } int leaked() { return 0; }'
accepts exports "$folder/one.so" "$folder/calls_one.c"
refuses 'does not call bnorm_two' exports "$folder/two.so" "$folder/calls_one.c"
refuses 'other names than bnorm_' exports "$folder/leaking.so" "$folder/calls_one.c"

[ "$failures" -eq 0 ] && echo "check.sh accepts and refuses what it should"
