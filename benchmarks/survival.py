"""Kills training runs at random moments, and compares what they end with to an undisturbed run.

    python benchmarks/survival.py                  # 50 kills of one process
    python benchmarks/survival.py --kills 1000
    python benchmarks/survival.py --workers 2      # one of two workers is killed, then both restart

A tiny model trains with an adaptive schedule, asynchronous validation and a checkpoint every few
steps. A run is killed by SIGKILL, a random time after its start or after a random batch, again
and again until it ends. Then its log of batches, its events and every array of its newest and its
best checkpoint are compared with those of a run that nobody killed. Prints the number of kills by
what the run was doing, and every difference. The exit code is 1 if there is one.
"""

import argparse
import collections
import contextlib
import json
import multiprocessing
import os
import random
import re
import socket
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STEPS = 60
CONFIG = {
    "task": {
        "pairs": [
            {"source": "en", "target": "fr", "max_pairs": 900, "baseline": 3.0},
            {"source": "en", "target": "es", "max_pairs": 200, "baseline": 3.0},
            {"source": "en", "target": "gl", "max_pairs": 40, "baseline": 2.0},
        ],
        "data": {
            "corpora": [{"reader": "cldr", "options": {"pairs": 1500}}],
            "vocabulary": {"size": 700},
            "dev_pairs": 16,
            "max_length": 64,
            "bucket_lengths": [32, 64],
            "tokens_per_batch": 512,
        },
        "model": {
            "hidden_dim": 32,
            "num_heads": 2,
            "intermediate_dim": 64,
            "encoder_layers": 1,
            "decoder_layers": 1,
        },
        "decoding": {"max_length": 12},
    },
    "trainer": {
        "train_steps": STEPS,
        "steps_per_loop": 5,
        "checkpoint_interval": 4,
        "max_to_keep": 2,
        "schedule": {"name": "inverse_ratio", "parameters": {"ema": 0.5}},
        "optimizer": {"warmup_steps": 20, "learning_rate": 1.0, "ema_momentum": 0.9},
        "evaluation": {
            "interval": 10,
            "metric": "neg_log_perplexity",
            "max_pairs": 8,
            "lag": 7,
        },
        "log_batches": True,
    },
    "runtime": {"jit_compile": False, "seed": 3},
}
# Events depend on the clock in these keys.
CLOCK = ("tokens_per_second", "seconds", "waited_seconds")

TRAINING = "training or validating"

CONTEXT = multiprocessing.get_context("forkserver")


def train(directory: Path, model_dir: Path, cluster: list[str], index: int) -> None:
    """Runs `keras-mtl train` in this process, and ends it."""
    model_dir.mkdir(exist_ok=True)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(model_dir / f"{name}-{index}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    words = ["train", "--config_file", str(directory / "config.json")]
    words += ["--model_dir", str(model_dir)]
    if len(cluster) > 1:
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
        words += ["--params_override", "runtime.distribution_strategy=multi_worker_mirrored"]
    from keras_mtl.cli.main import main

    sys.exit(main(words))


def start(directory: Path, model_dir: Path, workers: int) -> list[multiprocessing.Process]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        cluster = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    running = [
        CONTEXT.Process(target=train, args=(directory, model_dir, cluster, index))
        for index in range(workers)
    ]
    for process in running:
        process.start()
    return running


def phase(model_dir: Path) -> str:
    """Returns what a run was doing, from what it has printed and written."""
    if any(model_dir.glob("partial-*")):
        return "saving"
    printed = model_dir / "stderr-0.txt"
    text = printed.read_text() if printed.exists() else ""
    if not re.search(r"^step [\d,]+ took", text, re.MULTILINE):
        return "starting, restoring or compiling"
    return TRAINING


def batches(model_dir: Path) -> int:
    """Returns the number of batches in the log of batches."""
    file = model_dir / "batches.tsv"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill(
    running: list[multiprocessing.Process],
    model_dir: Path,
    longest: float,
    chance: random.Random,
) -> bool:
    """Kills one process at a random moment, waits for the others; False if all had ended.

    Starting takes most of the time of such short runs, so three quarters of the kills wait for a
    batch.
    """
    after = chance.randint(batches(model_dir), STEPS) if chance.random() < 0.75 else None
    deadline = time.monotonic() + chance.uniform(0, longest)
    while time.monotonic() < deadline if after is None else batches(model_dir) < after:
        if not any(process.is_alive() for process in running):
            return False
        time.sleep(0.01)
    if after is not None:
        time.sleep(chance.uniform(0, 0.3))
    victim = chance.choice(running)
    alive, trains = victim.is_alive(), phase(model_dir) == TRAINING
    victim.kill()
    for process in running:
        process.join(60)
        if process.is_alive() and trains:
            raise SystemExit("a worker still runs 60 s after another was killed")
        # While starting, workers wait ten minutes for one that may be started again.
        process.kill()
        process.join()
    return alive


def contents(model_dir: Path) -> dict[str, object]:
    """Returns all that must be the same."""
    import tensorflow as tf

    found: dict[str, object] = {"batches": (model_dir / "batches.tsv").read_text()}
    with (model_dir / "metrics.jsonl").open() as file:
        for number, line in enumerate(file):
            event = json.loads(line)
            found[f"event {number}"] = {k: v for k, v in event.items() if k not in CLOCK}
    for directory in (model_dir, model_dir / "best"):
        steps = [int(path.stem.removeprefix("ckpt-")) for path in directory.glob("ckpt-*.index")]
        reader = tf.train.load_checkpoint(str(directory / f"ckpt-{max(steps)}"))
        for name in reader.get_variable_to_shape_map():
            if not name.startswith("_CHECKPOINTABLE"):
                key = f"{directory.name}/{max(steps)}/{name}"
                value = reader.get_tensor(name)
                found[key] = value.tobytes() if hasattr(value, "tobytes") else value
    return found


def differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    names = [name.split("/", 1)[-1] for name in expected]
    other = dict(zip((name.split("/", 1)[-1] for name in found), found.values(), strict=True))
    ours = dict(zip(names, expected.values(), strict=True))
    return [name for name in {**ours, **other} if ours.get(name) != other.get(name)]


def finish(running: list[multiprocessing.Process], model_dir: Path) -> None:
    for process in running:
        process.join()
        if process.exitcode:
            raise SystemExit((model_dir / "stderr-0.txt").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="number of kills (default: 50)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    CONTEXT.set_forkserver_preload(["keras_mtl.cli.main", "keras_mtl.training.run.loop"])
    counts: collections.Counter[str] = collections.Counter()
    runs, wrong = 0, []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = json.loads(json.dumps(CONFIG))
        config["task"]["data"]["data_dir"] = str(directory / "data")
        (directory / "config.json").write_text(json.dumps(config))
        begin = time.monotonic()
        finish(start(directory, directory / "undisturbed", arguments.workers), directory)
        longest = time.monotonic() - begin
        expected = contents(directory / "undisturbed")
        while sum(counts.values()) < arguments.kills:
            runs += 1
            model_dir = directory / f"killed-{runs}"
            while True:
                running = start(directory, model_dir, arguments.workers)
                last = sum(counts.values()) >= arguments.kills
                if last or not kill(running, model_dir, longest, chance):
                    finish(running, model_dir)
                    break
                counts[phase(model_dir)] += 1
            wrong += [f"run {runs}: {name}" for name in differences(expected, contents(model_dir))]
            print(
                f"{sum(counts.values())} kills, {runs} runs, {len(wrong)} differences", flush=True
            )
    for doing, count in counts.most_common():
        print(f"{count:6} {doing}")
    print("\n".join(wrong) or "every run ended as the undisturbed one, bit for bit")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
