"""A stand-in for ``gcloud``: it records its calls and keeps a small cloud in a directory.

The cloud has one zone with queued resources, TPU VMs and buckets. A VM is a directory, its home:
``ssh --command`` runs the command there, so `on_vm.sh` really runs; only ``install.sh`` and
``keras-mtl`` are replaced. The program is this file, which `Cloud` puts on PATH as ``gcloud``.

Files of the cloud: ``calls.jsonl``, ``state.json``, ``home/`` and ``buckets/``.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

# What `keras-mtl train` does in the cloud: it resumes from the step in its model directory, writes
# each step, and ends at step 3. A file tells it to fail, or to wait to be stopped.
TRAINER = r"""#!/usr/bin/env bash
[ "$1" = train ] || exit 0
trap 'echo "saved and stopped"; exit 143' TERM
while [ $# -gt 0 ]; do
  case $1 in --model_dir) model_dir=$2 ;; --model_dir=*) model_dir=${1#*=} ;; esac
  shift
done
cd ..  # To the source directory.
case $model_dir in gs://*) model_dir=$CLOUD/buckets/${model_dir#gs://} ;; esac
mkdir -p "$model_dir"
echo "TPU_LOAD_LIBRARY=${TPU_LOAD_LIBRARY:-}"
if [ -e "$CLOUD/fails" ]; then echo "error: task.pairs is empty"; exit "$(cat "$CLOUD/fails")"; fi
step=$(cat "$model_dir/step" 2>/dev/null || echo 0)
while [ "$step" -lt 3 ]; do
  step=$((step + 1))
  echo "$step" >"$model_dir/step"
  echo "step $step"
  if [ -e "$CLOUD/preempts" ]; then
    left=$(cat "$CLOUD/preempts")
    if [ "$left" -gt 0 ]; then echo $((left - 1)) >"$CLOUD/preempts"; touch "$CLOUD/preempt"; fi
  fi
  while [ -e "$CLOUD/preempt" ] || [ -e "$CLOUD/hold" ]; do read -rt 0.05 <> <(:); done
done
"""


class Cloud:
    """What a test sees of the cloud.

    Args:
        root: an empty directory.
    """

    def __init__(self, root):
        self.root = root
        (root / "bin").mkdir(parents=True)
        self._program("gcloud", f'#!/usr/bin/env bash\nexec {sys.executable} -S {__file__} "$@"\n')
        # Waiting is counted and takes no time.
        self._program("sleep", '#!/usr/bin/env bash\necho "$1" >>"$CLOUD/waits"\n')
        self.save({"requests": {}, "nodes": {}, "answers": []})
        self.environment = {
            **os.environ,
            "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "CLOUD": str(root),
            "TPU_NAME": "my-tpu",
            "ZONE": "us-west4-a",
            "ACCELERATOR_TYPE": "v5litepod-8",
        }
        for name in ("PROJECT_ID", "RUNTIME_VERSION", "QUEUE_TIME", "ATTEMPTS", "TPU_LOAD_LIBRARY"):
            self.environment.pop(name, None)

    def _program(self, name, text):
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def state(self):
        return json.loads((self.root / "state.json").read_text())

    def save(self, state):
        (self.root / "state.json").write_text(json.dumps(state))

    def set(self, **names):
        self.save({**self.state(), **names})

    @property
    def calls(self):
        """The calls of gcloud, as lists of words."""
        file = self.root / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def changes(self):
        """The calls that are not queries, without "compute tpus", zone and project."""
        words = [
            [word for word in call if not word.startswith(("--zone=", "--project="))]
            for call in self.calls
        ]
        return [
            [word for word in call if word not in ("compute", "tpus")]
            for call in words
            if not {"list", "describe"} & set(call)
        ]

    @property
    def waits(self):
        """The seconds that the scripts waited, one number for each wait."""
        file = self.root / "waits"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    @property
    def home(self):
        return self.root / "home"


def _main(words):
    cloud = Path(os.environ["CLOUD"])
    with (cloud / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    state = json.loads((cloud / "state.json").read_text())
    if words[:2] == ["storage", "rsync"]:
        _rsync(cloud, words)
        return 0
    assert words[:2] == ["compute", "tpus"], words
    options = _parse(words[2:])
    assert options.zone == "us-west4-a", words
    code = _ACTIONS[options.group, options.action](cloud, state, options)
    (cloud / "state.json").write_text(json.dumps(state))
    return code or 0


def _parse(words):
    """Parses a call as gcloud does: an unknown flag is an error."""
    parser = argparse.ArgumentParser(prog="gcloud", allow_abbrev=False)
    parser.add_argument("group")
    parser.add_argument("action")
    parser.add_argument("names", nargs="*")
    flags = {
        ("queued-resources", "create"): (
            ["node-id", "accelerator-type", "runtime-version", "valid-until-duration"],
            ["spot"],
        ),
        ("queued-resources", "delete"): ([], ["force", "quiet"]),
        ("queued-resources", "list"): (["format"], []),
        ("tpu-vm", "list"): (["format"], []),
        ("tpu-vm", "describe"): (["format"], []),
        ("tpu-vm", "ssh"): (["worker", "command"], []),
        ("tpu-vm", "scp"): (["worker"], ["recurse"]),
    }
    values, switches = flags[words[0], words[1]]
    for name in ("zone", "project", *values):
        parser.add_argument(f"--{name}")
    for name in switches:
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(words)


def _create(cloud, state, options):
    name = options.names[0]
    assert name not in state["requests"], "ALREADY_EXISTS"
    # The next state of the request each time that it is asked for; the last one stays.
    answers = state["answers"].pop(0) if state["answers"] else ["WAITING_FOR_RESOURCES", "ACTIVE"]
    state["requests"][name] = answers


def _delete(cloud, state, options):
    del state["requests"][options.names[0]]
    state["nodes"].pop(options.names[0], None)
    shutil.rmtree(cloud / "home", ignore_errors=True)


def _list_requests(cloud, state, options):
    if state.get("broken"):
        print("ERROR: (gcloud) You do not currently have an active account.", file=sys.stderr)
        return 1
    assert options.format == "value(name.basename(),state.state)"
    print("other-tpu\tFAILED")
    for name, states in state["requests"].items():
        print(f"{name}\t{states[0]}")
        if states[0] == "ACTIVE" and name not in state["nodes"]:
            state["nodes"][name] = "READY"
            (cloud / "home").mkdir()
        if len(states) > 1:
            states.pop(0)
    return 0


def _list_nodes(cloud, state, options):
    assert options.format == "value(name.basename(),state)"
    for name, node in state["nodes"].items():
        print(f"{name}\t{node}")


def _describe(cloud, state, options):
    assert options.format == "value(networkEndpoints.len())"
    print(state.get("hosts", 1))


def _ssh(cloud, state, options):
    if state["nodes"].get(options.names[0]) != "READY":
        print("ERROR: the TPU is not ready", file=sys.stderr)
        return 1
    if state.get("refused"):  # sshd of a new VM.
        state["refused"] -= 1
        return 255
    home = cloud / "home"
    environment = {**os.environ, "HOME": str(home)}
    installer = home / "keras_mtl/scripts/tpu_vm/install.sh"
    command = options.command.replace("keras_mtl/scripts/tpu_vm/install.sh", "install_stub")
    function = (
        f"install_stub() {{ test -x {installer} && mkdir -p keras_mtl/.venv-tpu/bin && "
        'cp "$CLOUD/keras-mtl" keras_mtl/.venv-tpu/bin/keras-mtl; }\n'
    )
    (cloud / "keras-mtl").write_text(TRAINER)
    (cloud / "keras-mtl").chmod(0o755)
    process = subprocess.Popen(["bash", "-c", function + command], cwd=home, env=environment)
    while True:
        try:
            return process.wait(0.05)
        except subprocess.TimeoutExpired:
            if (cloud / "preempt").exists():
                return _preempt(cloud, state, options.names[0], process)


def _preempt(cloud, state, name, ssh):
    """Takes a VM away: its processes are gone, its disk is lost, and the connection breaks."""
    training = int((cloud / "home/keras_mtl/jobs/train.pid").read_text())
    os.killpg(training, signal.SIGKILL)
    ssh.wait()
    shutil.rmtree(cloud / "home")
    state["nodes"].pop(name)
    state["requests"][name] = ["SUSPENDED"]
    (cloud / "preempt").unlink()
    return 255


def _scp(cloud, state, options):
    if state.get("refused"):
        state["refused"] -= 1
        return 255
    *sources, target = options.names

    def local(path):
        name, colon, rest = path.partition(":")
        if not colon:
            return Path(path)
        assert state["nodes"].get(name) == "READY"
        return cloud / "home" / rest

    for source in map(local, sources):
        if options.recurse:
            assert str(source).endswith("/.") or source.is_dir()
            shutil.copytree(source, local(target), dirs_exist_ok=True)
        else:
            shutil.copy(source, local(target))


def _rsync(cloud, words):
    def local(path):
        is_bucket = path.startswith("gs://")
        return cloud / "buckets" / path.removeprefix("gs://") if is_bucket else Path(path)

    assert words[2] == "--recursive", words
    shutil.copytree(local(words[3]), local(words[4]), dirs_exist_ok=True)


_ACTIONS = {
    ("queued-resources", "create"): _create,
    ("queued-resources", "delete"): _delete,
    ("queued-resources", "list"): _list_requests,
    ("tpu-vm", "list"): _list_nodes,
    ("tpu-vm", "describe"): _describe,
    ("tpu-vm", "ssh"): _ssh,
    ("tpu-vm", "scp"): _scp,
}

if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
