"""A few sentences of an evaluation with their translations, to watch how a model changes."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

Sample = dict[str, Any]
"""A sentence in plain types, for JSON: `source`, `reference` and `translation`; with attention also
`source_tokens`, `tokens` and `alignment`, float[tokens][source_tokens] with rows that sum to 1."""


@runtime_checkable
class Aligns(Protocol):
    """A translator whose hypotheses have the attention of the decoder."""

    def hypotheses(self, lines: Sequence[str], task: str, *, alignments: bool) -> Any:
        """Returns the hypotheses of each line, best first; see `TextTranslator.hypotheses`."""


def take_samples(
    task: str,
    sources: Sequence[str],
    references: Sequence[str],
    translations: Sequence[str],
    count: int,
    translator: object = None,
) -> list[Sample]:
    """Returns evenly spaced sentences of a task, the same for the same sources.

    Args:
        task: name of the task.
        sources: the sources, in ascending order of the length of the pair.
        references: their references.
        translations: their translations.
        count: largest number of samples.
        translator: translates the samples again to add their attention; None adds none.
    """
    most = min(count, len(sources))
    # The middle of each of `most` equal parts.
    places = [(2 * i + 1) * len(sources) // (2 * most) for i in range(most)]
    samples: list[Sample] = [
        {"source": sources[p], "reference": references[p], "translation": translations[p]}
        for p in places
    ]
    if samples and isinstance(translator, Aligns):
        found = translator.hypotheses([s["source"] for s in samples], task, alignments=True)
        for sample, (best, *_) in zip(samples, found, strict=True):
            if best.alignment is not None:
                sample |= {
                    "source_tokens": list(best.source_tokens),
                    "tokens": list(best.tokens),
                    "alignment": np.round(np.asarray(best.alignment, np.float64), 3).tolist(),
                }
    return samples
