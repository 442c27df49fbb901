"""The presets as experiments of Model Garden. Importing this module registers them.

The tools of Model Garden use classes of `hyperparams.Config`. This module generates them from the
dataclasses of `keras_mtl.configuration.schema`, with the same names, fields, order and defaults.
`exp_factory.get_exp_config("translation/transformer_tiny")` of Model Garden returns an instance,
and `from_garden` converts it to the configuration that keras_mtl uses.
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
    """Options of a registered component. The component itself checks their names."""


_CLASSES: dict[type, type] = {}


def garden_class(section: type) -> type:
    """Returns the Model Garden class for a section of the schema.

    Args:
        section: a dataclass of `keras_mtl.configuration.schema`.

    Returns:
        A subclass of `hyperparams.Config`; for `ExperimentConfig`, of Model Garden's class of this
        name.
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
    """Returns the type of a field for Model Garden."""
    if hint == schema.Options:
        return Options
    if typing.get_origin(hint) is types.UnionType:
        (inner,) = (each for each in typing.get_args(hint) if each is not type(None))
        # All 2.x releases recognize Optional[T], but some do not recognize `T | None`.
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
    """Converts a configuration for the tools of Model Garden.

    Raises:
        ConfigError: an option of a component cannot be represented in Model Garden's classes: a
            list of lists, or a reserved name such as `override`.
    """
    result = garden_class(schema.ExperimentConfig)()
    try:
        # Not strict, because the class Options has no fields.
        result.override(_renamed(schema.as_dict(config), schema.attribute_name), is_strict=False)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"the classes of Model Garden cannot represent this configuration: {error}. Use "
            "`python -m keras_mtl.garden.train` or `keras-mtl train` with its YAML file"
        ) from error
    return result


def from_garden(experiment: config_definitions.ExperimentConfig) -> schema.ExperimentConfig:
    """Converts an experiment of Model Garden to a configuration of keras_mtl.

    Args:
        experiment: an instance of `garden_class(ExperimentConfig)`.

    Raises:
        ConfigError: the experiment has another class, or a field has another type than in the
            schema.
    """
    if not isinstance(experiment, garden_class(schema.ExperimentConfig)):
        raise ConfigError(
            f"{type(experiment).__module__}.{type(experiment).__qualname__} is not an experiment "
            f"of keras_mtl. Use one of {', '.join(presets.available())}"
        )
    config = schema.ExperimentConfig()
    values = cast(Any, experiment).as_dict()
    overriding.set_values(config, _renamed(values, schema.field_name))
    return config


def _renamed(value: Any, rename: Callable[[str], str]) -> Any:
    """Renames the keys of nested plain values: Model Garden names fields as Python does."""
    if isinstance(value, list):
        return [_renamed(each, rename) for each in value]
    if isinstance(value, dict):
        return {rename(key): _renamed(each, rename) for key, each in value.items()}
    return value


def register() -> None:
    """Registers all presets with `exp_factory`, except names that are already registered."""
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
        ConfigError: there is no such experiment, or it is not an experiment of keras_mtl.
    """
    register()
    try:
        found = exp_factory.get_exp_config(name)
    except (LookupError, TypeError) as error:  # TypeError: the name is a group of experiments.
        remedy = nearest(name, presets.available())
        raise ConfigError(f"--experiment: {name!r} is not registered{remedy}") from error
    return from_garden(found)


register()
