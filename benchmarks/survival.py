"""Disturbs training runs at random moments, and compares their ends to that of an undisturbed run.

    python benchmarks/survival.py                  # 50 disturbances of one process
    python benchmarks/survival.py --count 1000
    python benchmarks/survival.py --minutes 30     # as many as fit
    python benchmarks/survival.py --workers 2      # one of two workers; then all restart
    python benchmarks/survival.py --kinds kill,stop,full_disk --variants batch,example-packed

A tiny model trains with an adaptive schedule, dropout, asynchronous validation, steps whose loss is
NaN, and a checkpoint every few steps. A run is disturbed at a random moment and started again,
until it ends. Then its log of batches, its events and every array of its newest and its
best checkpoint are compared with those of a run that nobody disturbed. Prints the number of
disturbances by kind and by what the run was doing, and every difference. The exit code is 1 if
there is one, or if a run ended in another way than it should.

The training step runs eagerly, because tracing it takes most of the time of so short a run.
"""

import argparse
import collections
import dataclasses
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import survival_run
from survival_run import Setting, checkpoints, contents, differences, logged_batches

KINDS = {
    "kill": "SIGKILL",
    "stop": "SIGTERM",
    "full_disk": "no file can grow over a random size, so that saving or logging fails",
    "damage": "SIGKILL, then a byte of the newest checkpoint is changed, or it is truncated",
    "second": "a second process starts in the same directory",
    "clock": "clocks jump from the start of the process on; then SIGKILL",
}
TRAINING = "training or validating"
# While they start, workers wait minutes for one that may be started again.
SECONDS_TO_END = 60


class UnexpectedEndError(Exception):
    """A process ended in another way than it should."""


def phase(model_dir: Path) -> str:
    """Returns what a run was doing, from what it has printed and written."""
    if any(model_dir.glob("partial-*")):
        return "saving"
    printed = model_dir / "stderr-0.txt"
    text = printed.read_text() if printed.exists() else ""
    if not re.search(r"^step [\d,]+ took", text, re.MULTILINE):
        return "starting or restoring"
    return TRAINING


def wait_for_moment(
    kind: str, running: list[BaseProcess], model_dir: Path, chance: random.Random
) -> bool:
    """Waits for a random moment; returns whether all processes still run.

    One moment in six is in the start, two are while files of a checkpoint exist that is not
    complete, and three are at any time after the first batch.
    """
    choice, before = chance.randrange(6), logged_batches(model_dir)
    if kind == "second":  # Before, the first process may not have taken the directory.
        choice = 5
    deadline = time.monotonic() + (chance.uniform(0, 4) if choice == 0 else 300)
    while time.monotonic() < deadline:
        if not all(process.is_alive() for process in running):
            return False
        if 0 < choice < 3 and any(model_dir.glob("partial-*")):
            time.sleep(chance.uniform(0, 0.02))
            break
        if choice >= 3 and logged_batches(model_dir) > before:
            time.sleep(chance.uniform(0, 2.0))
            break
        time.sleep(0.002)
    return all(process.is_alive() for process in running)


def disturb(
    kind: str,
    running: list[BaseProcess],
    setting: Setting,
    model_dir: Path,
    chance: random.Random,
) -> None:
    """Disturbs a run, and waits until all of its processes have ended.

    Raises:
        UnexpectedEndError: a process did not end, or with an unexpected exit code.
    """
    victim, trains = chance.choice(running), phase(model_dir) == TRAINING
    assert victim.pid is not None
    allowed = {0, 2}  # Other workers of one that was killed; 0: all had finished.
    if kind == "stop":
        os.kill(victim.pid, signal.SIGTERM)
        # Before training, there is nothing to save.
        allowed = {0, 128 + signal.SIGTERM} if trains else {0, 2, 143, -signal.SIGTERM}
    elif kind == "full_disk":
        victim = running[0]  # The chief writes.
        limit = int(10 ** chance.uniform(2, 5.5))
        assert victim.pid is not None
        resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (limit, limit))
        allowed = {0, 2}  # 0: no larger file was written.
    elif kind == "second":
        check_second(setting, model_dir, victim)
        victim.kill()
    else:
        victim.kill()
    for process in running:
        process.join(SECONDS_TO_END)
        if process.is_alive():
            was_alive = trains or kind == "full_disk"
            process.kill()
            process.join()
            if was_alive:
                raise UnexpectedEndError(f"{kind}: a process still ran after {SECONDS_TO_END} s")
        elif process.exitcode not in allowed | {-signal.SIGKILL}:
            raise UnexpectedEndError(
                f"{kind}: exit code {process.exitcode}:\n{printed_errors(model_dir)}"
            )
    if kind == "damage":
        damage(model_dir, chance)


def check_second(setting: Setting, model_dir: Path, first: BaseProcess) -> None:
    """Starts a second process in the directory of a run, which must be refused."""
    for name in ("stdout-0.txt", "stderr-0.txt"):
        kept = model_dir / name
        if kept.exists():
            kept.rename(model_dir / f"first-{name}")
    (second,) = survival_run.start(model_dir, dataclasses.replace(setting, workers=1))
    second.join(300)
    errors = printed_errors(model_dir)
    if second.exitcode == 2 and "another process" in errors:
        return
    first.join(SECONDS_TO_END)  # It has finished in the meantime.
    if second.exitcode or first.exitcode:
        raise UnexpectedEndError(f"second: exit code {second.exitcode}:\n{errors}")


def damage(model_dir: Path, chance: random.Random) -> None:
    """Changes a byte of the newest checkpoint, or truncates a file, if there is an older one."""
    found = checkpoints(model_dir)
    if len(found) < 2:
        return
    files = [found[-1], *model_dir.glob(f"{found[-1].stem}.data-*")]
    file = chance.choice(files)
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    if chance.random() < 0.5:
        del content[place:]
    else:
        content[place] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def printed_errors(model_dir: Path) -> str:
    return "".join(file.read_text()[-2000:] for file in sorted(model_dir.glob("stderr-*.txt")))


def finish(running: list[BaseProcess], model_dir: Path) -> None:
    for process in running:
        process.join()
        if process.exitcode:
            raise UnexpectedEndError(printed_errors(model_dir))


def disturbed_run(
    model_dir: Path,
    setting: Setting,
    arguments: argparse.Namespace,
    chance: random.Random,
    counts: collections.Counter[tuple[str, str]],
    deadline: float,
) -> None:
    """Disturbs a run until it ends, or until there were enough disturbances."""
    while True:
        kind = chance.choice(arguments.kinds)
        clock = chance.randrange(1, 1 << 30) if kind == "clock" else 0
        enough = sum(counts.values()) >= arguments.count or time.monotonic() > deadline
        running = survival_run.start(model_dir, dataclasses.replace(setting, clock=clock))
        if enough or not wait_for_moment(kind, running, model_dir, chance):
            finish(running, model_dir)
            return
        counts[kind, phase(model_dir)] += 1
        disturb(kind, running, setting, model_dir, chance)
        if not any(process.exitcode for process in running):
            return  # It ended before it was disturbed.


def report(counts: collections.Counter[tuple[str, str]], wrong: list[str]) -> int:
    """Prints the counts and what was wrong; returns the exit code."""
    for (kind, doing), count in sorted(counts.items()):
        print(f"{count:6} {kind:10} {doing}")
    print("\n".join(wrong) or "every run ended as the undisturbed one, bit for bit")
    return int(bool(wrong))


def chosen(parser: argparse.ArgumentParser, option: str, text: str, known: list[str]) -> list[str]:
    """Returns the names in the text of an option; "all" are all that are known."""
    names = known if text == "all" else text.split(",")
    if unknown := set(names) - set(known):
        parser.error(f"{option}: {', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50, help="disturbances (default: 50)")
    parser.add_argument("--minutes", type=float, default=1e6, help="largest time")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--kinds", default="kill", help=f"all, or some of {', '.join(KINDS)}")
    variants = list(survival_run.VARIANTS)
    parser.add_argument(
        "--variants", default="batch", help=f"all, or some of {', '.join(variants)}"
    )
    parser.add_argument("--graph", action="store_true", help="trace the training step")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.kinds = chosen(parser, "--kinds", arguments.kinds, list(KINDS))
    arguments.variants = chosen(parser, "--variants", arguments.variants, variants)
    chance = random.Random(arguments.seed)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    runs, wrong, expected = 0, [], {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        deadline = time.monotonic() + 60 * arguments.minutes
        while sum(counts.values()) < arguments.count and time.monotonic() < deadline:
            variant = arguments.variants[runs % len(arguments.variants)]
            setting = Setting(
                survival_run.write_config(directory, variant),
                arguments.workers,
                graph=arguments.graph,
            )
            if variant not in expected:
                finish(survival_run.start(directory / variant, setting), directory / variant)
                expected[variant] = contents(directory / variant)
                if not survival_run.skipped_steps(directory / variant):
                    raise SystemExit("no step was skipped because its loss was NaN")
            runs += 1
            model_dir = directory / f"{variant}-{runs}"
            try:
                disturbed_run(model_dir, setting, arguments, chance, counts, deadline)
            except UnexpectedEndError as error:
                wrong.append(f"run {runs}, {variant}: {error}")
                print(wrong[-1], flush=True)
                continue
            found = differences(expected[variant], contents(model_dir))
            wrong += [f"run {runs}, {variant}: {name}" for name in found]
            total = sum(counts.values())
            print(f"{total} disturbances, {runs} runs, {len(wrong)} differences", flush=True)
    return report(counts, wrong)


if __name__ == "__main__":
    sys.exit(main())
