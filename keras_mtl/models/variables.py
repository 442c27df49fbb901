"""Variables of a model by name, selected by regular expressions; freezing.

The name of a variable is its path without the name of the model, such as
`encoder/layer_0/attention/qkv/kernel`. A regular expression must match the whole name.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from keras_mtl.errors import ConfigError, nearest


def variables_by_name(model: Any) -> dict[str, Any]:
    """Returns the weights of a model by name, frozen ones too.

    Args:
        model: a built `keras.Model`.
    """
    # Keras also counts states as weights: those of random numbers, which are integers, and those of
    # quantizers.
    return {
        variable_name(each): each
        for each in model.weights
        if "float" in str(each.dtype) and each.name != "quantization"
    }


def variable_name(variable: Any) -> str:
    """Returns the name of a variable: its path without the name of the model."""
    return variable.path.partition("/")[2]


def matching(names: Iterable[str], pattern: str, field: str, kind: str = "variable") -> list[str]:
    """Returns the names that a regular expression matches as a whole.

    Args:
        names: names of variables.
        pattern: the regular expression.
        field: path of the field that holds it, for the message.
        kind: what the names are of, for the message.

    Raises:
        ConfigError: there is no such name.
    """
    known = list(names)
    found = [name for name in known if re.fullmatch(pattern, name)]
    if not found:
        raise ConfigError(
            f"{field} = {pattern!r} matches no {kind}{_nearest(pattern, known)} The whole "
            "name must match; `keras-mtl inspect` lists the layers"
        )
    return found


def layer_name(name: str) -> str:
    """Returns the layer of a variable as `inspect` lists it, such as `encoder/layer_0`."""
    return "/".join(name.split("/")[:-1][:2])


def freeze(model: Any, patterns: Sequence[str]) -> list[str]:
    """Makes variables of a model not trainable.

    Call it before the optimizer is built, which then has no moments for them.

    Args:
        model: a built `keras.Model`.
        patterns: regular expressions for whole names, from `trainer.freeze`.

    Returns:
        The names of the frozen variables.

    Raises:
        ConfigError: a pattern matches no variable, or no variable remains to train.
    """
    variables = {variable_name(each): each for each in model.trainable_variables}
    frozen: dict[str, None] = {}
    for number, pattern in enumerate(patterns):
        frozen |= dict.fromkeys(matching(variables, pattern, f"trainer.freeze[{number}]"))
    if len(frozen) == len(variables):
        raise ConfigError(
            f"trainer.freeze = {list(patterns)} matches all {len(variables)} variables, so nothing "
            "is left to train"
        )
    for name in frozen:
        variables[name].trainable = False
    return list(frozen)


def _nearest(pattern: str, names: Sequence[str]) -> str:
    """Returns a remedy: a name or the pattern of a layer that is similar."""
    layers = {"/".join(name.split("/")[:depth]) for name in names for depth in (1, 2, 3)}
    remedy = nearest(pattern, [*names, *(f"{layer}/.*" for layer in layers.difference(names))])
    return remedy if remedy.endswith("?") else f"{remedy}."
