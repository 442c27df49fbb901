"""The scripts for TPU VMs make the calls of gcloud that they should, and survive a preemption.

`tests.tpu_vm.cloud` stands for gcloud and for the VM.
"""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_mtl.cli.common import load_config
from keras_mtl.cli.main import COMMANDS, _parser
from tests.tpu_vm.cloud import Cloud

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts").rglob("*.sh"))
SCRIPT_NAMES = ("create", "setup", "train", "resume", "fetch", "delete")


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path / "cloud")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my tasks.yaml"
    path.write_text("trainer: {train_steps: 3}\n")
    return path


def script(cloud, name, *arguments, **environment):
    """Runs a script to its end; returns its status and all that it prints."""
    done = subprocess.run(
        [str(ROOT / "scripts/tpu_vm" / f"{name}.sh"), *map(str, arguments)],
        env={**cloud.environment, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def succeeds(cloud, name, *arguments, **environment):
    status, text = script(cloud, name, *arguments, **environment)
    assert status == 0, text
    return text


@pytest.fixture
def set_up(cloud):
    succeeds(cloud, "create")
    succeeds(cloud, "setup")
    return cloud


def test_shellcheck_accepts_every_script():
    program = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=str(Path(sys.executable).parent)
    )
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [program, "-x", *map(str, SCRIPTS)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_parses_every_script(path):
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_create_asks_the_queue_and_waits(cloud):
    cloud.set(answers=[["ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]])
    text = succeeds(cloud, "create", "--spot", PROJECT_ID="my-project")
    assert cloud.changes == [
        [
            *("queued-resources", "create", "my-tpu", "--node-id=my-tpu"),
            *("--accelerator-type=v5litepod-8", "--runtime-version=v2-alpha-tpuv5-lite"),
            *("--valid-until-duration=24h", "--spot"),
        ]
    ]
    assert all("--project=my-project" in call for call in cloud.calls)
    assert cloud.waits == [30] * 4
    assert text.endswith("my-tpu is ready\n")


def test_create_leaves_a_tpu_that_is_ready(cloud):
    succeeds(cloud, "create")
    before = cloud.changes
    succeeds(cloud, "create")
    assert cloud.changes == before


@pytest.mark.parametrize(
    ("request_state", "node"),
    [("SUSPENDED", None), ("FAILED", None), ("ACTIVE", "PREEMPTED"), ("ACTIVE", "TERMINATED")],
)
def test_create_replaces_a_tpu_that_is_lost(cloud, request_state, node):
    cloud.set(requests={"my-tpu": [request_state]}, nodes={"my-tpu": node} if node else {})
    succeeds(cloud, "create")
    assert [call[1] for call in cloud.changes] == ["delete", "create"]
    assert cloud.changes[0] == ["queued-resources", "delete", "my-tpu", "--force", "--quiet"]


@pytest.mark.parametrize(
    ("accelerator", "image"),
    [
        ("v2-8", "tpu-ubuntu2204-base"),
        ("v4-8", "tpu-ubuntu2204-base"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_the_image_follows_the_accelerator(cloud, accelerator, image):
    text = succeeds(cloud, "create", "--dry-run", ACCELERATOR_TYPE=accelerator)
    assert f"--runtime-version={image} " in text
    other = succeeds(
        cloud, "create", "--dry-run", ACCELERATOR_TYPE=accelerator, RUNTIME_VERSION="mine"
    )
    assert "--runtime-version=mine " in other


@pytest.mark.parametrize(
    ("accelerator", "error"),
    [
        ("v5litepod-16", "has several hosts.*set RUNTIME_VERSION"),
        ("tpu7x-8", "no image is known for ACCELERATOR_TYPE tpu7x-8; set RUNTIME_VERSION"),
        ("v5e", "ACCELERATOR_TYPE is v5e; write a type with its size"),
        ("", "ACCELERATOR_TYPE is not set; export ACCELERATOR_TYPE=..."),
    ],
)
def test_accelerators_without_an_image_are_refused(cloud, accelerator, error):
    status, text = script(cloud, "create", ACCELERATOR_TYPE=accelerator)
    assert status == 2
    assert re.search(error, text), text
    assert cloud.calls == []


def test_create_says_that_there_was_no_capacity(cloud):
    cloud.set(answers=[["WAITING_FOR_RESOURCES", "FAILED"]])
    status, text = script(cloud, "create", QUEUE_TIME="2h")
    assert status == 75
    assert "no capacity in 2h, or no quota" in text


def test_create_does_not_take_an_error_of_gcloud_for_a_missing_tpu(cloud):
    cloud.set(broken=True)
    status, text = script(cloud, "create")
    assert status == 1
    assert "gcloud cannot list the TPUs of us-west4-a" in text
    assert cloud.changes == []


def test_setup_copies_the_source_to_every_host_and_installs(cloud):
    succeeds(cloud, "create")
    cloud.set(refused=2)  # A VM that has just started refuses connections.
    succeeds(cloud, "setup")
    assert [call[:2] for call in cloud.changes[1:]] == [["tpu-vm", "scp"]] * 3 + [["tpu-vm", "ssh"]]
    assert all("--worker=all" in call for call in cloud.changes[1:])
    assert cloud.waits[-2:] == [15, 30]
    source = cloud.home / "keras_mtl"
    assert (source / "keras_mtl/training/run/loop.py").exists()
    assert (source / "cc/CMakeLists.txt").exists()
    assert (source / "requirements.lock").exists()
    assert not list(source.rglob("*.so"))
    assert (source / ".venv-tpu/bin/keras-mtl").exists()


def test_train_copies_the_configuration_and_follows_training(set_up, config):
    text = succeeds(set_up, "train", "--config_file", config, "--model_dir", "runs/my")
    assert text.index("step 1\n") < text.index("step 3\n")
    assert "TPU_LOAD_LIBRARY=\n" in text
    assert (set_up.home / "keras_mtl/jobs/my tasks.yaml").exists()
    start = next(call[-1] for call in set_up.changes if "on_vm.sh start" in call[-1])
    assert shlex.split(start.partition("--command=")[2])[2:] == [
        *("--params_override", "runtime.distribution_strategy=tpu,runtime.tpu=local"),
        *("--config_file", "jobs/my tasks.yaml", "--model_dir", "runs/my"),
    ]


def test_on_several_hosts_the_first_one_trains_with_all(set_up, config):
    set_up.set(hosts=4)
    text = succeeds(set_up, "train", "--config_file", config, "--model_dir", "runs/my")
    assert "TPU_LOAD_LIBRARY=0\n" in text
    starts = [call for call in set_up.changes if "on_vm.sh start" in call[-1]]
    assert len(starts) == 1
    assert "--worker=0" in starts[0]
    assert "runtime.distribution_strategy=tpu\\,runtime.tpu=my-tpu" in starts[0][-1]


def test_the_status_of_training_is_that_of_the_script(set_up, config):
    (set_up.root / "fails").write_text("1")
    status, text = script(set_up, "train", "--config_file", config, "--model_dir", "runs/my")
    assert (status, "task.pairs is empty" in text) == (1, True)


def test_training_continues_without_the_connection_and_can_be_stopped(set_up, config):
    (set_up.root / "hold").touch()
    words = ["train", "--config_file", config, "--model_dir", "runs/my"]
    command = [str(ROOT / "scripts/tpu_vm/train.sh"), *map(str, words[1:])]
    first = subprocess.Popen(
        command, env=set_up.environment, stdout=subprocess.PIPE, start_new_session=True
    )
    log = set_up.home / "keras_mtl/jobs/train.log"
    _wait_for(lambda: log.exists() and "step 1" in log.read_text())
    subprocess.run(["pkill", "-KILL", "--session", str(first.pid)], check=True)
    first.wait()
    # The same command finds the training that runs; setup.sh leaves it alone.
    assert "training is running" in succeeds(set_up, "setup")
    second = subprocess.Popen(
        command, env=set_up.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert "training is already running" in second.stdout.readline()
    assert "saved and stopped" in succeeds(set_up, "train", "--stop")
    text, _ = second.communicate(timeout=30)
    assert second.returncode == 130
    assert "step 1\n" in text
    assert set(log.read_text().splitlines()) >= {"step 1", "saved and stopped"}


def _wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen in 20 s"
        time.sleep(0.02)


@pytest.mark.parametrize("times", [0, pytest.param(2, marks=pytest.mark.nightly)])
def test_resume_creates_the_tpu_again_after_a_preemption(cloud, config, times):
    (cloud.root / "preempts").write_text(str(times))
    text = succeeds(
        cloud, "resume", "--spot", "--config_file", config, "--model_dir", "gs://bucket/my"
    )
    done = [call[1] for call in cloud.changes if call[0] == "queued-resources"]
    assert done == ["create", *["delete", "create"] * times]
    # Every step was done once: each VM resumed where the one before was taken away.
    assert [line for line in text.splitlines() if line.startswith("step ")] == [
        "step 1",
        "step 2",
        "step 3",
    ]
    assert [wait for wait in cloud.waits if wait >= 60] == [60, 120][:times]
    assert "my-tpu still exists" in text


def test_resume_gives_up_after_its_attempts(cloud, config):
    cloud.set(answers=[["FAILED"]] * 5)
    status, text = script(
        *(cloud, "resume", "--config_file", config, "--model_dir", "gs://bucket/my"), ATTEMPTS="3"
    )
    assert status == 75
    assert "gave up after 3 rounds" in text
    assert [call[1] for call in cloud.changes].count("create") == 3
    assert [wait for wait in cloud.waits if wait >= 60] == [60, 120]


@pytest.mark.parametrize("code", ["1", "2"])
def test_resume_does_not_repeat_an_error_of_the_configuration(cloud, config, code):
    (cloud.root / "fails").write_text(code)
    status, text = script(cloud, "resume", "--config_file", config, "--model_dir", "gs://bucket/my")
    assert status == int(code)
    assert "it would fail again" in text
    assert [call[1] for call in cloud.changes].count("create") == 1


def test_resume_repeats_after_a_crash(cloud, config):
    (cloud.root / "fails").write_text("137")  # Out of memory.
    status, _ = script(
        *(cloud, "resume", "--config_file", config, "--model_dir", "gs://bucket/my"), ATTEMPTS="2"
    )
    assert status == 75
    assert [call[1] for call in cloud.changes].count("create") == 1  # The VM was still there.


def test_resume_needs_a_model_directory_that_outlives_the_vm(cloud, config):
    status, text = script(cloud, "resume", "--config_file", config, "--model_dir", "runs/my")
    assert status == 2
    assert "--model_dir is 'runs/my', on the disk of the VM" in text
    assert cloud.calls == []


def test_fetch_copies_a_run_from_the_vm_or_a_bucket(set_up, config, tmp_path):
    for model_dir in ("runs/my", "gs://bucket/my"):
        succeeds(set_up, "train", "--config_file", config, "--model_dir", model_dir)
        local = tmp_path / "fetched" / model_dir.replace(":", "")
        succeeds(set_up, "fetch", model_dir, local)
        assert [file.name for file in local.iterdir()] == ["step"]
    assert set_up.calls[-1][:3] == ["storage", "rsync", "--recursive"]


def test_delete_removes_the_vm_and_the_request(set_up):
    succeeds(set_up, "delete")
    assert set_up.state()["requests"] == set_up.state()["nodes"] == {}


ARGUMENTS = {
    "train": ["--config_file", "FILE", "--model_dir", "gs://bucket/my"],
    "resume": ["--spot", "--config_file", "FILE", "--model_dir", "gs://bucket/my"],
    "fetch": ["gs://bucket/my", "fetched"],
}


@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_dry_run_prints_the_commands_and_runs_none(cloud, config, name):
    arguments = [str(config) if word == "FILE" else word for word in ARGUMENTS.get(name, [])]
    text = succeeds(cloud, name, "--dry-run", *arguments)
    assert cloud.calls == []
    lines = [line for line in text.splitlines() if not line.startswith(f"{name}.sh:")]
    assert any(line.startswith("gcloud ") for line in lines)
    for line in lines:  # Each line can be copied into a shell.
        assert shlex.split(line)[0] in ("gcloud", "tar", "mkdir") or "sh:" in line


@pytest.mark.parametrize("name", SCRIPT_NAMES)
def test_help_and_unknown_arguments(cloud, name):
    text = succeeds(cloud, name, "--help")
    assert f"Usage: scripts/tpu_vm/{name}.sh" in text
    assert not text.startswith(("#", "!"))
    if name in ("create", "setup", "fetch", "delete"):
        status, text = script(cloud, name, "--sport")
        assert status == 2
        assert "unknown argument --sport" in text
    assert cloud.calls == []


PAGE = (ROOT / "docs/how-to/tpu.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_leads_from_nothing_to_a_trained_model(cloud, tmp_path):
    """Runs the page's blocks in their order; only gcloud and keras-mtl are replaced."""
    for name in ("scripts", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    program = cloud.root / "bin" / "keras-mtl"
    program.write_text('#!/usr/bin/env bash\necho "keras-mtl $*" >>"$CLOUD/local"\n')
    program.chmod(0o755)
    environment = {name: value for name, value in cloud.environment.items() if name != "TPU_NAME"}
    settings = ""
    for block in BLOCKS:
        if block.startswith("export"):
            settings = block
            continue
        if "resume.sh" in block:  # A run of its own, whose TPU is taken away.
            shutil.rmtree(cloud.root / "buckets")
            (cloud.root / "preempts").write_text("1")
        done = subprocess.run(
            ["bash", "-ec", settings + block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
    assert "keras-mtl prepare" in (cloud.root / "local").read_text()
    assert [call[1] for call in cloud.changes if call[0] == "queued-resources"] == [
        *("create", "delete", "create", "delete")
    ]
    assert (tmp_path / "runs/demo/step").read_text() == "3\n"
    assert cloud.state()["requests"] == {}


def test_the_commands_of_the_page_are_right(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = "\n".join(BLOCKS).replace("\\\n", " ")
    lines = [shlex.split(line) for line in text.splitlines() if "--config_file" in line]
    assert len(lines) == 3
    for program, *words in lines:
        if program.endswith(".sh"):
            words = ["train", *(word for word in words if word != "--spot")]
        command, parser = _parser(words)
        args = parser.parse_args(words)
        importlib.import_module(COMMANDS[command].module).check_arguments(args)
        config = load_config(args)
        assert config.task.data.data_dir == "gs://my-bucket/data/demo"


def test_the_versions_for_tpus_fit_the_others():
    installer = (ROOT / "scripts/tpu_vm/install.sh").read_text()
    tensorflow, libtpu = re.search(r"^tensorflow=\((\S+) (\S+)\)", installer, re.MULTILINE).groups()
    locked = dict(
        re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    assert tensorflow == f"tensorflow-tpu=={locked['tensorflow']}"
    assert f"`{tensorflow}` with `{libtpu}`" in PAGE
    for name in ("without_dependencies", "others", "build"):
        words = re.search(rf"^{name}=\(([^)]*)\)", installer, re.MULTILINE).group(1).split()
        assert set(words) <= set(locked), name
