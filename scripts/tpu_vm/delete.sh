#!/usr/bin/env bash
# Deletes the TPU VM, its disk and its request. What is on the disk is lost; fetch it first.
# Usage: scripts/tpu_vm/delete.sh [--dry-run]
# Settings: TPU_NAME, ZONE, and PROJECT_ID (see common.sh).
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

for argument in "$@"; do
  case $argument in
    --dry-run) dry_run=yes ;;
    -h | --help) usage ;;
    *) die "unknown argument $argument ($0 --help)" "$EXIT_USAGE" ;;
  esac
done
require TPU_NAME ZONE
delete_tpu
[ -n "$dry_run" ] || say "$TPU_NAME is deleted"
