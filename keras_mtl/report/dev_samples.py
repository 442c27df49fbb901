"""How the translations of a few dev sentences changed while runs trained, from `samples.jsonl`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_mtl.events import Event, is_finite
from keras_mtl.figures import attention, charts
from keras_mtl.report import page
from keras_mtl.report.groups import Group
from keras_mtl.report.sections import folded, line_of, name_of

# Largest number of steps of a sentence; of more, some evenly spaced ones are shown.
_MOST_STEPS = 8


class Sentence(NamedTuple):
    """A dev sentence of a task.

    Attributes:
        source: the source.
        reference: its reference.
        translations: the translation by step, in increasing order of steps.
        newest: the newest sample, which may have attention.
    """

    source: str
    reference: str
    translations: Mapping[int, str]
    newest: Mapping[str, Any]


def sentences_of(events: Sequence[Event]) -> dict[str, list[Sentence]]:
    """Returns the sentences of each task; ignores what is not a sample.

    Args:
        events: the events of `samples.jsonl`.
    """
    found: dict[str, dict[tuple[str, str], dict[int, Mapping[str, Any]]]] = {}
    for event in events:
        tasks = event.get("samples")
        for task, samples in tasks.items() if isinstance(tasks, Mapping) else ():
            for sample in samples if isinstance(samples, list) else ():
                if not _is_sample(sample):
                    continue
                pair = sample["source"], sample["reference"]
                found.setdefault(task, {}).setdefault(pair, {})[event["step"]] = sample
    return {
        task: [
            Sentence(
                *pair, {step: str(at[step]["translation"]) for step in sorted(at)}, at[max(at)]
            )
            for pair, at in sentences.items()
        ]
        for task, sentences in found.items()
    }


def dev_samples(groups: Sequence[Group], tasks: Sequence[str]) -> str:
    """Returns the sentences of the first run of each group that has some, by task.

    Args:
        groups: the groups of the report.
        tasks: names of the tasks, in the order of the page.
    """
    by_group = [
        next((found for run in group.runs if (found := sentences_of(run.samples))), {})
        for group in groups
    ]
    parts = {}
    for task in tasks:
        lists = []
        for place, found in enumerate(by_group):
            for number, sentence in enumerate(found.get(task, ())):
                heading = name_of(groups, place) if len(groups) > 1 else ""
                name = f"attention-{tasks.index(task)}-{place}-{number}"
                lists.append(_sentence(sentence, heading, name))
        if lists:
            parts[task] = "".join(lists)
    return folded(parts)


def _sentence(sentence: Sentence, heading: str, name: str) -> str:
    lines = [line_of("source", sentence.source), line_of("reference", sentence.reference)]
    steps = list(sentence.translations)
    if len(steps) > _MOST_STEPS:
        # The first, the last, and evenly spaced ones between them.
        steps = [steps[i * (len(steps) - 1) // (_MOST_STEPS - 1)] for i in range(_MOST_STEPS)]
    lines += [line_of(f"step {step:,}", sentence.translations[step] or "(empty)") for step in steps]
    picture = ""
    if _has_attention(sentence.newest):
        label = f"Attention at step {max(sentence.translations):,}"
        figure = attention.attention_figure(sentence.newest)
        width = f"max-width:{figure.get_figwidth():.1f}in"  # Tokens of all pictures are as large.
        picture = (
            f'<figure class="attention" style="{width}">'
            f"<figcaption>{page.escape(label)}</figcaption>"
            f"{charts.to_svg(figure, name, label)}</figure>"
        )
    title = f"<h3>{heading}</h3>" if heading else ""
    return f"{title}<dl>{''.join(lines)}</dl>{picture}"


def _is_sample(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(value.get(key), str) for key in ("source", "reference", "translation")
    )


def _has_attention(sample: Mapping[str, Any]) -> bool:
    """Whether a sample has an attention that can be drawn; files may be damaged."""
    weights, tokens, columns = (sample.get(key) for key in ("alignment", "tokens", "source_tokens"))
    return (
        all(isinstance(each, list) and each for each in (weights, tokens, columns))
        and all(isinstance(token, str) for token in [*tokens, *columns])  # type: ignore[misc]
        and len(weights) >= len(tokens)  # type: ignore[arg-type]  # They are lists.
        and all(
            isinstance(row, list)
            and len(row) == len(columns)  # type: ignore[arg-type]
            and all(is_finite(value) for value in row)
            for row in weights  # type: ignore[union-attr]
        )
    )
