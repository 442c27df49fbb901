"""The subword vocabulary that all tasks share: SentencePiece with language tags and byte fallback.

The first ids are fixed: 0 `<pad>`, 1 `<s>`, 2 `</s>`, 3 `<unk>`, then a tag `<2xx>` for
each target language, then 256 byte pieces, then pieces by score.

SentencePiece neither normalizes nor strips the text (cleaning has put it into Unicode NFC), so
encoded text decodes to itself. The exception is U+2581, SentencePiece's mark for a space, which
decodes to a space. Byte fallback spells characters without a piece, so no text becomes `<unk>`.

Special ids and tags are control symbols: no text encodes to them, so a text that contains
`<2de>` or `</s>` keeps it as text. Older versions trained tags as user-defined symbols, which
SentencePiece also finds in text. `control_symbols` turns them into control symbols when a
vocabulary is read.
"""

import dataclasses
import hashlib
import io
import itertools
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import sentencepiece

from keras_mtl import errors
from keras_mtl.data.sentencepiece_model import control_symbols, with_controls

PAD_ID, BOS_ID, EOS_ID, UNK_ID = 0, 1, 2, 3
SPECIAL_PIECES = ("<pad>", "<s>", "</s>", "<unk>")

# Sums of floats in SentencePiece depend on the number of threads (not on their timing). The number
# is fixed, so that every machine trains the same vocabulary.
_TRAINING_THREADS = 4
_ENCODING_THREADS = 2
# Candidates from which unigram prunes, as a multiple of the size. SentencePiece's default is a
# million whatever the size; on 520,000 messages and 8,000 pieces it took a sixth more CPU than this
# and coded 0.3 % worse.
_SEEDS_PER_PIECE = 10
_SEEDS = 50_000, 1_000_000
# Training skips longer sentences, in bytes; cleaning limits characters, not bytes.
_MAX_SENTENCE_BYTES = 1 << 16

_DRAWN_AT_ONCE = 10_000

# Only fatal messages: errors are also raised, and training would log hundreds of lines.
sentencepiece.set_min_log_level(3)


def tag(language: str) -> str:
    """Returns the tag of a target language, such as `<2fr>`."""
    return f"<2{language}>"


class Vocabulary:
    """Converts text to ids and back.

    Args:
        model_bytes: a serialized SentencePiece model with this module's special ids.
        name: name in error messages, usually the path of the file.

    Attributes:
        size: number of ids.
        languages: languages with a tag, in the order of their ids.
        model_bytes: the serialized model, unchanged.
        tokenizer_bytes: the serialized model for tokenizers of text, in which tags are control
            symbols. The ids are the same as in `model_bytes`; the bytes differ only if an older
            version of keras_mtl has trained the model.
        hash: BLAKE2b-128 of `model_bytes` in hexadecimal.

    Raises:
        DataError: the model is damaged, or has other special ids.
    """

    pad_id, bos_id, eos_id, unk_id = PAD_ID, BOS_ID, EOS_ID, UNK_ID

    def __init__(self, model_bytes: bytes, name: str = "vocabulary") -> None:
        # An empty model loads without complaint and has no pieces.
        problem = "" if model_bytes else "the model is empty"
        if not problem:
            try:
                self._processor = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
            except (RuntimeError, ValueError) as error:
                problem = f"SentencePiece cannot read it ({error})"
        if problem:
            raise errors.DataError(
                f"{name}: damaged vocabulary: {problem}; copy the file again, or prepare the data "
                "again with `keras-mtl prepare --overwrite`"
            )
        self.model_bytes = model_bytes
        self.hash = hashlib.blake2b(model_bytes, digest_size=16).hexdigest()
        self.size: int = self._processor.vocab_size()
        first = tuple(self._processor.id_to_piece(i) for i in range(min(4, self.size)))
        if first != SPECIAL_PIECES:
            raise errors.DataError(
                f"{name}: ids 0 to 3 of the vocabulary are {', '.join(first)}; they must be "
                f"{', '.join(SPECIAL_PIECES)}; train it with `keras-mtl prepare`, or with "
                "--pad_id=0 --bos_id=1 --eos_id=2 --unk_id=3"
            )
        self._tags: dict[str, int] = {}
        for i in range(4, self.size):
            match = re.fullmatch(r"<2(.+)>", self._processor.id_to_piece(i))
            if not match:
                break
            self._tags[match[1]] = i
        self.languages = tuple(self._tags)
        self.tokenizer_bytes = model_bytes
        tags = [i for i in self._tags.values() if not self._processor.is_control(i)]
        if tags:
            self.tokenizer_bytes = control_symbols(model_bytes, tags)
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self.tokenizer_bytes)
        self.is_byte = np.array([self._processor.is_byte(i) for i in range(self.size)])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Reads a vocabulary from a file.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            with open(path, "rb") as file:
                return cls(file.read(), os.fspath(path))
        except OSError as error:
            raise errors.DataError(
                f"{os.fspath(path)}: cannot read the vocabulary: {error.strerror}"
            ) from error

    def tag_id(self, language: str) -> int:
        """Returns the id of a language's tag.

        Raises:
            DataError: the vocabulary has no tag for it.
        """
        if language not in self._tags:
            raise errors.DataError(
                f"the vocabulary has no tag for language {language!r}"
                f"{errors.nearest(language, self._tags)}"
            )
        return self._tags[language]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without tag and end of sentence.

        Tags, special ids and byte pieces in the text are encoded as text.
        """
        return self._processor.encode(text)

    def encode_batch(
        self, texts: Sequence[str], num_threads: int = _ENCODING_THREADS
    ) -> list[list[int]]:
        """Returns the ids of each text; the result does not depend on `num_threads`."""
        return self._processor.encode(list(texts), num_threads=num_threads)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Returns the text of ids; padding, `<s>`, `</s>` and tags are skipped.

        Raises:
            InputError: an id is outside the vocabulary.
        """
        return self.decode_batch([ids])[0]

    def decode_batch(self, batch: Iterable[Sequence[int] | np.ndarray]) -> list[str]:
        """Returns the text of each sequence of ids; see `decode`."""
        rows = [np.asarray(ids, np.int64).tolist() for ids in batch]
        for ids in rows:
            if ids and not 0 <= min(ids) <= max(ids) < self.size:
                wrong = next(i for i in ids if not 0 <= i < self.size)
                raise errors.InputError(
                    f"id {wrong} is outside the vocabulary of {self.size} pieces"
                )
        return self._processor.decode(rows) if rows else []

    def piece(self, token: int) -> str:
        """Returns the piece of an id."""
        return self._processor.id_to_piece(token)

    def text_pieces(self) -> dict[str, tuple[int, float]]:
        """Returns id and score of each piece of text: no tags, special ids and byte pieces."""
        processor = self._processor
        return {
            processor.id_to_piece(i): (i, processor.get_score(i))
            for i in range(self.size)
            if not (
                processor.is_control(i)
                or processor.is_unknown(i)
                or processor.is_byte(i)
                or processor.is_unused(i)
            )
        }

    def byte_ids(self) -> dict[int, int]:
        """Returns the id of each byte from 0 to 255 that has a piece."""
        return {int(self.piece(i)[3:5], 16): i for i in np.flatnonzero(self.is_byte).tolist()}

    def with_languages(self, languages: Iterable[str]) -> "Vocabulary":
        """Returns a vocabulary that also has tags for other languages, after its own tags.

        Text is encoded to the same pieces. The ids of pieces after the tags are larger.

        Args:
            languages: languages; those that have a tag already are ignored.
        """
        new = sorted(set(languages).difference(self.languages))
        if not new:
            return self
        position = len(SPECIAL_PIECES) + len(self.languages)
        return Vocabulary(with_controls(self.model_bytes, position, [tag(each) for each in new]))


@dataclasses.dataclass(frozen=True)
class TaskText:
    """Training text of one task.

    Attributes:
        name: name of the task.
        size: number of pairs.
        pairs: function that returns a new iterator over (source, target).
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
) -> Vocabulary:
    """Trains the vocabulary on a temperature-sampled mix of all tasks.

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

    Returns:
        The vocabulary, of exactly `size` ids.

    Raises:
        ConfigError: a setting is out of range, or the size does not fit the text; the message names
            the largest or smallest possible size.

    Reference:
        Kudo 2018 (arXiv 1804.10959); temperature sampling: Arivazhagan et al. 2019
        (arXiv 1907.05019).
    """
    check_settings(model_type, temperature, max_sentences, character_coverage)
    sentences = _sample(tasks, temperature, max_sentences, seed)
    return train_on(
        sentences,
        languages,
        size=size,
        model_type=model_type,
        character_coverage=character_coverage,
    )


def train_on(
    sentences: Iterator[str],
    languages: Iterable[str],
    *,
    size: int,
    model_type: str,
    character_coverage: float,
) -> Vocabulary:
    """Trains the vocabulary on sentences; see `train_vocabulary`."""
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
        raise _explain(error, size) from error
    vocabulary = Vocabulary(model)
    if vocabulary.size != size:
        raise errors.ConfigError(
            f"task.data.vocabulary.size: {size} pieces were requested, but the text gives "
            f"{vocabulary.size}; set it to {vocabulary.size}"
        )
    return vocabulary


def check_settings(
    model_type: str, temperature: float, max_sentences: int, character_coverage: float
) -> None:
    """Raises ConfigError if a setting of `train_vocabulary` is out of range."""
    if model_type not in ("unigram", "bpe"):
        raise errors.ConfigError(
            f"task.data.vocabulary.model_type: {model_type!r}; it must be unigram or bpe"
        )
    if not temperature >= 1:
        raise errors.ConfigError(f"task.data.vocabulary.temperature: {temperature} is below 1")
    if not 0 < character_coverage <= 1:
        raise errors.ConfigError(
            f"task.data.vocabulary.character_coverage: {character_coverage} is outside of (0, 1]"
        )
    if max_sentences < 1:
        raise errors.ConfigError(f"task.data.vocabulary.max_sentences: {max_sentences} is below 1")


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
    tasks: Sequence[TaskText], temperature: float, max_sentences: int, seed: int
) -> Iterator[str]:
    """Yields sources and targets; each pair of task i on average c_i / (2 n_i) times."""
    sizes = [task.size for task in tasks]
    for task, copies in zip(tasks, mean_copies(sizes, temperature, max_sentences), strict=True):
        counts = itertools.chain.from_iterable(
            found.tolist() for found in sampled_copies(task.name, task.size, copies, seed)
        )
        for source, target in task.pairs():
            count = next(counts, None)
            if count is None:
                raise errors.DataError(
                    f"task {task.name!r} has more pairs than its size, {task.size}"
                )
            for _ in range(count):
                yield source
                yield target


def mean_copies(sizes: Sequence[int], temperature: float, max_sentences: int) -> list[float]:
    """Returns how often a pair of each task is in the sample on average.

    Args:
        sizes: number of pairs of each task.
        temperature: see `train_vocabulary`.
        max_sentences: see `train_vocabulary`.
    """
    weights = np.array(sizes, np.float64) ** (1.0 / temperature)
    total = min(max_sentences, 2 * sum(sizes))
    shares = weights / max(weights.sum(), 1.0)
    return [
        float(total * share / (2 * max(size, 1))) for size, share in zip(sizes, shares, strict=True)
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


def no_text() -> errors.ConfigError:
    """Returns the error for a vocabulary that has no text to train on."""
    return errors.ConfigError(
        "task.data.vocabulary: there is no text to train it on; raise max_sentences, or give the "
        "tasks more pairs"
    )


def _explain(error: Exception, size: int) -> errors.ConfigError:
    """Converts SentencePiece's message to one about the configuration."""
    text = str(error)
    field = "task.data.vocabulary.size"
    if match := re.search(r"Please set it to a value <= (\d+)", text):
        return errors.ConfigError(
            f"{field}: {size} is too large for this text; use at most {match[1]}"
        )
    if match := re.search(r"smaller than required_chars\. \d+ vs (\d+)", text):
        return errors.ConfigError(
            f"{field}: {size} is too small: special ids, language tags, 256 byte pieces and single "
            f"characters take {match[1]}; set it above that, or lower "
            "task.data.vocabulary.character_coverage"
        )
    if "sentences_.empty()" in text:
        return no_text()
    return errors.ConfigError(f"task.data.vocabulary: SentencePiece cannot train: {text}")
