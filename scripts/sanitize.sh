#!/usr/bin/env bash
# Builds and runs the C++ tests under AddressSanitizer with UBSan, and under ThreadSanitizer.
# Usage: scripts/sanitize.sh BIN, where BIN is the directory of the programs of the Python
# environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(cd "$1" && pwd)

check() {  # sanitizers, flags
  local build="build/sanitize-${1//,/-}"
  mkdir -p "$build"
  local log="$build/log.txt"
  if ! {
    "$bin/cmake" -S cc -B "$build" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" \
      -DPython_EXECUTABLE="$bin/python" -Dpybind11_DIR="$("$bin/python" -m pybind11 --cmakedir)" \
      -DKERAS_MTL_TF_OPS=OFF -DKERAS_MTL_SANITIZE="$1" -DCMAKE_CXX_FLAGS_RELEASE="$2" &&
    "$bin/cmake" --build "$build" --target cpp_tests &&
    "$bin/ctest" --test-dir "$build" --output-on-failure
  } >"$log" 2>&1; then
    tail -n 60 "$log"
    echo "error: the C++ tests fail with -fsanitize=$1. The complete output is in $log" >&2
    exit 1
  fi
  grep "tests passed" "$log" | sed "s/^/C++ tests with -fsanitize=$1: /"
}

check address,undefined -O0  # Optimizing the checks of UBSan takes longer than running them.
check thread -O1
