#!/usr/bin/env bash
# Builds the wheel into dist/, with the tag of the oldest system it runs on. TensorFlow's library is
# not put into it: the process that loads our operations has loaded it before.
# Usage: scripts/wheel.sh BIN, the directory of the Python environment's programs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$(cd "$1" && pwd)
PATH="$bin:$PATH"  # auditwheel calls patchelf.
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
python -m build --wheel --no-isolation --outdir "$made" .
auditwheel repair --exclude 'libtensorflow_framework.so.*' --wheel-dir dist "$made"/*.whl
