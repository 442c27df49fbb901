#!/usr/bin/env bash
# Trains to the end, whatever happens to the VM: creates it if there is none, sets it up, trains;
# when the VM is preempted or lost, creates it again and resumes from the checkpoints in --model_dir,
# which must be a gs:// path. Run it on a machine that stays on; run it again after an interruption.
# Usage: scripts/tpu_vm/resume.sh [--spot] [--dry-run] ARGUMENTS OF keras-mtl train
#   --spot     cheaper; the VM can be taken away at any time
#   --dry-run  print the commands of one round only
# Settings: as create.sh; ATTEMPTS is the most rounds (default 20).
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

here=$(dirname "${BASH_SOURCE[0]}")
options=() spot=() arguments=() model_dir=
while [ $# -gt 0 ]; do
  case $1 in
    --spot) spot=(--spot) ;;
    --dry-run) options=(--dry-run) ;;
    -h | --help) usage ;;
    --model_dir)
      model_dir=${2:-}
      arguments+=("$1")
      ;;
    --model_dir=*)
      model_dir=${1#*=}
      arguments+=("$1")
      ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
require TPU_NAME ZONE ACCELERATOR_TYPE
[[ $model_dir == gs://* ]] ||
  die "--model_dir is '$model_dir', on the disk of the VM, which is lost with it; give a gs:// path" \
    "$EXIT_USAGE"

# One round; its exit status is that of the first script that fails.
round() {
  "$here/create.sh" ${spot[@]+"${spot[@]}"} ${options[@]+"${options[@]}"} &&
    "$here/setup.sh" ${options[@]+"${options[@]}"} &&
    "$here/train.sh" ${options[@]+"${options[@]}"} "${arguments[@]}"
}

wait_time=60
attempts=${ATTEMPTS:-20}
for ((attempt = 1; attempt <= attempts; attempt++)); do
  status=0 started=$SECONDS
  round || status=$?
  case $status in
    0)
      say "training has ended; $TPU_NAME still exists: delete.sh deletes it"
      exit
      ;;
    # A wrong argument or configuration, or an error of keras-mtl: it would fail again.
    1 | 2)
      say "not repeated, because it would fail again; $TPU_NAME may exist: delete.sh deletes it"
      exit "$status"
      ;;
    130)
      say "stopped; $TPU_NAME still exists: delete.sh deletes it"
      exit 130
      ;;
  esac
  # After a round that has trained, the first wait is short again.
  ((SECONDS - started < 1800)) || wait_time=60
  ((attempt < attempts)) || break
  say "round $attempt of $attempts ended with status $status; the next one follows in $wait_time s"
  sleep "$wait_time"
  wait_time=$((wait_time * 2 < 1800 ? wait_time * 2 : 1800))
done
die "gave up after $attempts rounds; the checkpoints are in $model_dir" "$EXIT_LOST"
