"""Makes the configuration of each run of a sweep, and checks all before the first starts."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.files import load_experiment, name_tasks
from keras_mtl.configuration.overriding import apply
from keras_mtl.configuration.reading import Override
from keras_mtl.configuration.schema import ExperimentConfig, PairConfig
from keras_mtl.errors import ConfigError
from keras_mtl.events import of_kind, read_events, task_curves
from keras_mtl.run_files import BASELINES_FILE
from keras_mtl.training.run.baselines import best_score, single_task_config
from keras_mtl.training.run.planning import plan_training
from sweep.definition import Definition, RunKey, Values, nested

LOSSES_FILE = "losses.json"
"""For each task, the last training loss of its baseline, in nats per target token."""

_LOSSES = "@baseline_losses"


class SweepPlan:
    """The configurations of a sweep.

    Args:
        definition: the sweep.
        directory: directory of all runs.
        params_override: more overrides of every run, as `--params_override`.

    Attributes:
        definition: the sweep, with names for all sizes and sharings.
        directory: directory of all runs.
        base: configuration that all runs start from, with which the data is prepared.

    Raises:
        ConfigError: a field is wrong.
    """

    def __init__(self, definition: Definition, directory: Path, params_override: list[str]) -> None:
        import keras_mtl.data.corpora  # noqa: F401  Registers the readers.

        self.directory = directory
        self._more = params_override
        self.base = load_experiment(
            definition.experiment,
            [str(file) for file in definition.config_files],
            check=None,
        )
        self.definition = definition.with_models(
            self.base.task.model.size, self.base.task.model.sharing
        )
        self.base = self._configured([self.definition.overrides], "overrides")

    def run_config(self, key: RunKey) -> ExperimentConfig:
        """Returns the configuration of a run. Its baselines must be trained."""
        config = self._with_setting(key, self._losses(key.size))
        if self.definition.baselines is not None:
            for pair in config.task.pairs:
                pair.baseline = None
            config.trainer.schedule.baselines_file = str(
                (self.baselines_directory(key.size) / BASELINES_FILE).absolute()
            )
        return config

    def baseline_config(self, size: str, pair: PairConfig) -> ExperimentConfig:
        """Returns the configuration of a single-task run."""
        sections = [self.definition.overrides, self.definition.sizes[size]]
        config = self._configured([*sections, self.definition.baselines or {}], "baselines")
        return single_task_config(config, pair)

    def baselines_directory(self, size: str) -> Path:
        """Returns the directory of the single-task runs of a size."""
        return self.directory / "baselines" / size

    def check(self) -> None:
        """Checks every configuration; baselines that are not trained yet count as 1.

        Raises:
            ConfigError: a configuration is wrong, or a list of tasks names an unknown one.
        """
        tasks = [pair.name for pair in self.base.task.pairs]
        for field in ("high_resource", "low_resource"):
            for task in getattr(self.definition, field):
                if task not in tasks:
                    raise ConfigError(
                        f"{self.definition.path}: {field}: unknown task {task!r}. The tasks are "
                        f"{', '.join(tasks)}"
                    )
        losses = None if self.definition.baselines is None else dict.fromkeys(tasks, 1.0)
        seed = self.definition.seeds[0]
        for key in dict.fromkeys(k._replace(seed=seed) for k in self.definition.run_keys()):
            config = self._with_setting(key, losses)
            if self.definition.baselines is not None:
                for pair in config.task.pairs:
                    pair.baseline = 1.0
            self._checked(config, f"setting {key.setting!r}, size {key.size!r}")
        if self.definition.baselines is not None:
            for size in self.definition.sizes:
                config = self.baseline_config(size, self.base.task.pairs[0])
                self._checked(config, f"baselines, size {size!r}")

    def record_baselines(self, size: str) -> None:
        """Writes the scores and the training losses of the single-task runs of a size."""
        scores, losses = {}, {}
        directory = self.baselines_directory(size)
        for pair in self.base.task.pairs:
            own = directory / pair.name
            score = best_score(self.baseline_config(size, pair), own)
            if score <= 0:
                raise ConfigError(
                    f"{own}: the best score is {score:g}, but a baseline must be > 0. Train "
                    f"longer (baselines of {self.definition.path})"
                )
            scores[pair.name] = score
            trained = task_curves(of_kind(read_events(own), "train"), "loss")[pair.name]
            losses[pair.name] = list(trained.values())[-1]
        for name, found in ((BASELINES_FILE, scores), (LOSSES_FILE, losses)):
            (directory / name).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    def _losses(self, size: str) -> dict[str, float] | None:
        path = self.baselines_directory(size) / LOSSES_FILE
        if not path.exists():
            return None
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def _with_setting(self, key: RunKey, losses: Mapping[str, float] | None) -> ExperimentConfig:
        """Returns the configuration of a run without baselines."""
        definition = self.definition
        own = definition.settings[key.setting]
        if losses is not None:
            own = _replaced(own, losses)
        elif _replaced(own, {}) != own:
            raise ConfigError(
                f"{definition.path}: settings.{key.setting} uses {_LOSSES}, which requires "
                "`baselines`"
            )
        model = {"task.model.sharing": key.sharing, "runtime.seed": key.seed}
        sections = [definition.overrides, definition.sizes[key.size]]
        # The parameters of the configuration's schedule would be merged with those of the setting.
        reset: Values = {"trainer": {"schedule": {"parameters": {}}}}
        identity = nested(definition.path, "runs", model)
        return self._configured([*sections, reset, own, identity], f"settings.{key.setting}")

    def _configured(self, sections: list[Values], what: str) -> ExperimentConfig:
        """Returns the base configuration with overrides, one over the other."""
        name = f"{self.definition.path}: {what}"
        config, problems = copy.deepcopy(self.base), []
        for values in sections:
            override = Override(
                name, copy.deepcopy(dict(values)), {}, str(self.definition.path.parent.absolute())
            )
            problems += apply(config, override)
        if problems:
            raise ConfigError("\n  ".join(text for _, text in problems))
        for text in self._more:
            config = load_experiment(config, params_override=text, check=None)
        name_tasks(config)
        config.task.data.data_dir = str((self.directory / "data").absolute())
        return config

    def _checked(self, config: ExperimentConfig, what: str) -> None:
        try:
            plan_training(Draft(config))
        except ConfigError as error:
            raise ConfigError(f"{self.definition.path}: {what}: {error}") from error


def _replaced(values: Any, losses: Mapping[str, float]) -> Any:
    if isinstance(values, Mapping):
        return {key: _replaced(value, losses) for key, value in values.items()}
    return dict(losses) if values == _LOSSES else values
