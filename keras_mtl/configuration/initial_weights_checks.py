"""Checks of the fields that select variables: the first weights of a run, and frozen ones."""

import re

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.initial_weights import InitRuleConfig
from keras_mtl.configuration.variable_patterns import check_pattern, check_patterns


def check(draft: Draft) -> None:
    """Adds to a draft what is wrong with `task.model.init` and `trainer.freeze`.

    Args:
        draft: the configuration.
    """
    for number, source in enumerate(draft.config.task.model.init):
        path = f"task.model.init[{number}]"
        if not source.from_:
            draft.problem(
                f"{path}.from", "is empty; give a model directory, a checkpoint or an engine file"
            )
        for index, rule in enumerate(source.rules):
            _check_rule(draft, f"{path}.rules[{index}]", rule)
        check_patterns(draft, f"{path}.exclude", source.exclude)
    check_patterns(draft, "trainer.freeze", draft.config.trainer.freeze)


def _check_rule(draft: Draft, path: str, rule: InitRuleConfig) -> None:
    for name in ("match", "to"):
        if not getattr(rule, name):
            draft.problem(
                f"{path}.{name}",
                "is empty; a rule is, for example, "
                "{match: 'decoder_ca/(.*)', to: 'decoder_es/\\1'}",
            )
            return
    if not check_pattern(draft, f"{path}.match", rule.match):
        return
    pattern = re.compile(rule.match)
    # A pattern with the same groups that matches the empty text.
    groups = "".join(f"(?P<{name}>)" for name in pattern.groupindex)
    groups += "()" * (pattern.groups - len(pattern.groupindex))
    try:
        re.sub(groups, rule.to, "")
    except (re.error, IndexError) as error:
        draft.problem(
            f"{path}.to",
            f"= {rule.to!r} does not fit {path}.match = {rule.match!r}: {error}",
        )
