"""Prints which variables are frozen, and where the first weights of a run come from."""

import json
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl import errors
from keras_mtl.run_files import INITIAL_WEIGHTS_FILE

if TYPE_CHECKING:
    from keras_mtl.configuration.initial_weights import InitConfig
    from keras_mtl.configuration.schema import ExperimentConfig
    from keras_mtl.data.prepare import PreparedData


def print_selected_variables(
    config: "ExperimentConfig",
    model: Any,
    prepared: "PreparedData | None",
    model_dir: str | None,
) -> None:
    """Prints what `trainer.freeze` and `task.model.init` mean.

    Args:
        config: the configuration.
        model: the model of the configuration, which gets frozen variables.
        prepared: the prepared data, whose vocabulary the model has; None if there is none.
        model_dir: directory of the run, if one is given.

    Raises:
        ConfigError: an expression matches no variable, or a source cannot be used.
    """
    from keras_mtl.models.variables import freeze, variables_by_name

    frozen = freeze(model, config.trainer.freeze)
    if frozen:
        sizes = {name: math.prod(v.shape) for name, v in variables_by_name(model).items()}
        share = sum(sizes[name] for name in frozen) / sum(sizes.values())
        print(f"frozen: {len(frozen)} of {len(sizes)} variables, {share:.1%} of the parameters")
    _print_optimizer(config, model)
    sources = config.task.model.init
    if not sources:
        return
    started = model_dir is not None and _print_record(model_dir)
    if not started:
        _print_plan(sources, model, prepared)


def _print_optimizer(config: "ExperimentConfig", model: Any) -> None:
    """Prints the optimizer if it is not Adam, and which variables it treats differently."""
    from keras_mtl.configuration.optimizer_sections import is_adam
    from keras_mtl.training.step.balancing import check_shared_variables
    from keras_mtl.training.step.rate_factors import rate_factors, trained_by

    settings, variables = config.trainer.optimizer, model.trainable_variables
    if not is_adam(settings):
        given = ", ".join(f"{name}={value}" for name, value in settings.parameters.items())
        print(f"optimizer: {settings.name}({given})")
    rules = [(rule.match, rule.factor) for rule in settings.learning_rate_factors]
    factors = rate_factors(variables, rules, "trainer.optimizer.learning_rate_factors")
    for factor in dict.fromkeys(factor for _, factor in rules):
        print(
            f"learning rate times {factor:g}: {factors.count(factor)} of {len(factors)} variables"
        )
    pairs = config.task.pairs
    fields = [f"task.pairs[{number}].train_only" for number in range(len(pairs))]
    rows = trained_by(variables, [pair.train_only for pair in pairs], fields)
    check_shared_variables(config.trainer.balancing, model, rows, len(pairs))
    for number, pair in enumerate(pairs):
        if pair.train_only:
            count = sum(row is None or row[number] for row in rows)
            print(f"{pair.name} trains {count} of {len(rows)} variables")


def _print_record(model_dir: str) -> bool:
    """Prints from what a run has started; returns whether it has."""
    file = os.path.join(model_dir, INITIAL_WEIGHTS_FILE)
    if not os.path.isfile(file):
        return False
    try:
        with open(file, encoding="utf-8") as handle:
            sources = json.load(handle)["sources"]
        for number, source in enumerate(sources):
            print(
                f"started from [{number}]: {source['checkpoint']}, {source['kind']}, weights "
                f"{source['weights_hash']}"
            )
    except (ValueError, KeyError, TypeError) as error:
        raise errors.ConfigError(
            f"{file} is damaged ({error}). Restore it from a backup, or remove it"
        ) from error
    return True


def _print_plan(
    sources: "Sequence[InitConfig]", model: Any, prepared: "PreparedData | None"
) -> None:
    """Prints from what a run would start."""
    from keras_mtl.training.run.first_weights import take_first_weights
    from keras_mtl.training.run.weight_sources import check_sources

    check_sources(sources)
    if prepared is None:
        for number, source in enumerate(sources):
            print(f"initial weights [{number}]: {source.from_}")
        print("prepare the data to see what each variable takes: it depends on the vocabulary")
        return
    found = take_first_weights(model, prepared.vocabulary, sources, write=False)
    print("\n".join(found.lines))
