r"""Compares proposed weights with the temperatures of a sweep, at equal total compute.

    python benchmarks/compare_proposer.py benchmarks/evidence/debian_docs.yaml \
      --model_dir runs/debian_docs_sweep --size tiny --sharing full

First the settings `temperature_*` and `proportional` of the sweep run. Then `keras-mtl propose`
trains proxy runs with the configuration of the sweep, in MODEL_DIR/proposer. Last, a new setting
`proposed` runs with all seeds, and the report compares it with the best temperature. Runs that
MODEL_DIR already has are not repeated, and an interrupted comparison resumes.

The search for a temperature costs one run for each temperature that is tried; the proposal costs
its proxy runs and one run. --proxy_steps defaults to the number with which both cost the same:
(temperatures - 1) * steps / proxies. The output compares the two costs in training steps. The model
of a proxy is that of the runs, so steps are comparable. Arguments after `--` go to
`keras-mtl propose`.
"""

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from compare_schedules import add_run_arguments, run_sweep
from sweep.definition import Definition, RunKey, read_definition
from sweep.planning import SweepPlan

from keras_mtl.cli import main as cli
from keras_mtl.configuration.files import save_params
from keras_mtl.errors import ConfigError, KerasMtlError
from keras_mtl.proposal.swarm_design import swarm_size

SETTING = "proposed"


def temperatures(definition: Definition) -> list[str]:
    """Returns the settings that search a temperature."""
    found = [
        name
        for name in definition.settings
        if name == "proportional" or name.startswith("temperature_")
    ]
    if len(found) < 2:
        raise ConfigError(
            f"{definition.path}: settings has no two of proportional and temperature_*"
        )
    return found


def with_proposal(
    definition: Definition, weights: Mapping[str, float], size: str, sharing: str
) -> Definition:
    """Returns the sweep with one more setting, for the proposed weights."""
    own = {"trainer": {"schedule": {"name": "constant", "parameters": {"weights": dict(weights)}}}}
    others = definition.runs or ({"settings": list(definition.settings)},)
    entry = {"settings": [SETTING], "sizes": [size], "sharings": [sharing]}
    return dataclasses.replace(
        definition, settings={**definition.settings, SETTING: own}, runs=(*others, entry)
    )


def propose(plan: SweepPlan, key: RunKey, words: list[str]) -> dict[str, float]:
    """Runs `keras-mtl propose` for the tasks of a sweep.

    Args:
        plan: the sweep; its data is prepared.
        key: a run with the size and the sharing.
        words: more arguments.

    Returns:
        The weights by task.
    """
    directory = plan.directory / "proposer"
    save_params(plan.run_config(key), directory / "config.yaml")
    command = ["propose", "--config_file", str(directory / "config.yaml")]
    if code := cli.main([*command, "--model_dir", str(directory), *words]):
        raise KerasMtlError(f"keras-mtl propose ended with exit code {code}")
    found = json.loads((directory / "proposal.json").read_text(encoding="utf-8"))
    return {task["name"]: task["weight"] for task in found["tasks"]}


def compare(args: argparse.Namespace, more: list[str]) -> int:
    """Runs the comparison; returns the exit code."""
    log = functools.partial(print, flush=True)
    directory = args.model_dir or Path("runs") / args.sweep.stem
    plan = SweepPlan(read_definition(args.sweep), directory, [])
    definition = plan.definition
    size = args.size or next(iter(definition.sizes))
    sharing = args.sharing or definition.sharings[0]
    names = temperatures(definition)

    def keys_of(plan: SweepPlan, settings: Sequence[str]) -> list[RunKey]:
        wanted = {(name, size, sharing) for name in settings}
        return [key for key in plan.definition.run_keys() if key[:3] in wanted]

    keys = keys_of(plan, names)
    if len({key.setting for key in keys}) < len(names):
        raise ConfigError(f"{args.sweep}: not every temperature has a run of {size}, {sharing}")
    tasks = [pair.name for pair in plan.base.task.pairs]
    equal = SweepPlan(
        with_proposal(definition, dict.fromkeys(tasks, 1.0), size, sharing), directory, []
    )
    equal.check()
    steps = plan.base.trainer.train_steps
    proxies = args.proxies or swarm_size(len(tasks))
    short = args.proxy_steps or (len(names) - 1) * steps // proxies
    log(
        f"search: {len(names)} runs of {steps:,} steps, {len(names) * steps:,} in all; "
        f"proposal: {proxies} proxy runs of {short:,} and one of {steps:,}, "
        f"{proxies * short + steps:,} in all"
    )
    # First, because it prepares the data that the proxies use.
    if code := run_sweep(plan, keys, args.jobs, args.results):
        return code
    words = ["--proxies", str(proxies), "--jobs", str(args.jobs)]
    words += ["--proxy_override", f"trainer.train_steps={short}", *more]
    weights = propose(plan, keys[0], words)
    final = SweepPlan(with_proposal(definition, weights, size, sharing), directory, [])
    return run_sweep(final, keys_of(final, [SETTING]), args.jobs, args.results)


def main() -> int:
    words = sys.argv[1:]
    more = words[words.index("--") + 1 :] if "--" in words else []
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, metavar="YAML", help="file of the sweep")
    add_run_arguments(parser)
    parser.add_argument("--size", help="size of the sweep (default: the first)")
    parser.add_argument("--sharing", help="sharing of the sweep (default: the first)")
    parser.add_argument("--proxies", type=int, help="number of proxy runs (default: as propose)")
    parser.add_argument("--proxy_steps", type=int, help="steps of each (default: equal compute)")
    args = parser.parse_args(words[: words.index("--")] if "--" in words else words)
    try:
        return compare(args, more)
    except KerasMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
