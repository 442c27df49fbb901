#!/usr/bin/env bash
# Builds the wheel into dist/, with the tag of the oldest system on which it runs. The wheel does not
# contain the library of TensorFlow: a process that loads our operations has already loaded it.
# Usage: scripts/wheel.sh BIN, where BIN is the directory of the programs of the Python environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(cd "$1" && pwd)
PATH="$bin:$PATH"  # auditwheel calls patchelf.
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
python -m build --wheel --no-isolation --outdir "$made" .
auditwheel repair --exclude 'libtensorflow_framework.so.*' --wheel-dir dist "$made"/*.whl
