#!/usr/bin/env bash
# Creates a TPU VM through the queue and waits until it is ready. One that was preempted, or whose
# request has failed, is deleted and created again; one that is ready is left as it is.
# Usage: scripts/tpu_vm/create.sh [--spot] [--dry-run]
#   --spot     cheaper; the VM can be taken away at any time
#   --dry-run  print the commands only
# Settings: TPU_NAME, ZONE, ACCELERATOR_TYPE, and PROJECT_ID, RUNTIME_VERSION (see common.sh);
# QUEUE_TIME is how long the request may wait for capacity (default 24h).
set -euo pipefail
# shellcheck source=scripts/tpu_vm/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

spot=()
for argument in "$@"; do
  case $argument in
    --spot) spot=(--spot) ;;
    --dry-run) dry_run=yes ;;
    -h | --help) usage ;;
    *) die "unknown argument $argument ($0 --help)" "$EXIT_USAGE" ;;
  esac
done
require TPU_NAME ZONE ACCELERATOR_TYPE

# The image for the accelerator type: https://cloud.google.com/tpu/docs/runtimes
default_image() {
  local cores=${ACCELERATOR_TYPE##*-}
  [[ $cores =~ ^[0-9]+$ ]] ||
    die "ACCELERATOR_TYPE is $ACCELERATOR_TYPE; write a type with its size, such as v5litepod-8" \
      "$EXIT_USAGE"
  # In every generation a type of more than 8 has several hosts.
  [ "$cores" -le 8 ] ||
    die "$ACCELERATOR_TYPE has several hosts, which need an image with a TensorFlow server: set \
RUNTIME_VERSION to one named tpu-vm-tf-2.20.N-pod-pjrt; 'gcloud compute tpus tpu-vm versions list \
--zone=$ZONE' lists the images" "$EXIT_USAGE"
  case $ACCELERATOR_TYPE in
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *)
      die "no image is known for ACCELERATOR_TYPE $ACCELERATOR_TYPE; set RUNTIME_VERSION to one \
that 'gcloud compute tpus tpu-vm versions list --zone=$ZONE' lists" "$EXIT_USAGE"
      ;;
  esac
}

image=${RUNTIME_VERSION:-$(default_image)}

request() {
  # The request ends as FAILED if there is no capacity in time, so that the wait below has an end.
  tpus queued-resources create "$TPU_NAME" --node-id="$TPU_NAME" \
    --accelerator-type="$ACCELERATOR_TYPE" --runtime-version="$image" \
    --valid-until-duration="${QUEUE_TIME:-24h}" ${spot[@]+"${spot[@]}"}
}

if [ -n "$dry_run" ]; then
  request
  exit
fi

state=$(tpu_state) || die "gcloud cannot list the TPUs of $ZONE; see its message above"
if [ "$state" = lost ]; then
  say "$TPU_NAME was preempted or has failed; deleting it and creating it again"
  delete_tpu
  state=absent
fi
if [ "$state" = absent ]; then
  request || die "the request was refused; see gcloud's message above"
  state=waiting
fi
failures=0
while [ "$state" != ready ]; do
  [ "$state" = waiting ] ||
    die "the request for $TPU_NAME has ended without a VM: no capacity in \
${QUEUE_TIME:-24h}, or no quota; 'gcloud compute tpus queued-resources describe $TPU_NAME \
--zone=$ZONE' says why" "$EXIT_LOST"
  say "$TPU_NAME is waiting for capacity"
  sleep 30
  if state=$(tpu_state); then
    failures=0
  else
    state=waiting
    failures=$((failures + 1))
    [ "$failures" -lt 10 ] || die "gcloud has failed 10 times in a row; see its messages above"
  fi
done
say "$TPU_NAME is ready"
