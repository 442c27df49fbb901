"""Trains subword vocabularies on the text of tasks; see `keras_mtl.data.vocabulary`."""

import dataclasses
import io
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import sentencepiece

from keras_mtl import errors
from keras_mtl.data.vocabulary import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    SPECIAL_PIECES,
    UNK_ID,
    Vocabulary,
    tag,
)

# Sums of floats in SentencePiece depend on the number of threads (not on their timing). The number
# is fixed, so that every machine trains the same vocabulary.
_TRAINING_THREADS = 4
# Candidates from which unigram prunes, as a multiple of the size. SentencePiece's default is a
# million whatever the size; on 520,000 messages and 8,000 pieces it took a sixth more CPU than this
# and coded 0.3 % worse.
_SEEDS_PER_PIECE = 10
_SEEDS = 50_000, 1_000_000
# Training skips longer sentences, in bytes; cleaning limits characters, not bytes.
_MAX_SENTENCE_BYTES = 1 << 16

_DRAWN_AT_ONCE = 10_000
_SECTION = "task.data.vocabulary"
# Places of source and target in a pair.
BOTH_SIDES = 0, 1


@dataclasses.dataclass(frozen=True)
class TaskText:
    """Training text of one task.

    Attributes:
        name: name of the task.
        size: number of pairs.
        pairs: function that returns a new iterator over (source, target). A vocabulary of only one
            side does not use an empty text.
    """

    name: str
    size: int
    pairs: Callable[[], Iterable[tuple[str, str]]]


def train_vocabulary(
    tasks: Sequence[TaskText],
    languages: Iterable[str],
    *,
    size: int,
    model_type: str = "unigram",
    temperature: float = 5.0,
    max_sentences: int = 1_000_000,
    character_coverage: float = 0.9995,
    seed: int = 1,
    sides: Sequence[int] = BOTH_SIDES,
    section: str = _SECTION,
) -> Vocabulary:
    """Trains a vocabulary on a temperature-sampled mix of all tasks.

    The share of task i is proportional to n_i^(1 / temperature), half sources and half targets. The
    sentences of a task that is too small for its share are repeated. The result depends only on the
    arguments.

    Args:
        tasks: text of each task.
        languages: target languages; each gets a tag, in alphabetical order.
        size: number of ids, including special ids, tags and byte pieces.
        model_type: `unigram` or `bpe`.
        temperature: >= 1; 1 is proportional to size, infinity is uniform.
        max_sentences: approximate largest number of training sentences.
        character_coverage: share of characters with their own piece, in (0, 1].
        seed: seed of the sample.
        sides: the sides of the pairs whose text is used: 0 for sources, 1 for targets.
        section: section of the configuration, for messages.

    Returns:
        The vocabulary, of exactly `size` ids.

    Raises:
        ConfigError: a setting is out of range, or the size does not fit the text; the message names
            the largest or smallest possible size.

    Reference:
        Kudo 2018 (arXiv 1804.10959); temperature sampling: Arivazhagan et al. 2019
        (arXiv 1907.05019).
    """
    check_settings(model_type, temperature, max_sentences, character_coverage, section)
    sentences = _sample(tasks, temperature, max_sentences, seed, sides)
    return train_on(
        sentences,
        languages,
        size=size,
        model_type=model_type,
        character_coverage=character_coverage,
        section=section,
    )


def train_on(
    sentences: Iterator[str],
    languages: Iterable[str],
    *,
    size: int,
    model_type: str,
    character_coverage: float,
    section: str = _SECTION,
) -> Vocabulary:
    """Trains a vocabulary on sentences; see `train_vocabulary`."""
    raised: list[Exception] = []

    def text() -> Iterator[str]:
        # SentencePiece turns an error of reading the text into one of its own.
        try:
            yield from sentences
        except Exception as error:
            raised.append(error)
            raise

    try:
        model = _train(text(), sorted(set(languages)), size, model_type, character_coverage)
    except (RuntimeError, ValueError) as error:
        if raised:
            raise raised[0] from None
        raise _explain(error, size, section) from error
    vocabulary = Vocabulary(model)
    if vocabulary.size != size:
        raise errors.ConfigError(
            f"{section}.size: {size} pieces were requested, but the text gives "
            f"{vocabulary.size}; set it to {vocabulary.size}"
        )
    return vocabulary


def check_settings(
    model_type: str,
    temperature: float,
    max_sentences: int,
    character_coverage: float,
    section: str = _SECTION,
) -> None:
    """Raises ConfigError if a setting of `train_vocabulary` is out of range."""
    if model_type not in ("unigram", "bpe"):
        raise errors.ConfigError(f"{section}.model_type: {model_type!r}; it must be unigram or bpe")
    if not temperature >= 1:
        raise errors.ConfigError(f"{section}.temperature: {temperature} is below 1")
    if not 0 < character_coverage <= 1:
        raise errors.ConfigError(
            f"{section}.character_coverage: {character_coverage} is outside of (0, 1]"
        )
    if max_sentences < 1:
        raise errors.ConfigError(f"{section}.max_sentences: {max_sentences} is below 1")


def _train(
    sentences: Iterator[str],
    languages: Sequence[str],
    size: int,
    model_type: str,
    character_coverage: float,
) -> bytes:
    """Trains SentencePiece; returns its model.

    Args:
        sentences: the text.
        languages: each gets a tag, in this order.
        size: number of ids.
        model_type: `unigram` or `bpe`.
        character_coverage: share of characters that get their own piece.

    Raises:
        RuntimeError, ValueError: SentencePiece's own, for example if the size does not fit the
            text.
    """
    output = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=output,
        vocab_size=size,
        model_type=model_type,
        character_coverage=character_coverage,
        num_threads=_TRAINING_THREADS,
        seed_sentencepiece_size=min(max(size * _SEEDS_PER_PIECE, _SEEDS[0]), _SEEDS[1]),
        pad_id=PAD_ID,
        bos_id=BOS_ID,
        eos_id=EOS_ID,
        unk_id=UNK_ID,
        pad_piece=SPECIAL_PIECES[PAD_ID],
        bos_piece=SPECIAL_PIECES[BOS_ID],
        eos_piece=SPECIAL_PIECES[EOS_ID],
        unk_piece=SPECIAL_PIECES[UNK_ID],
        control_symbols=[tag(language) for language in languages],
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        max_sentence_length=_MAX_SENTENCE_BYTES,
        minloglevel=3,
    )
    return output.getvalue()


def _sample(
    tasks: Sequence[TaskText],
    temperature: float,
    max_sentences: int,
    seed: int,
    sides: Sequence[int] = BOTH_SIDES,
) -> Iterator[str]:
    """Yields sides; each pair of task i is used `mean_copies` times on average."""
    sizes = [task.size for task in tasks]
    means = mean_copies(sizes, temperature, max_sentences, len(sides))
    for task, copies in zip(tasks, means, strict=True):
        counts = itertools.chain.from_iterable(
            found.tolist() for found in sampled_copies(task.name, task.size, copies, seed)
        )
        for pair in task.pairs():
            count = next(counts, None)
            if count is None:
                raise errors.DataError(
                    f"task {task.name!r} has more pairs than its size, {task.size}"
                )
            yield from copied(pair, count, sides)


def copied(pair: tuple[str, str], count: int, sides: Sequence[int]) -> Iterator[str]:
    """Yields sides of a pair `count` times; one side only if it is not empty."""
    chosen = [pair[side] for side in sides]
    if any(chosen):
        for _ in range(count):
            yield from chosen


def mean_copies(
    sizes: Sequence[int], temperature: float, max_sentences: int, sides: int = len(BOTH_SIDES)
) -> list[float]:
    """Returns how often a pair of each task is in the sample on average.

    Args:
        sizes: number of pairs of each task.
        temperature: see `train_vocabulary`.
        max_sentences: see `train_vocabulary`.
        sides: number of sides of each pair that are used.
    """
    weights = np.array(sizes, np.float64) ** (1.0 / temperature)
    total = min(max_sentences, sides * sum(sizes))
    shares = weights / max(weights.sum(), 1.0)
    return [
        float(total * share / (sides * max(size, 1)))
        for size, share in zip(sizes, shares, strict=True)
    ]


def sampled_copies(name: str, size: int, copies: float, seed: int = 1) -> Iterator[np.ndarray]:
    """Yields int64[m] for consecutive pairs of a task, how often each is in the sample.

    Args:
        name: name of the task.
        size: number of its pairs.
        copies: its `mean_copies`.
        seed: seed of the sample.
    """
    # NumPy draws the numbers of Python's generator, many at once.
    _, state, _ = random.Random(f"{seed} {name}").getstate()
    draws = np.random.RandomState()
    draws.set_state(("MT19937", np.array(state[:-1], np.uint32), state[-1], 0, 0.0))
    for begin in range(0, size, _DRAWN_AT_ONCE):
        count = min(_DRAWN_AT_ONCE, size - begin)
        yield (copies + draws.random_sample(count)).astype(np.int64)


def no_text(section: str = _SECTION) -> errors.ConfigError:
    """Returns the error for a vocabulary that has no text to train on."""
    return errors.ConfigError(
        f"{section}: there is no text to train it on; raise max_sentences, or give the "
        "tasks more pairs"
    )


def _explain(error: Exception, size: int, section: str) -> errors.ConfigError:
    """Converts SentencePiece's message to one about the configuration."""
    text = str(error)
    field = f"{section}.size"
    if match := re.search(r"Please set it to a value <= (\d+)", text):
        return errors.ConfigError(
            f"{field}: {size} is too large for this text; use at most {match[1]}"
        )
    if match := re.search(r"smaller than required_chars\. \d+ vs (\d+)", text):
        return errors.ConfigError(
            f"{field}: {size} is too small: special ids, language tags, 256 byte pieces and single "
            f"characters take {match[1]}; set it above that, or lower "
            f"{section}.character_coverage"
        )
    if "sentences_.empty()" in text:
        return no_text(section)
    return errors.ConfigError(f"{section}: SentencePiece cannot train: {text}")
