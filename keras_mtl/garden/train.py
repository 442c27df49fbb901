"""Model Garden's command line for the trainer of keras_mtl: `python -m keras_mtl.garden.train`.

The flags are those of Model Garden (`official.common.flags`), and `--experiment` names an
experiment of its `exp_factory`. Files and overrides are checked, and the run is made, as in
`keras-mtl train`. `train_lib.run_experiment` of Model Garden is not suitable: its checkpoints do
not contain schedules, scores and data positions, and its tasks build tf_keras models.
"""

import functools
import sys
from collections.abc import Sequence

from absl import app, flags
from official.common import flags as garden_flags

import keras_mtl.data.corpora  # noqa: F401  Registers the readers.
from keras_mtl import errors, interrupts
from keras_mtl.configuration import plugins
from keras_mtl.configuration.files import read_experiment
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.garden import experiments
from keras_mtl.training.run.modes import MODES
from keras_mtl.training.run.planning import TrainingPlan, plan_training

_EXIT_USER = 2

_IMPORT = "import"
# Flags of Model Garden that keras_mtl does not support.
_WITHOUT_EFFECT = (
    "gin_file",
    "gin_params",
    "tf_data_service",
    "tpu_platform",
    "tfhub_handle",
    "tflex_output_uri",
)


def define_flags() -> None:
    """Defines the flags of Model Garden, and `--import` for plug-ins."""
    garden_flags.define_flags()
    flags.DEFINE_multi_string(
        _IMPORT, default=[], help="Plug-in to import first, such as my_package.experiments."
    )


def training_plan(values: flags.FlagValues) -> TrainingPlan:
    """Returns the plan of the training that the flags define.

    Args:
        values: parsed flags of `define_flags`.

    Raises:
        ConfigError: a flag is missing or not supported, the experiment is unknown, or the
            configuration is invalid.
    """
    for name in ("experiment", "mode", "model_dir"):
        if not values[name].value:
            raise errors.ConfigError(f"--{name} is missing")
    for name in _WITHOUT_EFFECT:
        if values[name].value:
            raise errors.ConfigError(f"--{name} has no effect on keras_mtl. Omit it")
    if values.mode not in MODES:
        raise errors.ConfigError(f"--mode {values.mode}: choose one of {', '.join(MODES)}")
    imports = plugins.load(values[_IMPORT].value)
    overrides = [values.params_override] if values.params_override else []
    if values.tpu:
        # As in Model Garden, only the address. The configuration defines the strategy.
        overrides.insert(0, f"runtime.tpu={values.tpu!r}")
    draft = read_experiment(
        experiments.experiment(values.experiment),
        values.config_file or [],
        overrides,
        imports=imports,
    )
    plan = plan_training(draft, values.mode)
    config = plan.config
    if values.tpu and config.runtime.distribution_strategy != "tpu":
        raise errors.ConfigError(
            f"--tpu {values.tpu}: runtime.distribution_strategy is "
            f"{config.runtime.distribution_strategy!r}. Set it to tpu, or omit --tpu"
        )
    return plan


def main(_: Sequence[str]) -> None:
    """Trains or evaluates according to the flags. Exits with 2 after an error of the user."""
    try:
        plan = training_plan(flags.FLAGS)
        # Imported late: TensorFlow is already loaded, but its devices are not initialized.
        from keras_mtl.training.run.loop import run_experiment

        log = functools.partial(print, flush=True)
        with interrupts.prompt_interrupts():
            result = run_experiment(plan, flags.FLAGS.model_dir, log)
    except errors.KerasMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(_EXIT_USER)
    if not result.chief:
        return
    print(f"step {result.step:,} in {flags.FLAGS.model_dir}")
    metrics = TaskMetrics.of(plan.config)
    for name, score in result.scores.items():
        print(f"{name}: {metrics.by_task[name]} {score:.2f}")


if __name__ == "__main__":
    define_flags()
    app.run(main)
