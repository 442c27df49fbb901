#!/usr/bin/env bash
# Makes the Python environment of the TPU compiler, which `keras-mtl check-tpu` uses: JAX and libtpu,
# 1.3 GB. It needs no TPU. It is not the environment of keras_mtl, so that TensorFlow and JAX do not
# constrain each other's versions.
# Usage: scripts/tpu_compiler.sh [ENVIRONMENT]
#   ENVIRONMENT: directory of the environment; by default where `keras-mtl check-tpu` looks for it.
#   Give another one to the command as --python ENVIRONMENT/bin/python.
set -euo pipefail

# The compiler's client is public, but some functions around it are not, and may move in any release
# of JAX. keras_mtl/tpu_check/compiler.py names the same versions.
packages=(jax==0.10.2 libtpu==0.0.42.1)

say() { echo "tpu_compiler.sh: $*" >&2; }

if [[ ${1:-} == -* ]]; then
  sed -n '2,8s/^# //p' "${BASH_SOURCE[0]}"
  if [[ $1 == --help || $1 == -h ]]; then exit 0; fi
  exit 2
fi
caches=${KERAS_MTL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keras_mtl}
environment=${1:-$caches/tpu_compiler}

# JAX 0.10 needs Python 3.11 or later.
find_python() {
  local name
  for name in python3 python3.11 python3.12 python3.13; do
    if "$name" -c 'import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  say "error: no Python of version 3.11 or later with its venv module is installed"
  exit 2
}

if [ ! -x "$environment/bin/python" ]; then
  python=$(find_python)
  say "making $environment with $("$python" --version)"
  "$python" -m venv "$environment"
fi
say "installing ${packages[*]}"
"$environment/bin/python" -m pip --disable-pip-version-check --quiet install "${packages[@]}"
say "done: $environment/bin/python"
