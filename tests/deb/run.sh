#!/usr/bin/env bash
# Builds the Debian packages, asks lintian, installs them (as root; otherwise unpacks them), and uses them:
#   run.sh SOURCE_FOLDER
set -euo pipefail
cd "$1"
cmake --preset deb -DBNORM_WARNINGS_AS_ERRORS=ON >/dev/null
cmake --build --preset deb >/dev/null
rm -rf build/deb/packages
cpack --preset deb >build/deb/cpack.log 2>&1
packages=(build/deb/packages/libbnorm[0-9]*.deb build/deb/packages/libbnorm-dev*.deb build/deb/packages/bnorm-bench*.deb)
[ "${#packages[@]}" -eq 3 ]
lintian --allow-root --fail-on error --suppress-tags initial-upload-closes-no-bugs,no-manual-page "${packages[@]}"
bench=$(dpkg-deb -f "${packages[2]}" Depends)
[[ "$bench" =~ libbnorm[0-9.]+\ \(=.*libbenchmark ]] || { echo "bnorm-bench depends on: $bench" >&2; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=
if [ "$(id -u)" -eq 0 ]; then
    trap 'rm -rf "$folder"; dpkg --purge bnorm-bench libbnorm-dev "$(dpkg-deb -f "${packages[0]}" Package)" >/dev/null' EXIT
    dpkg -i "${packages[@]}" >/dev/null
else
    root=$folder/root
    for package in "${packages[@]}"; do
        dpkg-deb -x "$package" "$root"
    done
    library=$(dirname "$(find "$root" -name libbnorm.so)")
    export PKG_CONFIG_PATH=$library/pkgconfig LD_LIBRARY_PATH=$library
    echo "not root: the packages are unpacked, not installed"
fi
# shellcheck disable=SC2046 # words are what pkg-config gives
cc -std=c11 examples/languages/c/golden_step.c $(pkg-config --cflags --libs bnorm) -lm -o "$folder/golden_step"
"$folder/golden_step" tests/golden/nchw_relu.f32
"$root/usr/bin/bnorm_summary" --seconds 0.2 >"$folder/summary"
grep -m 1 "training_forward.*GB/s" "$folder/summary"
