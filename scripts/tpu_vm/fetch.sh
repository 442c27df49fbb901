#!/usr/bin/env bash
# Copies a run from the TPU VM, or from a bucket, to this machine.
# Usage: scripts/tpu_vm/fetch.sh [--dry-run] MODEL_DIR LOCAL_DIRECTORY
#   MODEL_DIR  --model_dir of the training: a gs:// path, or a directory of the VM
# Settings: TPU_NAME, ZONE, and PROJECT_ID (see common.sh); none for a gs:// path.
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

paths=()
for argument in "$@"; do
  case $argument in
    --dry-run) dry_run=yes ;;
    -h | --help) usage ;;
    -*) die "unknown argument $argument ($0 --help)" "$EXIT_USAGE" ;;
    *) paths+=("$argument") ;;
  esac
done
[ ${#paths[@]} = 2 ] || die "give MODEL_DIR and LOCAL_DIRECTORY ($0 --help)" "$EXIT_USAGE"
from=${paths[0]%/} to=${paths[1]}

run mkdir -p "$to"
if [[ $from == gs://* ]]; then
  run gcloud storage rsync --recursive "$from" "$to"
else
  require TPU_NAME ZONE
  [[ $from == /* ]] || from=$REMOTE/$from
  # The trailing /. copies the files in the directory and not the directory.
  tpus tpu-vm scp "$TPU_NAME:$from/." "$to" --recurse --worker=0
fi
say "$from is in $to"
