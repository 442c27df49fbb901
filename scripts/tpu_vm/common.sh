# What the scripts of this directory share: settings, printing and running commands, and the state
# of the TPU. It is sourced, not run.
# shellcheck shell=bash
#
# Settings come from the environment; they have the names that Google's documentation uses:
#   TPU_NAME          name of the TPU VM, and of its queued resource
#   ZONE              zone, such as us-west4-a
#   ACCELERATOR_TYPE  such as v5litepod-8 (only create.sh and resume.sh need it)
#   PROJECT_ID        Google Cloud project; if it is unset, gcloud's default project
#   RUNTIME_VERSION   image of the VM; if it is unset, chosen by ACCELERATOR_TYPE

# shellcheck disable=SC2034  # The scripts that source this file read it.
readonly REMOTE=keras_mtl  # Source directory on the VM, in the home directory.
readonly EXIT_USAGE=2
readonly EXIT_LOST=75  # EX_TEMPFAIL of sysexits.h: the VM is gone; try again.
dry_run=

say() { echo "$(basename "$0"): $*" >&2; }

die() {
  say "error: $1"
  exit "${2:-1}"
}

# Prints the comment at the head of the script that runs.
usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
  exit 0
}

# Requires environment variables.
require() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || die "$name is not set; export $name=... first ($0 --help)" "$EXIT_USAGE"
  done
}

# Runs a command, or prints it with --dry-run.
run() {
  if [ -n "$dry_run" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# Runs "gcloud compute tpus ..." in the project and zone; the output of a query is printed.
tpus() {
  run gcloud compute tpus "$@" --zone="$ZONE" ${PROJECT_ID:+--project="$PROJECT_ID"}
}

# Runs a shell command on the VM: remote WORKERS COMMAND; WORKERS is an index or "all".
remote() { tpus tpu-vm ssh "$TPU_NAME" --worker="$1" --command="$2"; }

# Repeats a command that a VM which has just started may refuse, for some minutes at most.
with_retries() {
  local attempt
  for attempt in 1 2 3 4 5; do
    "$@" && return
    [ "$attempt" = 5 ] && break
    say "attempt $attempt of 5 failed; the next one follows in $((attempt * 15)) s"
    sleep $((attempt * 15))
  done
  return 1
}

# Prints the second field of the line of TPU_NAME in a list of gcloud's; nothing if it has none.
# The whole list is read: a failing "describe" does not say whether the name is missing.
state_in() {
  local list
  list=$(tpus "$1" list --format="value(name.basename(),$2)") || return
  awk -v name="$TPU_NAME" '$1 == name {print $2}' <<<"$list"
}

# Prints what TPU_NAME is: absent, waiting (in the queue, or starting), ready, or lost.
# States: https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.queuedResources
# and https://cloud.google.com/tpu/docs/reference/rest/v2/projects.locations.nodes
tpu_state() {
  local request node
  request=$(state_in queued-resources state.state) || return
  case $request in
    '') echo absent ;;
    FAILED | SUSPENDING | SUSPENDED | DELETING) echo lost ;;
    ACTIVE)
      node=$(state_in tpu-vm state) || return
      case $node in
        READY) echo ready ;;
        CREATING | STARTING | RESTARTING | REIMAGING | REPAIRING) echo waiting ;;
        *) echo lost ;;  # PREEMPTED, TERMINATED, STOPPED, or no node.
      esac
      ;;
    *) echo waiting ;;  # CREATING, ACCEPTED, WAITING_FOR_RESOURCES, PROVISIONING
  esac
}

# Ends the script after a command on the VM has failed, with the status that says whether the VM is
# gone.
die_of_remote() {
  case $(tpu_state) in
    absent | lost) die "$TPU_NAME is gone: $1" "$EXIT_LOST" ;;
    *) die "$1" ;;
  esac
}

# Removes the queued resource with its VM.
delete_tpu() { tpus queued-resources delete "$TPU_NAME" --force --quiet; }
