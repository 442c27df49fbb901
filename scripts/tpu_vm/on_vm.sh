#!/usr/bin/env bash
# Runs on the TPU VM: starts, follows and stops training for train.sh.
# Usage: on_vm.sh start ARGUMENTS OF keras-mtl train | follow | stop | running
# Files, in jobs/ of the source directory: train.pid, train.log, train.exit (its exit status), and
# train.stopped after a stop.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=$PWD/.venv-tpu/bin
mkdir -p jobs
cd jobs

running() { [ -e train.pid ] && kill -0 "$(cat train.pid)" 2>/dev/null; }

# The variables that TensorFlow needs to find the TPU.
set_environment() {
  case " $* " in
    *,runtime.tpu=local\ *)
      # From v5e on, whose driver is vfio, TensorFlow uses a TPU as a pluggable device, which
      # these variables turn on.
      if compgen -G '/dev/vfio/[0-9]*' >/dev/null; then
        export NEXT_PLUGGABLE_DEVICE_USE_C_API=true
        TF_PLUGGABLE_DEVICE_LIBRARY_PATH=$("$bin/python" -c \
          'import libtpu; print(libtpu.get_library_path())')
        export TF_PLUGGABLE_DEVICE_LIBRARY_PATH
      fi
      ;;
    *)
      # Several hosts: this process talks to the TensorFlow servers of the image, which have the
      # TPUs, and must not open a TPU itself.
      export TPU_LOAD_LIBRARY=0
      ;;
  esac
}

case ${1:-} in
  start)
    shift
    if running; then
      echo "training is already running (process $(cat train.pid))"
      exit
    fi
    rm -f train.exit train.stopped
    set_environment "$@"
    # setsid: the end of the ssh connection must not end training.
    setsid nohup bash -c '"$@"; echo $? >train.exit' train \
      "$bin/keras-mtl" train "$@" >train.log 2>&1 </dev/null &
    echo $! >train.pid
    ;;
  follow)
    [ -e train.pid ] || { echo "no training has been started on this VM" >&2; exit 1; }
    tail --lines=+1 --pid="$(cat train.pid)" --follow=name train.log
    [ ! -e train.stopped ] || exit 130
    # Without the file, the process was killed.
    exit "$(cat train.exit 2>/dev/null || echo 137)"
    ;;
  stop)
    running || { echo "no training is running on this VM"; exit; }
    touch train.stopped
    lines=$(wc -l <train.log)
    # keras-mtl saves and ends; its shell, the process of train.pid, then writes the status.
    pkill -TERM --parent "$(cat train.pid)" || true
    tail --lines=+$((lines + 1)) --pid="$(cat train.pid)" --follow=name train.log
    ;;
  running)
    running && echo "training is running (process $(cat train.pid))"
    ;;
  *)
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
