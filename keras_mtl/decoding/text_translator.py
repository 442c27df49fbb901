"""Translates text with any search over ids. Does not import TensorFlow."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from keras_mtl.configuration.other_tasks import TRANSLATION
from keras_mtl.data.cleaning import normalize
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask, find_task
from keras_mtl.engine.hypothesis import Hypothesis, empty_hypothesis, impossible_hypothesis
from keras_mtl.errors import InputError

LONG_LINES = ("error", "truncate", "skip")


class Request(NamedTuple):
    """Non-empty sentences to translate, in the order of their lines.

    Attributes:
        sources: ids of each sentence: tag, pieces, end of sentence.
        decoder: `TranslationTask.route` of the task.
        max_lengths: maximum of target tokens per sentence.
        prefixes: ids that the hypotheses of each sentence must begin with; None: no prefixes.
        lines: line number of each sentence, for messages.
        alignments: whether hypotheses must have alignments.
        biases: ids towards which each sentence is biased; None: no bias.
    """

    sources: list[list[int]]
    decoder: int
    max_lengths: list[int]
    prefixes: list[list[int]] | None
    lines: list[int]
    alignments: bool = False
    biases: list[list[int]] | None = None


class IdSearch(Protocol):
    """A search for translations of ids.

    Attributes:
        options: beam-search options, including all suppressed tokens.
        max_length: number of the model's positions, which limits tag, tokens and end of sentence.
    """

    @property
    def options(self) -> BeamOptions: ...

    @property
    def max_length(self) -> int: ...

    def search(self, request: Request, batch_size: int) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each sentence, best first, without text.

        Args:
            request: the sentences.
            batch_size: number of sentences to process at once.

        Raises:
            KerasMtlError: the model's output is NaN.
        """

    def refresh(self) -> None:
        """Makes the next search use the model's current weights if it has a copy of them."""


class TextTranslator:
    """Translates lines of text.

    Lines are cleaned like training data (NFC, single spaces), split into pieces, translated, and
    returned in their original order. The translation of an empty line is empty.

    Args:
        search: the search over ids.
        vocabulary: the model's vocabulary.
        tasks: objects with the attributes `name`, `source`, `target` and, if the model has several
            decoders, `decoder`.
        batch_size: lines per batch, >= 1.
        on_long_line: treatment of a line that is longer than the model's positions: `error`,
            `truncate` (translate its beginning) or `skip` (return an empty translation).

    Raises:
        InputError: an argument is out of range.
    """

    def __init__(
        self,
        search: IdSearch,
        vocabulary: Vocabulary,
        tasks: Sequence[TranslationTask],
        *,
        batch_size: int = 64,
        on_long_line: str = "error",
    ) -> None:
        check_arguments(batch_size, on_long_line)
        self.tasks = tuple(
            TranslationTask(
                task.name,
                task.source,
                task.target,
                getattr(task, "decoder", 0),
                getattr(task, "kind", TRANSLATION),
                getattr(task, "adapters", ()),
                getattr(task, "stacks", ()),
            )
            for task in tasks
        )
        self.vocabulary = vocabulary
        self.batch_size = batch_size
        self.on_long_line = on_long_line
        self._search = search

    @property
    def options(self) -> BeamOptions:
        """Beam-search options, including all suppressed tokens."""
        return self._search.options

    def refresh(self) -> None:
        """Makes the next call use the model's current weights."""
        self._search.refresh()

    def translate(self, lines: Sequence[str], task: str) -> list[str]:
        """Returns the best translation of each line, in the order of the lines.

        Args:
            lines: source lines.
            task: name of the task.

        Raises:
            InputError: the task is unknown, or a line is too long.
            KerasMtlError: the model's output is NaN.
        """
        return [found[0].text for found in self.hypotheses(lines, task)]

    def hypotheses(
        self,
        lines: Sequence[str],
        task: str,
        *,
        prefixes: Sequence[str] | None = None,
        biases: Sequence[str] | None = None,
        alignments: bool = False,
        first_line: int = 1,
    ) -> list[list[Hypothesis]]:
        """Returns at most `num_hypotheses` translations of each line, best first.

        Args:
            lines: source lines.
            task: name of the task.
            prefixes: text that every translation of a line must begin with, in whole pieces of the
                vocabulary; "" means no prefix.
            biases: text towards which the translations of a line are biased with the option
                `bias_weight`; "" means no bias.
            alignments: whether hypotheses must have `alignment` and `source_tokens`: the attention
                of the decoder's last layer, averaged over heads.
            first_line: number of the first line in messages.

        Raises:
            InputError: the task is unknown, or a line or prefix is too long.
            KerasMtlError: the model's output is NaN.
        """
        chosen = find_task(self.tasks, task)
        for name, texts_of_lines in {"prefix": prefixes, "bias": biases}.items():
            if texts_of_lines is not None and len(texts_of_lines) != len(lines):
                raise InputError(
                    f"there are {len(lines)} lines and {len(texts_of_lines)} {name}es: give one "
                    f"{name} per line"
                )
        encoded = _encode(self.vocabulary.source, lines)
        pieces = [self._fit(ids, first_line + i) for i, ids in enumerate(encoded)]
        target = self.vocabulary
        forced = [[] for _ in lines] if prefixes is None else _encode(target, prefixes)
        limits = [self.options.sentence_max_length(len(ids)) for ids in pieces]
        for i, (prefix, limit) in enumerate(zip(forced, limits, strict=True)):
            if len(prefix) > limit > 0:
                raise InputError(
                    f"line {first_line + i}: its prefix has {len(prefix)} tokens, but its "
                    f"translation can have at most {limit}. Shorten the prefix or raise max_length"
                )
        tag, eos = self.vocabulary.source.tag_id(chosen.target), self.vocabulary.eos_id
        found = [[empty_hypothesis()] for _ in lines]
        rows = [i for i, ids in enumerate(pieces) if ids]
        if not rows:
            return found
        sources = [[tag, *pieces[i], eos] for i in rows]
        results = self._search.search(
            Request(
                sources,
                chosen.route,
                [limits[i] for i in rows],
                None if prefixes is None else [forced[i] for i in rows],
                [first_line + i for i in rows],
                alignments,
                None if biases is None else _encode(target, [biases[i] for i in rows]),
            ),
            self.batch_size,
        )
        results = [hypotheses or [impossible_hypothesis()] for hypotheses in results]
        texts = iter(self.vocabulary.decode_batch([h.ids or () for row in results for h in row]))
        for i, source, hypotheses in zip(rows, sources, results, strict=True):
            found[i] = [self._with_text(h, next(texts), source) for h in hypotheses]
        return found

    def _with_text(self, hypothesis: Hypothesis, text: str, source: list[int]) -> Hypothesis:
        """Adds text and pieces to a hypothesis."""
        return hypothesis.replace(
            # Versions of SentencePiece differ in the spaces that they strip. Training text has
            # single spaces.
            text=" ".join(text.split()),
            tokens=_pieces(self.vocabulary, hypothesis.ids or ()),
            source_tokens=()
            if hypothesis.alignment is None
            else _pieces(self.vocabulary.source, source),
        )

    @property
    def longest_source(self) -> int:
        """Maximum of source tokens. Tag and end of sentence need two more positions."""
        return self._search.max_length - 2

    def too_long(self, lines: Sequence[str]) -> list[tuple[int, int]]:
        """Returns (index, number of tokens) of each line that exceeds the model's maximum."""
        counts = map(len, _encode(self.vocabulary.source, lines))
        return [(i, count) for i, count in enumerate(counts) if count > self.longest_source]

    def _fit(self, ids: list[int], line: int) -> list[int]:
        """Applies `on_long_line` to the ids of a line."""
        room = self.longest_source
        if len(ids) <= room:
            return ids
        if self.on_long_line == "error":
            raise InputError(
                f"line {line} has {len(ids)} tokens, more than the model's maximum of {room}. "
                "Split the line, or set on_long_line (--on_long_line) to truncate or skip"
            )
        return ids[:room] if self.on_long_line == "truncate" else []


def _pieces(vocabulary: Vocabulary, ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(vocabulary.piece(token) for token in ids)


def _encode(vocabulary: Vocabulary, lines: Sequence[str]) -> list[list[int]]:
    return vocabulary.encode_batch([normalize(line) for line in lines])


def check_arguments(batch_size: int, on_long_line: str) -> None:
    """Raises InputError if an argument of a translator is out of range."""
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: give at least 1")
    if on_long_line not in LONG_LINES:
        raise InputError(f"on_long_line={on_long_line!r}: give one of {', '.join(LONG_LINES)}")
