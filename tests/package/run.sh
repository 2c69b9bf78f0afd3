#!/usr/bin/env bash
# Installs bnorm, moves the installation elsewhere, and uses it in every way that README shows, with README's own lines.
#   run.sh BUILD_FOLDER
set -euo pipefail
build=$(readlink -f "$1")
readme=$(dirname "$(readlink -f "$0")")/../../README.md
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# The code block of a language that contains a text.
block() {
    awk -v fence="\`\`\`$1" -v text="$2" '
        $0 == fence { inside = 1; code = ""; next }
        $0 == "```" { if (inside && index(code, text)) { printf "%s", code; found = 1; exit } inside = 0 }
        inside { code = code $0 "\n" }
        END { exit !found }' "$readme"
}

expect() { # how it was built, command
    local output
    output=$("${@:2}")
    [ "$output" = "-1.342 1.342" ] || { echo "$1: prints \"$output\" instead of what README says" >&2; exit 1; }
    echo "$1: works"
}

PREFIX=$folder/first bash -euc "$(block sh 'cmake --install' | sed "s|build/release|$build|")" >install.log
mv first second
export PREFIX=$folder/second
library_folder=$(dirname "$(find "$PREFIX" -name libbnorm.so)")
export PKG_CONFIG_PATH=$library_folder/pkgconfig
block c 'example.c' >example.c

block cmake 'find_package' >CMakeLists.txt
cmake -S . -B shared "-DCMAKE_PREFIX_PATH=$PREFIX" >cmake.log
cmake --build shared >>cmake.log
expect "CMake, shared" shared/example

sed -e 's/LANGUAGES C/LANGUAGES C CXX/' -e 's/bnorm::bnorm/bnorm::bnorm_static/' CMakeLists.txt >static.txt
mv static.txt CMakeLists.txt
cmake -S . -B static "-DCMAKE_PREFIX_PATH=$PREFIX" >cmake.log
cmake --build static >>cmake.log
expect "CMake, static" static/example
if ldd static/example | grep -q libbnorm; then
    echo "CMake, static: it is linked to the shared library" >&2
    exit 1
fi

count=0
while read -r line; do
    rm -f example
    bash -euc "$line"
    expect "$line" env "LD_LIBRARY_PATH=$library_folder" ./example
    count=$((count + 1))
done < <(block sh 'pkg-config' | sed "s|\$PREFIX/lib|$library_folder|g")
[ "$count" -eq 3 ]

version=$(pkg-config --modversion bnorm)
strings "$library_folder/libbnorm.so" | grep -x "$version" >/dev/null ||
    { echo "bnorm.pc is of another version" >&2; exit 1; }

# Where only the static library is there, pkg-config --static names all it needs.
rm "$library_folder"/libbnorm.so*
# shellcheck disable=SC2046 # words are what pkg-config gives
cc example.c $(pkg-config --static --cflags --libs bnorm) -o example
expect "pkg-config, static" ./example
