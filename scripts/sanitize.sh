#!/usr/bin/env bash
# Builds and runs the C++ tests under AddressSanitizer, also with UBSan, or those that start threads
# under ThreadSanitizer.
# Usage: scripts/sanitize.sh BIN address|amx|thread, where BIN is the directory of the programs of the
# Python environment. `amx` has UBSan and AMX, which take most of the time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(cd "$1" && pwd)

check() {  # sanitizers, flags of the compiler, regular expression of tests, options of CMake ...
  local sanitizers=$1 flags=$2 tests=$3
  shift 3
  local build="build/sanitize-${sanitizers//,/-}"
  mkdir -p "$build"
  local log="$build/log.txt"
  if ! {
    "$bin/cmake" -S cc -B "$build" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" \
      -DPython_EXECUTABLE="$bin/python" -Dpybind11_DIR="$("$bin/python" -m pybind11 --cmakedir)" \
      -DKERAS_MTL_TF_OPS=OFF -DKERAS_MTL_SANITIZE="$sanitizers" \
      -DCMAKE_CXX_FLAGS_RELEASE="$flags" "$@" &&
    names=$("$bin/ctest" --test-dir "$build" -N -R "$tests" | sed -n 's/^ *Test *#[0-9]*: //p') &&
    "$bin/cmake" --build "$build" --target $names &&
    "$bin/ctest" --test-dir "$build" -R "$tests" --output-on-failure \
      --parallel "$(getconf _NPROCESSORS_ONLN)"
  } >"$log" 2>&1; then
    tail -n 60 "$log"
    echo "error: the C++ tests fail with -fsanitize=$sanitizers. The complete output is in $log" >&2
    exit 1
  fi
  grep "tests passed" "$log" | sed "s/^/C++ tests with -fsanitize=$sanitizers: /"
}

case ${2:-} in
  # Optimizing the checks takes longer than running them.
  # AMX takes half of the time, because it is emulated.
  address)
    check address -O0 'engine|beam|translator' \
      -DKERAS_MTL_COMPILER_HAS_AMX=OFF
    ;;
  amx) check address,undefined -O0 . -DKERAS_MTL_COMPILER_HAS_AMX=ON ;;
  # Work is shared between threads in the same way on every instruction set, and each emulated AMX
  # instruction is a signal, so AMX is left to the other build.
  thread) check thread -O1 'engine_test|translator_test' -DKERAS_MTL_COMPILER_HAS_AMX=OFF ;;
  *)
    echo "usage: scripts/sanitize.sh BIN address|amx|thread" >&2
    exit 2
    ;;
esac
