#!/usr/bin/env bash
# The whole tree in the style of .clang-format, and its shell scripts clean under shellcheck: style.sh SOURCE_FOLDER
set -euo pipefail
cd "$1"
mapfile -d '' -t sources < <(find bench examples include src tests -regex '.*\.\(c\|cpp\|h\|hpp\|inl\)' -print0)
mapfile -d '' -t scripts < <(find bench bindings cmake docs examples tests .ci/run \( -name '*.sh' -o -name run \) -type f -print0)
[ "${#sources[@]}" -ge 80 ] && [ "${#scripts[@]}" -ge 8 ]
shellcheck "${scripts[@]}"

version=$(clang-format --version | sed -E 's/.*version ([0-9]+).*/\1/')
if [ "$version" = 14 ]; then
    clang-format --dry-run --Werror "${sources[@]}"
    echo "${#sources[@]} sources and ${#scripts[@]} scripts are in style"
else
    echo "clang-format is left out: the tree is in the style of version 14, others differ, and this is $version"
fi
