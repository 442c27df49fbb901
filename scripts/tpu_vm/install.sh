#!/usr/bin/env bash
# Makes the Python environment of keras_mtl for TPUs in the source directory, as .venv-tpu.
# setup.sh runs it on every host of a TPU VM. It also runs on a machine without a TPU, where the
# last check imports the packages and does not ask for a device.
# Usage: scripts/tpu_vm/install.sh [ENVIRONMENT]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
environment=${1:-.venv-tpu}

# libtpu: the version that pip picks, 0.0.52, aborts when TensorFlow 2.20.0 is imported.
tensorflow=(tensorflow-tpu==2.20.0 libtpu==0.0.14)
# Each of these asks for the package tensorflow, whose files would overwrite tensorflow-tpu's.
without_dependencies=(tensorflow-text tf-keras tf-models-official tensorflow-hub)
# What keras_mtl and those four import.
others=(babel gin-config immutabledict importlib-resources keras matplotlib py3langid pyyaml
  sacrebleu scipy sentencepiece seqeval setuptools tensorflow-datasets)
build=(cmake ninja pybind11 scikit-build-core)

say() { echo "install.sh: $*" >&2; }

# The first Python that pyproject.toml allows; Ubuntu 22.04 of the TPU images has only 3.10.
find_python() {
  local name
  for name in python3.11 python3.12 python3.13 python3; do
    if "$name" -c 'import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  say "no Python 3.11 to 3.13 with its venv module is installed; uv fetches Python 3.11"
  python3 -m pip install --quiet --user uv >&2
  python3 -m uv python install --quiet 3.11 >&2
  python3 -m uv python find 3.11
}

# Whether this machine has TPU chips: the device files of the drivers for v2 to v4, and from v5e on.
has_tpu() { compgen -G '/dev/accel*' >/dev/null || compgen -G '/dev/vfio/[0-9]*' >/dev/null; }

if ! command -v c++ >/dev/null; then
  say "installing g++, which builds the C++ of keras_mtl"
  # A new VM runs its own upgrades for some minutes and holds apt's lock.
  sudo apt-get -o DPkg::Lock::Timeout=600 update --quiet
  sudo apt-get -o DPkg::Lock::Timeout=600 install --yes --quiet g++
fi

if [ ! -x "$environment/bin/python" ]; then
  python=$(find_python)
  say "making $environment with $("$python" --version)"
  "$python" -m venv "$environment"
fi
pip=("$environment/bin/python" -m pip --disable-pip-version-check --quiet)

# Versions of the lock file, without its hashes: tensorflow-tpu is not in it.
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
sed -n 's/^\([A-Za-z0-9][^ ]*==.*[^ \\]\) *\\*$/\1/p' requirements.lock >"$constraints"

say "installing ${tensorflow[*]} and what it needs"
"${pip[@]}" install --no-warn-conflicts --constraint "$constraints" "${tensorflow[@]}"
say "installing ${without_dependencies[*]}"
"${pip[@]}" install --no-warn-conflicts --no-deps --constraint "$constraints" "${without_dependencies[@]}"
say "installing the other packages"
"${pip[@]}" install --no-warn-conflicts --constraint "$constraints" "${others[@]}" "${build[@]}"
if "${pip[@]}" show tensorflow >/dev/null 2>&1; then
  say "error: the package tensorflow was installed over tensorflow-tpu; remove $environment and" \
    "run install.sh again"
  exit 1
fi

if ! has_tpu; then
  say "this machine has no TPU: the environment is checked without one"
  # Without these, libtpu asks the metadata server of a VM 30 times for each.
  export TPU_SKIP_MDS_QUERY=1 TPU_ACCELERATOR_TYPE=v5litepod-4 TPU_WORKER_HOSTNAMES=localhost \
    TPU_WORKER_ID=0 TPU_HOST_BOUNDS=1,1,1 TPU_CHIPS_PER_HOST_BOUNDS=2,2,1
fi
say "building and installing keras_mtl"
"${pip[@]}" install --no-warn-conflicts --no-deps --no-build-isolation .
# Imported from another directory: the source directory has no C++ in it.
"$environment/bin/python" -P - <<'PYTHON'
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import tensorflow as tf
import tensorflow_text

import keras_mtl
import keras_mtl.training.run.loop

print(f"keras_mtl {keras_mtl.__version__}, TensorFlow {tf.__version__}, "
      f"tensorflow-text {tensorflow_text.__version__}: ready")
PYTHON
