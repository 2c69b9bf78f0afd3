#!/usr/bin/env bash
# Builds and runs the example of a language against a build of bnorm:
#   run.sh c|cpp|fortran|rust|go|java|node BUILD_FOLDER
# Without the language's tools: exit code 77, or 1 with BNORM_ALL_LANGUAGES=1.
set -euo pipefail
language=$1
build=$(readlink -f "$2")
here=$(dirname "$(readlink -f "$0")")
root=$here/../..
golden=$root/tests/golden/nchw_relu.f32
folder=$build/languages/$language
mkdir -p "$folder"
cd "$folder"
export LD_LIBRARY_PATH=$build/src

needs() {
    for tool; do
        if command -v "$tool" >/dev/null || [ -r "$tool" ]; then
            continue
        fi
        echo "$language is left out: $tool is not there" >&2
        [ "${BNORM_ALL_LANGUAGES:-0}" = 1 ] && exit 1
        exit 77
    done
}

flags=(-I"$root/include" -L"$build/src" -lbnorm)
case $language in
c)
    needs cc
    cc -std=c11 -Wall -Wextra -Werror "$here/c/golden_step.c" "${flags[@]}" -lm -o golden_step
    ./golden_step "$golden"
    ;;
cpp)
    needs c++
    c++ -std=c++20 -Wall -Wextra -Werror "$here/cpp/golden_step.cpp" "${flags[@]}" -o golden_step
    ./golden_step "$golden"
    ;;
fortran)
    needs gfortran
    gfortran -Wall -Werror "$here/fortran/golden_step.f90" "${flags[@]}" -o golden_step
    ./golden_step "$golden"
    ;;
rust)
    needs cargo
    RUSTFLAGS="-D warnings -L native=$build/src" cargo build --offline --quiet --release \
        --manifest-path "$here/rust/Cargo.toml" --target-dir "$folder"
    ./release/golden_step "$golden"
    ;;
go)
    needs go
    (cd "$here/go" && CGO_CFLAGS="-I$root/include" CGO_LDFLAGS="-L$build/src" go build -o "$folder/golden_step" .)
    ./golden_step "$golden"
    ;;
java)
    jna=/usr/share/java/jna.jar
    needs javac java "$jna"
    javac -Werror -Xlint:all -cp "$jna" -d . "$here/java/GoldenStep.java"
    java -cp "$jna:." -Djna.library.path="$build/src" GoldenStep "$golden"
    ;;
node)
    needs node npm
    cp "$here"/node/* .
    [ -d node_modules/koffi ] || npm install --no-audit --no-fund --no-package-lock --loglevel=error
    node golden_step.mjs "$build/src/libbnorm.so" "$golden"
    ;;
*)
    echo "usage: run.sh c|cpp|fortran|rust|go|java|node BUILD_FOLDER" >&2
    exit 2
    ;;
esac
