"""Sample pairs of each task, which `prepare` and `inspect` show and check for wrong languages."""

import contextlib
import time
from collections.abc import Mapping, Sequence

from keras_mtl import errors
from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data import corpora
from keras_mtl.data.cleaning import Cleaner
from keras_mtl.data.language_check import SAMPLE_SIZE, Sample, language_warning, spread
from keras_mtl.data.prepare_settings import cleaning_of

# Cleaned pairs of each corpus, by its place, such as `corpora[0]`.
Samples = Mapping[str, Sequence[tuple[str, str]]]
# Number of pairs of each task that are shown.
SHOWN_PAIRS = 3


def shown_pairs(samples: Samples) -> list[tuple[str, str]]:
    """Returns a few pairs of a task to show to the user."""
    return spread([pair for pairs in samples.values() for pair in pairs], SHOWN_PAIRS)


def language_warnings(task: PairConfig, samples: Samples) -> list[str]:
    """Returns a warning for each corpus of a task that seems to be in other languages."""
    warnings = []
    for place, pairs in samples.items():
        text = language_warning(task.source, task.target, pairs)
        if text is not None:
            warnings.append(f"task {task.name!r}: {place}: {text}")
    return warnings


def sample_corpora(
    task: PairConfig, data: DataConfig, seconds: float
) -> tuple[list[tuple[str, str]], list[str]]:
    """Reads the first pairs of a task's corpora, to show some and to check their languages.

    Corpora that cannot be read or would be downloaded are skipped.

    Args:
        task: the task.
        data: cleaning.
        seconds: time after which reading stops; opening a large corpus may take longer.

    Returns:
        The pairs, and the warnings of `language_warnings`.
    """
    end = time.monotonic() + seconds
    samples: dict[str, list[tuple[str, str]]] = {}
    for field in ("corpora", "dev_corpora", "test_corpora"):
        for index, corpus in enumerate(getattr(task, field)):
            if corpus.options.get("download"):
                continue
            sample = Sample()
            samples[f"{field}[{index}] (reader {corpus.reader!r})"] = sample.pairs
            cleaner = Cleaner(cleaning_of(task, data))
            with contextlib.suppress(errors.KerasMtlError):
                options = corpus.options
                reader = corpora.create_reader(corpus.reader, task.source, task.target, options)
                for pair in corpora.read_pairs(reader, 1.0):
                    clean = cleaner.clean(pair.source, pair.target)
                    if clean is not None:
                        sample.add(clean)
                    if len(sample.pairs) >= SAMPLE_SIZE or time.monotonic() > end:
                        break
    return shown_pairs(samples), language_warnings(task, samples)
