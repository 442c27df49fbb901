"""Factors on the learning rates of variables that regular expressions select."""

import re
from collections.abc import Sequence
from typing import Any

from keras_mtl.models.variables import matching, variable_name

Rules = Sequence[tuple[str, float]]
"""Pairs of a regular expression for whole names of variables, and a factor >= 0."""


def rate_factors(
    variables: Sequence[Any], rules: Rules, field: str = "learning_rate_factors"
) -> list[float]:
    """Returns the factor of each variable: that of the first rule that matches its name, or 1.

    Args:
        variables: Keras variables.
        rules: the rules; see `keras_mtl.models.variables` for names.
        field: what holds the rules, for the message.

    Raises:
        ConfigError: a rule matches no variable, or only frozen ones.
    """
    names = [variable_name(variable) for variable in variables]
    factors: dict[str, float] = {}
    for number, (pattern, factor) in enumerate(rules):
        found = matching(names, pattern, f"{field}[{number}].match", "trained variable")
        factors = dict.fromkeys(found, float(factor)) | factors
    return [factors.get(name, 1.0) for name in names]


def trained_by(
    variables: Sequence[Any], patterns: Sequence[Sequence[str]], fields: Sequence[str]
) -> list[list[bool] | None]:
    """Returns which tasks train each variable.

    Args:
        variables: the trainable variables of a model.
        patterns: for each task, the regular expressions for whole names of the variables that it
            trains; none means all.
        fields: paths of the fields that hold them, for messages.

    Returns:
        For each variable a list with an entry for each task; None if all tasks train it.

    Raises:
        ConfigError: an expression matches no variable, or only frozen ones.
    """
    names = [variable_name(variable) for variable in variables]
    for task, field in zip(patterns, fields, strict=True):
        for number, pattern in enumerate(task):
            matching(names, pattern, f"{field}[{number}]", "trained variable")
    rows = [
        [not task or any(re.fullmatch(pattern, name) for pattern in task) for task in patterns]
        for name in names
    ]
    return [None if all(row) else row for row in rows]
