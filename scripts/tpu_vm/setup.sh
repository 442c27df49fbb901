#!/usr/bin/env bash
# Copies the source directory to every host of the TPU VM and makes the Python environment there.
# A host on which training is running is left as it is.
# Usage: scripts/tpu_vm/setup.sh [--dry-run]
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

# What a build needs, with changes that are not committed, and without what a build has made.
packed=$(mktemp -d)
trap 'rm -rf "$packed"' EXIT
archive=$packed/$REMOTE.tar.gz
run tar --create --gzip --file="$archive" --directory="$(dirname "${BASH_SOURCE[0]}")/../.." \
  --exclude=__pycache__ --exclude='*.so' \
  LICENSE README.md cc configs keras_mtl pyproject.toml requirements.lock scripts/tpu_vm

say "copying the source to every host of $TPU_NAME"
with_retries tpus tpu-vm scp "$archive" "$TPU_NAME:$REMOTE.tar.gz" --worker=all ||
  die_of_remote "the source cannot be copied to $TPU_NAME; see gcloud's message above"
say "installing; this takes some minutes"
remote all "{ test -d $REMOTE/jobs && $REMOTE/scripts/tpu_vm/on_vm.sh running; } || {
mkdir -p $REMOTE && tar --extract --file=$REMOTE.tar.gz --directory=$REMOTE &&
$REMOTE/scripts/tpu_vm/install.sh; }" ||
  die_of_remote "the installation on $TPU_NAME has failed; see the messages above"
say "$TPU_NAME is set up"
