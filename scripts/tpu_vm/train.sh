#!/usr/bin/env bash
# Trains on the TPU VM: starts "keras-mtl train" there, or finds the one that runs, and shows its
# output until it ends. Training does not need the connection: it continues after Ctrl-C here, and
# the same command shows its output again. It resumes if it has been stopped.
# Usage: scripts/tpu_vm/train.sh [--dry-run] [--stop] ARGUMENTS OF keras-mtl train
#   --dry-run  print the commands only
#   --stop     let training save and end
# A --config_file of this machine is copied to the VM. A --model_dir is relative to the source
# directory there; give a gs:// path if it must outlive the VM.
# Exits with the status of keras-mtl train, 130 after --stop, or 75 if the VM is lost.
# Settings: TPU_NAME, ZONE, and PROJECT_ID (see common.sh).
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

arguments=() files=() stop=
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=yes ;;
    --stop) stop=yes ;;
    -h | --help) usage ;;
    --config_file=*)
      set -- --config_file "${1#*=}" "${@:2}"
      continue
      ;;
    --config_file)
      [ -f "${2:-}" ] || die "--config_file ${2:-}: no such file on this machine" "$EXIT_USAGE"
      files+=("$2")
      arguments+=(--config_file "jobs/$(basename "$2")")
      shift
      ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
require TPU_NAME ZONE
readonly ON_VM="$REMOTE/scripts/tpu_vm/on_vm.sh"

if [ -n "$stop" ]; then
  remote 0 "$ON_VM stop"
  exit
fi
[ ${#arguments[@]} -gt 0 ] || die "no arguments for keras-mtl train ($0 --help)" "$EXIT_USAGE"
duplicate=$(for file in ${files[@]+"${files[@]}"}; do basename "$file"; done | sort | uniq -d)
[ -z "$duplicate" ] || die "two --config_file are named $duplicate; rename one" "$EXIT_USAGE"

hosts=1
if [ -z "$dry_run" ]; then
  hosts=$(tpus tpu-vm describe "$TPU_NAME" --format='value(networkEndpoints.len())') ||
    die_of_remote "$TPU_NAME cannot be described; see gcloud's message above"
fi
# TensorFlow trains on all hosts of a slice from one process, on the first host.
tpu=local
[ "$hosts" = 1 ] || tpu=$TPU_NAME
remote 0 "mkdir -p $REMOTE/jobs" || die_of_remote "$TPU_NAME cannot be reached"
if [ ${#files[@]} -gt 0 ]; then
  tpus tpu-vm scp "${files[@]}" "$TPU_NAME:$REMOTE/jobs/" --worker=0 ||
    die_of_remote "the configuration cannot be copied to $TPU_NAME"
fi
printf -v quoted '%q ' --params_override "runtime.distribution_strategy=tpu,runtime.tpu=$tpu" \
  "${arguments[@]}"
remote 0 "$ON_VM start $quoted" || die_of_remote "training cannot be started on $TPU_NAME"

# Exit status of ssh, 255, is a lost connection and not an answer of the VM.
for attempt in 1 2 3 4 5; do
  status=0
  remote 0 "$ON_VM follow" || status=$?
  [ "$status" = 255 ] || exit "$status"
  state=$(tpu_state) || state=unknown
  case $state in lost | absent) break ;; esac
  say "the connection was lost (attempt $attempt of 5); the TPU is $state; connecting again"
  sleep $((attempt * 15))
done
die "$TPU_NAME is lost" "$EXIT_LOST"
