"""Checks of the choice of an optimizer, of factors on learning rates, and of what tasks train.

The names and the parameters of optimizers of Keras are checked later, because that requires
TensorFlow.
"""

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.optimizer_sections import is_adam
from keras_mtl.configuration.schema import OptimizerConfig
from keras_mtl.configuration.variable_patterns import check_pattern, check_patterns

# Parameters of our Adam. Others have their own defaults, in `trainer.optimizer.parameters`.
_ADAMS = ("beta_1", "beta_2", "epsilon", "weight_decay", "moments")


def check(draft: Draft) -> None:
    """Adds to a draft what is wrong with the optimizer and with what tasks train."""
    settings, section = draft.config.trainer.optimizer, "trainer.optimizer"
    if is_adam(settings):
        if settings.parameters:
            draft.problem(
                f"{section}.parameters",
                f"= {settings.parameters}: the optimizer adam has fields of its own: set "
                f"{section}.beta_1, beta_2, epsilon or weight_decay",
            )
    else:
        _check_other(draft, settings)
    for number, rule in enumerate(settings.learning_rate_factors):
        path = f"{section}.learning_rate_factors[{number}]"
        if not rule.match:
            draft.problem(f"{path}.match", "is empty; give a regular expression such as encoder/.*")
        check_pattern(draft, f"{path}.match", rule.match)
        draft.range(f"{path}.factor", 0)
    _check_trained(draft)


def _check_other(draft: Draft, settings: OptimizerConfig) -> None:
    default, section = OptimizerConfig(), "trainer.optimizer"
    for name in _ADAMS:
        value = getattr(settings, name)
        if value != getattr(default, name):
            remedy = f"give {section}.parameters what {settings.name} calls it"
            if name == "moments":
                remedy = "remove it"
            draft.problem(
                f"{section}.{name}",
                f"= {value!r} belongs to the optimizer adam, but {section}.name is "
                f"{settings.name!r}; {remedy}",
            )
    for number, source in enumerate(draft.config.task.model.init):
        if source.moments:
            draft.problem(
                f"task.model.init[{number}].moments",
                f"= true continues Adam's moments, but {section}.name is {settings.name!r}; set it "
                "to false",
            )


def _check_trained(draft: Draft) -> None:
    """Checks `task.pairs[].train_only`."""
    task = draft.config.task
    for index, pair in enumerate(task.pairs):
        path = f"task.pairs[{index}].train_only"
        check_patterns(draft, path, pair.train_only)
        if pair.train_only and task.data.granularity == "example":
            draft.problem(
                path,
                f"= {pair.train_only}: a batch with task.data.granularity = 'example' has several "
                "tasks, and a gradient for all of them; set task.data.granularity: batch",
            )
