#!/usr/bin/env bash
# Installs with apt-get what is missing: setup.sh build (compiler, CMake, libraries), setup.sh test (and what tests and the
# examples in other languages need) or setup.sh bench (and the peers that bnorm is compared with).
set -euo pipefail

build=(g++ cmake ninja-build libxsimd-dev libtbb-dev libbenchmark-dev)
test=(doctest-dev ccache clang clang-format clang-tidy valgrind shellcheck pkg-config python3 libjna-java
    python3-numpy python3-torch python3-venv python3-matplotlib dpkg-dev lintian doxygen)
# Commands, which may come from elsewhere than from the packages behind them.
languages=(gfortran:gfortran cargo:cargo go:golang-go javac:default-jdk-headless node:nodejs npm:npm)
bench=(libdnnl-dev python3 python3-numpy python3-torch python3-matplotlib)

case "${1:-}" in
build) packages=("${build[@]}") ;;
test) packages=("${build[@]}" "${test[@]}") ;;
bench) packages=("${build[@]}" "${bench[@]}") ;;
*)
    echo "usage: setup.sh build|test|bench" >&2
    exit 2
    ;;
esac

stop() {
    echo "setup: $*" >&2
    exit 1
}

command -v dpkg-query >/dev/null || stop "this is neither Debian nor Ubuntu. Install the equivalents of: ${packages[*]}"
missing=()
for language in "${languages[@]}"; do
    if [ "$1" = test ] && ! command -v "${language%%:*}" >/dev/null; then
        missing+=("${language##*:}")
    fi
done
for package in "${packages[@]}"; do
    if ! dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q ' installed$'; then
        missing+=("$package")
    fi
done

if [ ${#missing[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || stop "run this as root, or install sudo. Missing: ${missing[*]}"
        as_root=(sudo)
    fi
    echo "setup: installing ${missing[*]}"
    "${as_root[@]}" apt-get update -q || stop "apt-get update failed: is there a network?"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" ||
        stop "apt-get could not install ${missing[*]}"
fi

version=$(cmake --version | awk 'NR == 1 { print $3 }')
printf '3.25\n%s\n' "$version" | sort -V -C ||
    stop "CMake is $version, and 3.25 is needed (Debian 12, Ubuntu 24.04 and newer have it; or: pip install cmake)"
