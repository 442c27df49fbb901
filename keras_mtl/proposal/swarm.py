"""The proxy runs of a proposal: their configurations, their directories, and what they measured.

    DIR/proxies/0007/experiment.yaml   the configuration of a run, with its weights
    DIR/proxies/0007/metrics.jsonl     its log, with the dev losses of its last validation
    DIR/baselines/en-fr/               a run of one task, if the objective compares with baselines
    DIR/data/, DIR/data-2/, ...        prepared data, unless `task.data.data_dir` names it

The directories are the whole state. A run that has a configuration is planned; a run whose log has
the losses of its last step is done. So a swarm that was killed continues, and the runs of a swarm
stay useful when tasks are added or removed.
"""

import copy
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.files import diff, load_experiment, load_params
from keras_mtl.configuration.keeping import BestConfig, StoppingConfig
from keras_mtl.configuration.schema import DataConfig, ExperimentConfig, PairConfig
from keras_mtl.configuration.source_vocabulary import has_source_vocabulary
from keras_mtl.data.prepared import read_manifest
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.errors import ConfigError, DataError, InputError
from keras_mtl.events import of_kind, read_events, task_curves
from keras_mtl.files import replace_file
from keras_mtl.proposal.fitting import LEAST_RUNS, Measurements
from keras_mtl.proposal.proposer import Space
from keras_mtl.proposal.swarm_design import mixture, mixture_with_added, swarm_size
from keras_mtl.remote_files import is_remote
from keras_mtl.run_files import (
    BASELINES_FILE,
    METRICS_FILE,
    SOURCE_VOCABULARY_FILE,
    VOCABULARY_FILE,
)
from keras_mtl.simulation.experiment import experiment_of
from keras_mtl.training.run.baselines import best_score, single_task_config
from keras_mtl.training.run.jobs import CONFIG_FILE, Job, write_config
from keras_mtl.training.run.planning import plan_training

METRIC = "neg_log_perplexity"
"""The metric of proxy runs. Without its sign it is the dev loss, in nats per token."""

# Validations of a single-task run, of which the best is the baseline.
_BASELINE_VALIDATIONS = 10


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A planned proxy run.

    Attributes:
        name: its number, as four digits.
        directory: its directory.
        weights: weight of each of its tasks.
        steps: its number of training steps.
    """

    name: str
    directory: Path
    weights: Mapping[str, float]
    steps: int

    def losses(self) -> dict[str, float] | None:
        """Returns the dev loss of each task after the last step; None if it is not done."""
        if not (self.directory / METRICS_FILE).exists():
            return None
        events = of_kind(read_events(self.directory), "evaluation")
        curves = task_curves(events, "scores", METRIC)
        found = {task: -curves.get(task, {}).get(self.steps, np.nan) for task in self.weights}
        return found if np.isfinite(list(found.values())).all() else None


class Swarm:
    """The proxy runs of an experiment in a directory.

    Args:
        config: the experiment for which weights are proposed, with named tasks.
        directory: directory of the swarm.
        proxy_override: overrides that make a proxy smaller, as `--params_override`.

    Raises:
        ConfigError: an override is wrong.
    """

    def __init__(
        self, config: ExperimentConfig, directory: str | Path, proxy_override: Sequence[str] = ()
    ) -> None:
        self.directory = Path(directory)
        self.config = config
        self.tasks = tuple(pair.name for pair in config.task.pairs)
        self._override = list(proxy_override)
        data = config.task.data
        self.data_dir = data.data_dir or self._own_data()
        self._keeps_vocabularies = not data.data_dir and self.data_dir != str(
            self.directory / "data"
        )
        self._proxy = self._make_proxy()

    def _own_data(self) -> str:
        """Returns the first data of the swarm that has all tasks, or a new directory."""
        number = 1
        while True:
            path = str(self.directory / ("data" if number == 1 else f"data-{number}"))
            manifest = read_manifest(path)
            if manifest is None or set(self.tasks) <= {t["name"] for t in manifest["tasks"]}:
                return path
            number += 1

    def _make_proxy(self) -> ExperimentConfig:
        """Returns the configuration of proxy runs, without weights."""
        proxy = copy.deepcopy(self.config)
        trainer = proxy.trainer
        trainer.max_to_keep = 1
        trainer.evaluation.interval = 0
        trainer.evaluation.tasks = []
        # All dev pairs: the fewer, the noisier the losses.
        trainer.evaluation.max_pairs = max(1, proxy.task.data.dev_pairs)
        trainer.evaluation.lag = trainer.evaluation.max_tasks = trainer.evaluation.samples = 0
        trainer.evaluation.attention = trainer.evaluation.histograms = False
        for text in self._override:
            proxy = load_experiment(proxy, params_override=text, check=None)
        trainer = proxy.trainer
        trainer.evaluation.metric = METRIC
        trainer.stopping, trainer.best = StoppingConfig(), BestConfig()
        trainer.schedule.name, trainer.schedule.parameters = "constant", {}
        trainer.schedule.baselines_file = ""
        trainer.schedule.max_epochs, trainer.schedule.overfit_patience = None, 0
        data_dir = self.data_dir
        proxy.task.data.data_dir = data_dir if is_remote(data_dir) else os.path.abspath(data_dir)
        if self._keeps_vocabularies:
            self._keep_vocabularies(proxy.task.data)
        for pair in proxy.task.pairs:
            pair.baseline, pair.metric, pair.max_epochs = None, "", None
        return proxy

    def _keep_vocabularies(self, data: DataConfig) -> None:
        """Sets the vocabularies of the first data of the swarm, unless others are configured.

        Losses of one task are comparable only if its text is split into the same pieces.
        """
        separate = has_source_vocabulary(data)
        first = (self.directory / "data").absolute()
        data.vocabulary.model_file = data.vocabulary.model_file or str(first / VOCABULARY_FILE)
        if separate and not data.source_vocabulary.model_file:
            data.source_vocabulary.model_file = str(first / SOURCE_VOCABULARY_FILE)

    @property
    def proxy_steps(self) -> int:
        """Number of training steps of a proxy run."""
        return self._proxy.trainer.train_steps

    def proxy_config(self, weights: Mapping[str, float]) -> ExperimentConfig:
        """Returns the configuration of a proxy run with some weights."""
        proxy = copy.deepcopy(self._proxy)
        proxy.trainer.schedule.parameters = {
            "weights": {name: float(weights[name]) for name in self.tasks}
        }
        return proxy

    def baseline_config(self, pair: PairConfig) -> ExperimentConfig:
        """Returns the configuration of a proxy run of one task, whose best loss is its baseline."""
        single = single_task_config(self._proxy, pair)
        interval = max(1, single.trainer.train_steps // _BASELINE_VALIDATIONS)
        single.trainer.evaluation.interval = interval
        return single

    def check(self) -> None:
        """Checks the configurations of the runs.

        Raises:
            ConfigError: one is wrong, or tasks are not trained from the first step to the last.
        """
        if len(self.tasks) < 2:
            raise ConfigError("a proposal needs at least 2 tasks, whose weights can differ")
        for pair in self.config.task.pairs:
            for field in ("introduce_at", "stop_at"):
                if value := getattr(pair, field):
                    raise ConfigError(
                        f"task {pair.name!r}: {field} is {value}, but a proposal is for weights "
                        "that are the same in all steps. Remove it"
                    )
        for config, what in (
            (self.proxy_config(dict.fromkeys(self.tasks, 1.0)), "proxy run"),
            (self.baseline_config(self._proxy.task.pairs[0]), "single-task run"),
        ):
            try:
                plan_training(Draft(config))
            except ConfigError as error:
                raise ConfigError(f"configuration of a {what}: {error}") from error

    def prepare_job(self) -> Job:
        """Returns the job that prepares the data, if that is not done yet."""
        write_config(self.proxy_config(dict.fromkeys(self.tasks, 1.0)), self.directory)
        command = ["prepare", "--config_file", str(self.directory / CONFIG_FILE)]
        return Job("data", [command], self.directory / "prepare.log")

    def space(self, max_passes: float) -> Space:
        """Returns the weights that may be proposed, for the steps of the experiment itself.

        Args:
            max_passes: largest number of passes over the data of a task.

        Raises:
            ConfigError: the data is not prepared.
            InputError: the data does not last for the planned steps.
        """
        config = copy.deepcopy(self.config)
        config.task.data.data_dir = self.data_dir
        config.trainer.schedule.baselines_file = ""
        experiment = experiment_of(config)
        sizes = np.array([task.size for task in experiment.tasks], np.float64)
        if empty := [task.name for task in experiment.tasks if task.size < 1]:
            raise ConfigError(f"task {empty[0]!r} has no training pairs. Remove it")
        rows = experiment.rows
        if experiment.mixed:
            # Weights are shares of examples, and a batch has as many as the mean length allows.
            rows = np.full(len(sizes), sizes.sum() / (sizes / rows).sum())
        batches = experiment.steps * experiment.batches_per_step
        space = Space(sizes, batches * rows / sizes, max_passes)
        space.check()
        return space

    def recorded(self) -> list[Proxy]:
        """Returns the planned runs, in the order of their numbers.

        Raises:
            ConfigError: a run was planned with another configuration.
            DataError: a run has another vocabulary.
        """
        found = []
        for path in sorted(self.directory.glob(f"proxies/*/{CONFIG_FILE}")):
            config = load_params(path)
            self._check_same(path, config)
            self._check_vocabularies(path.parent)
            weights = config.trainer.schedule.parameters["weights"]
            steps = config.trainer.train_steps
            found.append(Proxy(path.parent.name, path.parent, dict(weights), steps))
        return found

    def plan(self, space: Space, proxies: int | None, seed: int) -> list[Proxy]:
        """Plans the runs that are missing, and writes their configurations.

        If tasks were added since earlier runs, new runs give weight to all tasks. There are as many
        as for a swarm of only the added tasks. If tasks were removed, the old runs suffice.

        Args:
            space: the allowed weights.
            proxies: number of all runs; None takes one that is linear in the number of tasks.
            seed: seed of the weights of new runs.

        Returns:
            All planned runs.
        """
        known = self.recorded()
        wanted = swarm_size(len(self.tasks)) if proxies is None else proxies
        new = wanted - len(known)
        added = [i for i, t in enumerate(self.tasks) if any(t not in run.weights for run in known)]
        complete = sum(set(self.tasks) <= set(run.weights) for run in known)
        if added:
            new = max(new, swarm_size(len(added)) - complete)
        start = 1 + max((int(run.name) for run in known), default=-1)
        bounds = space.natural, space.low, space.high
        for place in range(max(0, new)):
            index = start + place
            if added and len(added) < len(self.tasks):
                drawn = mixture_with_added(seed, index, complete + place, *bounds, added)
            else:
                drawn = mixture(seed, index, *bounds)
            weights = dict(zip(self.tasks, map(float, drawn), strict=True))
            directory = self.directory / "proxies" / f"{index:04d}"
            write_config(self.proxy_config(weights), directory)
            known.append(Proxy(directory.name, directory, weights, self.proxy_steps))
        return known

    def proxy_jobs(self, runs: Sequence[Proxy]) -> list[Job]:
        """Returns the jobs of the runs that are not done."""
        return [
            _training(f"proxy {run.name}", run.directory) for run in runs if run.losses() is None
        ]

    def baseline_jobs(self) -> list[Job]:
        """Returns the jobs of the single-task runs that are not done."""
        jobs = []
        known = self._known_baselines()
        for pair in self._proxy.task.pairs:
            directory = self.directory / "baselines" / pair.name
            config = self.baseline_config(pair)
            if (directory / CONFIG_FILE).exists():
                self._check_same(directory / CONFIG_FILE, load_params(directory / CONFIG_FILE))
            elif pair.name not in known:
                write_config(config, directory)
            if pair.name not in known:
                jobs.append(_training(f"baseline {pair.name}", directory))
        return jobs

    def record_baselines(self) -> np.ndarray:
        """Records the best loss of each finished single-task run.

        Returns:
            float64[N], the losses of the tasks, in nats per token.
        """
        known = self._known_baselines()
        for pair in self._proxy.task.pairs:
            if pair.name not in known:
                directory = self.directory / "baselines" / pair.name
                known[pair.name] = best_score(self.baseline_config(pair), directory)
        path = self.directory / "baselines" / BASELINES_FILE
        replace_file(path, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
        return np.array([known[task] for task in self.tasks])

    def _known_baselines(self) -> dict[str, float]:
        path = self.directory / "baselines" / BASELINES_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def measurements(self, runs: Sequence[Proxy]) -> Measurements:
        """Returns what finished runs have measured.

        Raises:
            InputError: too few runs are finished.
        """
        done = [(run, losses) for run in runs if (losses := run.losses()) is not None]
        if len(done) < LEAST_RUNS:
            raise InputError(
                f"{self.directory}: {len(done)} proxy runs are finished, but laws need at least "
                f"{LEAST_RUNS}. Give a larger number of proxies"
            )
        names = dict.fromkeys(task for run, _ in done for task in run.weights)
        former = tuple(task for task in names if task not in self.tasks)
        weights = [
            [run.weights.get(task, 0.0) for task in (*self.tasks, *former)] for run, _ in done
        ]
        return Measurements(
            runs=tuple(run.name for run, _ in done),
            tasks=self.tasks,
            former=former,
            weights=np.array(weights),
            losses=np.array([[own.get(task, np.nan) for task in self.tasks] for _, own in done]),
        )

    def _check_same(self, path: Path, config: ExperimentConfig) -> None:
        """Checks that a run differs from new ones only in its weights and its tasks."""
        single = len(config.task.pairs) == 1
        new = (
            self.baseline_config(self._proxy.task.pairs[0])
            if single
            else self.proxy_config(dict.fromkeys(self.tasks, 1.0))
        )
        own = {pair.name: pair for pair in self._proxy.task.pairs}
        old = copy.deepcopy(config)
        new.task.pairs = [own.get(pair.name, pair) for pair in old.task.pairs]
        for each in (old, new):
            each.trainer.schedule.parameters = {}
            each.task.data.data_dir = each.task.data.vocabulary.model_file = ""
            each.task.data.source_vocabulary.model_file = ""
        if changes := diff(old, new):
            field, before, now = changes[0]
            raise ConfigError(
                f"{path}: {field} is {before!r}, but a new proxy run would have {now!r}. Losses of "
                "different configurations are not comparable. Restore it, or use another "
                "--model_dir"
            )

    def _check_vocabularies(self, directory: Path) -> None:
        """Checks that a run splits text as the data does; tags of languages may be added."""
        for name in (VOCABULARY_FILE, SOURCE_VOCABULARY_FILE):
            old, new = directory / name, Path(self.data_dir, name)
            if not (old.exists() and new.exists()) or old.read_bytes() == new.read_bytes():
                continue
            pieces = [Vocabulary.load(path).text_pieces() for path in (old, new)]
            first, second = ({text: item[1] for text, item in own.items()} for own in pieces)
            if first != second:
                raise DataError(
                    f"{old}: the vocabulary of this run differs from that of {self.data_dir}, so "
                    "losses are not comparable. Set model_file of the vocabulary to that of the "
                    "run and prepare the data again, or use another --model_dir"
                )


def _training(name: str, directory: Path) -> Job:
    """Returns the job that trains a run from its configuration."""
    config = str(directory / CONFIG_FILE)
    command = ["train", "--config_file", config, "--model_dir", str(directory)]
    return Job(name, [command], directory.with_name(f"{directory.name}.log"))
