#!/usr/bin/env bash
# What the linker could break without a word: instructions of a newer ISA where an older CPU would meet them.
#
#   check.sh kernels ISA OBJECT     a kernel object: one public symbol, nothing weak, nothing of a library, no newer ISA
#   check.sh baseline OBJECT...     any other object: no instruction beyond SSE2
#   check.sh exports LIBRARY C_FILE the shared library exports bnorm_* only, and the C file calls all of them
#
# Why: an inline function or template that the compiler leaves out of line is a weak symbol, and the linker keeps one copy
# of it for the whole program, maybe the one compiled for AVX-512.
set -euo pipefail
export LC_ALL=C

fail() {
    echo "$1" >&2
    [ $# -lt 2 ] || printf '%s\n' "$2" >&2
    exit 1
}

# Instructions beyond an ISA, as objdump prints them: the mnemonic, or a register that only newer instructions can name.
beyond() {
    case "$1" in
    sse2) echo '[[:space:]]v[a-z0-9]+ .*%[xyz]mm|%[yz]mm|%k[0-7]|[[:space:]](blendv|round[ps][sd]|ptest|pshufb|haddp|dpp|popcnt|pmulld|pminu[dw]|pmaxu[dw]|pmaxs[db]|pmins[db]|insertps|extractps|pinsr[bdq]|pextr[bdq])' ;;
    avx2) echo '%zmm|%k[0-7]|%[xy]mm(1[6-9]|2[0-9]|3[01])' ;;
    avx512) echo 'no instruction is beyond this' ;;
    *) fail "unknown ISA $1" ;;
    esac
}

check_instructions() {
    local isa=$1 object=$2 code found
    code=$(objdump -d --no-show-raw-insn "$object")
    grep -qE '[[:space:]](ret|jmp)' <<<"$code" || fail "$object: no code found"
    found=$(grep -E -m 5 "$(beyond "$isa")" <<<"$code" || true)
    [ -z "$found" ] || fail "$object: instructions beyond $isa" "$found"
}

check_kernels() {
    local isa=$1 object=$2 symbols weak public undefined
    symbols=$(nm -C "$object")
    weak=$(grep -E ' [VvWwu] ' <<<"$symbols" || true)
    [ -z "$weak" ] || fail "$object: weak symbols" "$weak"
    public=$(grep -E ' [A-TV-Z] ' <<<"$symbols" || true)
    [[ "$public" =~ ^[0-9a-f]+\ [RD]\ bnorm::kernels::k(Sse2|Avx2|Avx512)Kernels$ ]] ||
        fail "$object: public symbols other than one table" "$public"
    # The compiler may make a loop a call of these; position-independent code names the offset table.
    undefined=$(grep -E ' U ' <<<"$symbols" | grep -vE ' U (memcpy|memset|_GLOBAL_OFFSET_TABLE_)$' || true)
    [ -z "$undefined" ] || fail "$object: calls into other objects" "$undefined"
    check_instructions "$isa" "$object"
}

check_exports() {
    local library=$1 c_file=$2 exported foreign name
    exported=$(nm -D --defined-only "$library" | awk '{print $NF}')
    [ -n "$exported" ] || fail "$library: exports nothing"
    foreign=$(grep -v '^bnorm_' <<<"$exported" || true)
    [ -z "$foreign" ] || fail "$library: exports other names than bnorm_*" "$foreign"
    for name in $exported; do
        grep -qE "\b$name\(" "$c_file" || fail "$c_file does not call $name"
    done
}

case "${1:-}" in
kernels) check_kernels "$2" "$3" ;;
baseline)
    for object in "${@:2}"; do
        check_instructions sse2 "$object"
    done
    ;;
exports) check_exports "$2" "$3" ;;
*) fail "usage: check.sh kernels ISA OBJECT | baseline OBJECT... | exports LIBRARY C_FILE" ;;
esac
