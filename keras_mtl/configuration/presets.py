"""Presets: named experiments that a configuration starts from.

`keras-mtl train --experiment NAME` starts from one of them. A new preset is a function in this
module or in a plug-in. `keras_mtl.garden.experiments` registers all presets with Model Garden.
"""

from collections.abc import Callable
from typing import TypeVar

from keras_mtl import errors
from keras_mtl.configuration.architectures import HYBRID, RNMT
from keras_mtl.configuration.schema import ExperimentConfig

DEFAULT = "translation/transformer"
FAMILY = "translation"
"""The family name without a member means `DEFAULT`."""

Preset = Callable[[], ExperimentConfig]

_Function = TypeVar("_Function", bound=Preset)
_PRESETS: dict[str, Preset] = {}


def register_preset(name: str) -> Callable[[_Function], _Function]:
    """Registers a function as a preset; a decorator.

    Example:
        ```python
        from keras_mtl.configuration.presets import register_preset
        from keras_mtl.configuration.schema import ExperimentConfig

        @register_preset("translation/mine")
        def mine() -> ExperimentConfig:
            experiment = ExperimentConfig()
            experiment.task.model.size = "small"
            return experiment
        ```

    Args:
        name: unique name; by convention it begins with the kind of task, as in `translation/`.

    Raises:
        ConfigError: another function already has this name.
    """

    def register(function: _Function) -> _Function:
        known = _PRESETS.get(name, function)
        if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise errors.ConfigError(
                f"the preset {name!r} of {function.__qualname__} is taken by "
                f"{known.__module__}.{known.__qualname__}; choose another name"
            )
        _PRESETS[name] = function
        return function

    return register


def available() -> list[str]:
    """Returns the names of all presets, sorted."""
    return sorted(_PRESETS)


def check_name(name: str | None) -> None:
    """Checks that a preset has this name.

    Raises:
        ConfigError: no preset has it.
    """
    if name and name != FAMILY and name not in _PRESETS:
        raise errors.ConfigError(
            f"--experiment: {name!r} is not registered{errors.nearest(name, _PRESETS)}"
        )


def preset(name: str | None = None) -> ExperimentConfig:
    """Returns a new configuration from a preset, without overrides.

    Args:
        name: registered name; None, an empty string or `translation` means `DEFAULT`.

    Raises:
        ConfigError: the name is unknown, or the preset is not an `ExperimentConfig`.
    """
    check_name(name)
    if not name or name == FAMILY:
        name = DEFAULT
    config = _PRESETS[name]()
    if not isinstance(config, ExperimentConfig):
        raise errors.ConfigError(
            f"--experiment: the preset {name!r} returns {type(config).__module__}."
            f"{type(config).__qualname__}; it must return an ExperimentConfig of "
            "keras_mtl.configuration.schema"
        )
    return config


@register_preset("translation/transformer")
def transformer() -> ExperimentConfig:
    """The default of every field."""
    return ExperimentConfig()


@register_preset("translation/transformer_tiny")
def transformer_tiny() -> ExperimentConfig:
    """A tiny model that learns short sentences in minutes on a CPU."""
    experiment = ExperimentConfig()
    _make_tiny(experiment)
    return experiment


def _make_tiny(experiment: ExperimentConfig) -> None:
    """Sets what all tiny models share."""
    experiment.task.model.size = "tiny"
    experiment.task.data.vocabulary.size = 4000
    experiment.task.data.max_length = 64
    experiment.task.data.tokens_per_batch = 2048
    experiment.task.decoding.max_length = 64
    experiment.trainer.train_steps = 2000
    experiment.trainer.optimizer.warmup_steps = 400
    experiment.trainer.evaluation.interval = 500
    experiment.trainer.checkpoint_interval = 500


@register_preset("translation/transformer_small")
def transformer_small() -> ExperimentConfig:
    """A small model for a few hundred thousand pairs."""
    experiment = ExperimentConfig()
    experiment.task.model.size = "small"
    experiment.task.data.max_length = 96
    experiment.task.data.tokens_per_batch = 4096
    experiment.trainer.train_steps = 20_000
    experiment.trainer.optimizer.warmup_steps = 1000
    return experiment


@register_preset("translation/transformer_base")
def transformer_base() -> ExperimentConfig:
    """The base model of Vaswani et al., arXiv 1706.03762, table 3, with its batch and steps."""
    experiment = ExperimentConfig()
    experiment.task.model.size = "base"
    experiment.task.data.vocabulary.size = 32_000
    experiment.task.data.tokens_per_batch = 25_000
    experiment.trainer.train_steps = 100_000
    experiment.trainer.optimizer.warmup_steps = 4000
    return experiment


@register_preset("translation/transformer_deep_shallow")
def transformer_deep_shallow() -> ExperimentConfig:
    """Twelve encoder layers and one decoder layer, for fast decoding; Kasai et al., 2006.10369."""
    experiment = transformer_base()
    experiment.task.model.size = "deep_shallow"
    return experiment


@register_preset("translation/transformer_big")
def transformer_big() -> ExperimentConfig:
    """The big model of Vaswani et al., arXiv 1706.03762, table 3, with its batch and steps."""
    experiment = ExperimentConfig()
    experiment.task.model.size = "big"
    experiment.task.data.vocabulary.size = 32_000
    experiment.task.data.tokens_per_batch = 25_000
    experiment.trainer.train_steps = 300_000
    experiment.trainer.optimizer.warmup_steps = 4000
    return experiment


@register_preset("translation/rnmt_tiny")
def rnmt_tiny() -> ExperimentConfig:
    """A tiny recurrent model, with the batch and the steps of `transformer_tiny`."""
    experiment = ExperimentConfig()
    experiment.task.model.architecture = RNMT
    _make_tiny(experiment)
    return experiment


@register_preset("translation/rnmt_base")
def rnmt_base() -> ExperimentConfig:
    """RNMT+ of Chen et al., arXiv 1804.09849, with the numbers of Lingvo's WmtEnDeRNMT.

    The learning rate is constant after the warm-up, as in Lingvo until step 400,000.
    """
    experiment = ExperimentConfig()
    experiment.task.model.architecture = RNMT
    _make_recurrent_base(experiment)
    return experiment


@register_preset("translation/hybrid_tiny")
def hybrid_tiny() -> ExperimentConfig:
    """A tiny hybrid, with the batch and the steps of `transformer_tiny`."""
    experiment = ExperimentConfig()
    experiment.task.model.architecture = HYBRID
    _make_tiny(experiment)
    return experiment


@register_preset("translation/hybrid_base")
def hybrid_base() -> ExperimentConfig:
    """The encoder of the big Transformer with the decoder of RNMT+, arXiv 1804.09849, section 5."""
    experiment = ExperimentConfig()
    experiment.task.model.architecture = HYBRID
    _make_recurrent_base(experiment)
    return experiment


def _make_recurrent_base(experiment: ExperimentConfig) -> None:
    """Sets what Lingvo sets for all its models of RNMT+."""
    experiment.task.model.tie_embeddings = False
    experiment.task.data.vocabulary.size = 32_000
    experiment.task.data.tokens_per_batch = 25_000
    experiment.trainer.train_steps = 400_000
    optimizer = experiment.trainer.optimizer
    optimizer.learning_rate_schedule = "constant"
    optimizer.learning_rate = 1e-4
    optimizer.warmup_steps = 500
    optimizer.beta_2 = 0.98
    optimizer.epsilon = 1e-6
