"""The presets as experiments of Model Garden: importing this module registers them.

Model Garden's tools work with classes of `hyperparams.Config`. They are generated here from the
dataclasses of `keras_mtl.configuration.schema`: same names, fields, order and defaults. Model
Garden's `exp_factory.get_exp_config("translation/transformer_tiny")` returns an instance, and
`from_garden` turns one into the configuration that the rest of keras_mtl takes.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Optional, cast

from official.core import config_definitions, exp_factory
from official.modeling import hyperparams

from keras_mtl.configuration import overriding, presets, schema
from keras_mtl.errors import ConfigError, nearest


@dataclasses.dataclass
class Options(hyperparams.Config):
    """Free-form options of a registered component; the component itself checks their names."""


_CLASSES: dict[type, type] = {}


def garden_class(section: type) -> type:
    """Returns Model Garden's class for a section of the schema.

    Args:
        section: a dataclass of `keras_mtl.configuration.schema`.

    Returns:
        A subclass of `hyperparams.Config`; of Model Garden's `ExperimentConfig` for ours.
    """
    if section not in _CLASSES:
        hints = typing.get_type_hints(section)
        base: type = hyperparams.Config
        if section is schema.ExperimentConfig:
            base = config_definitions.ExperimentConfig
        _CLASSES[section] = dataclasses.make_dataclass(
            section.__name__,
            [
                (field.name, _garden_type(hints[field.name]), _default(hints[field.name], field))
                for field in dataclasses.fields(section)
            ],
            bases=(base,),
            namespace={"__doc__": section.__doc__, "__module__": __name__},
        )
    return _CLASSES[section]


def _garden_type(hint: Any) -> Any:
    """The type of a field as Model Garden knows it."""
    if hint == schema.Options:
        return Options
    if typing.get_origin(hint) is types.UnionType:
        (inner,) = (each for each in typing.get_args(hint) if each is not type(None))
        # Every release of the 2.x line recognizes Optional[T], and not every one `T | None`.
        return Optional[_garden_type(inner)]  # noqa: UP045
    if typing.get_origin(hint) is list:
        return list[_garden_type(typing.get_args(hint)[0])]  # type: ignore[misc]
    return garden_class(hint) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else hint


def _default(hint: Any, field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    own = _garden_type(hint)
    return dataclasses.field(default_factory=list if typing.get_origin(own) is list else own)


def to_garden(config: schema.ExperimentConfig) -> config_definitions.ExperimentConfig:
    """Returns a configuration as Model Garden's tools take it.

    Raises:
        ConfigError: options of a component that Model Garden's classes cannot hold: lists of lists,
            or a name that these classes reserve, such as `override`.
    """
    result = garden_class(schema.ExperimentConfig)()
    try:
        # Not strict: options have no fields of their own.
        result.override(schema.as_dict(config), is_strict=False)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"Model Garden's classes cannot hold this configuration: {error}; start "
            "`python -m keras_mtl.garden.train` or `keras-mtl train` with its YAML file"
        ) from error
    return result


def from_garden(experiment: config_definitions.ExperimentConfig) -> schema.ExperimentConfig:
    """Returns an experiment of Model Garden as keras_mtl's configuration.

    Args:
        experiment: an instance of `garden_class(ExperimentConfig)`.

    Raises:
        ConfigError: it is another class, or a field has another type than in the schema.
    """
    if not isinstance(experiment, garden_class(schema.ExperimentConfig)):
        raise ConfigError(
            f"{type(experiment).__module__}.{type(experiment).__qualname__} is not an experiment "
            f"of keras_mtl; it trains {', '.join(presets.available())}"
        )
    config = schema.ExperimentConfig()
    overriding.set_values(config, cast(Any, experiment).as_dict())
    return config


def register() -> None:
    """Makes all presets known to `exp_factory`; those that are known already stay as they are."""
    for name in presets.available():
        try:
            exp_factory.get_exp_config(name)
        except LookupError:
            exp_factory.register_config_factory(name)(_factory(name))


def _factory(name: str) -> Callable[[], config_definitions.ExperimentConfig]:
    return lambda: to_garden(presets.preset(name))


def experiment(name: str) -> schema.ExperimentConfig:
    """Returns the configuration of an experiment that is registered with Model Garden.

    Raises:
        ConfigError: no such experiment, or it is not one of keras_mtl's.
    """
    register()
    try:
        found = exp_factory.get_exp_config(name)
    except (LookupError, TypeError) as error:  # TypeError: a family, not an experiment.
        remedy = nearest(name, presets.available())
        raise ConfigError(f"--experiment: {name!r} is not registered{remedy}") from error
    return from_garden(found)


register()
