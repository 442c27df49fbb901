"""Text in, text out."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_mtl.data.cleaning import normalize
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.beam_search import raise_on_nan
from keras_mtl.decoding.model_search import ModelSearch
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask, find_task
from keras_mtl.errors import InputError

if TYPE_CHECKING:
    from keras_mtl.decoding.saved_model_translator import SavedModelTranslator

LONG_LINES = ("error", "truncate", "skip")


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One translation of a line.

    Attributes:
      text: the translation, one line.
      score: log-probability / length penalty; 0 for an empty line, -inf where the model finds no
        sequence possible.
      length: target tokens, end of sentence not counted.
    """

    text: str
    score: float
    length: int


class Translator:
    """Translates lines with a model in memory; the model's weights are read at each call.

    Lines are cleaned as training data are (NFC, single spaces), cut into pieces, sorted by length,
    translated in batches and put back in their order. An empty line stays empty.

    Args:
      model: see ``ModelSearch``.
      vocabulary: the model's.
      tasks: anything with ``name``, ``target`` and, when the model has several decoders,
        ``decoder``.
      options: beam search; default ``BeamOptions()`` within the model's positions.
      batch_size: lines translated at once, >= 1.
      jit_compile: see ``ModelSearch``.
      on_long_line: what to do with a line longer than the model's positions: ``error``,
        ``truncate`` (translate its beginning) or ``skip`` (give an empty translation).

    Raises:
      InputError: an argument is out of its range.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        tasks: Sequence[Any],
        options: BeamOptions | None = None,
        *,
        batch_size: int = 64,
        jit_compile: bool = False,
        on_long_line: str = "error",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: give at least 1")
        if on_long_line not in LONG_LINES:
            raise InputError(f"on_long_line={on_long_line!r}: give one of {', '.join(LONG_LINES)}")
        if options is None:
            options = BeamOptions(max_length=min(BeamOptions.max_length, model.max_length))
        self.tasks = tuple(
            TranslationTask(task.name, task.source, task.target, getattr(task, "decoder", 0))
            for task in tasks
        )
        self.vocabulary = vocabulary
        self.batch_size = batch_size
        self.on_long_line = on_long_line
        self.model = model
        self._jit_compile = jit_compile
        self._search = ModelSearch(model, vocabulary, options, jit_compile)

    @property
    def options(self) -> BeamOptions:
        """Options of the search, with all tokens that are suppressed."""
        return self._search.options

    @classmethod
    def from_model_dir(
        cls,
        model_dir: str | os.PathLike[str],
        options: BeamOptions | dict[str, Any] | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        batch_size: int | None = None,
        **arguments: Any,
    ) -> Self:
        """Reads a model that ``keras-mtl train`` has written.

        Args:
          model_dir: folder with ``params.yaml``, ``vocabulary.model``, ``tasks.json`` and
            checkpoints.
          options: beam search, or only what differs from ``task.decoding`` of ``params.yaml``.
          checkpoint: prefix or folder of the checkpoint; default the best one, else the newest.
          batch_size: default ``task.decoding.batch_size``.
          **arguments: further arguments of the constructor.

        Raises:
          CheckpointError: something is missing, damaged, or does not belong together.
        """
        from keras_mtl.decoding.loading import load_model

        loaded = load_model(model_dir, checkpoint)
        if not isinstance(options, BeamOptions):
            options = loaded.options.replace(**(options or {}))
        return cls(
            loaded.model,
            loaded.vocabulary,
            loaded.tasks.tasks,
            options,
            batch_size=loaded.batch_size if batch_size is None else batch_size,
            **arguments,
        )

    @staticmethod
    def from_saved_model(path: str | os.PathLike[str], **arguments: Any) -> "SavedModelTranslator":
        """Reads a model that ``keras-mtl export`` has written; see ``SavedModelTranslator``."""
        from keras_mtl.decoding.saved_model_translator import SavedModelTranslator

        return SavedModelTranslator(path, **arguments)

    def translate(self, lines: Sequence[str], task: str) -> list[str]:
        """Returns the best translation of each line, in the lines' order.

        Args:
          lines: source text.
          task: name of the task.

        Raises:
          InputError: the task is unknown, or a line is too long.
          KerasMtlError: the model gave a NaN.
        """
        return [found[0].text for found in self.hypotheses(lines, task)]

    def hypotheses(
        self,
        lines: Sequence[str],
        task: str,
        *,
        prefixes: Sequence[str] | None = None,
        first_line: int = 1,
    ) -> list[list[Hypothesis]]:
        """Returns ``num_hypotheses`` translations of each line (fewer when there are fewer).

        Args:
          lines: source text.
          task: name of the task.
          prefixes: text that every translation of a line has to begin with, in whole pieces of the
            vocabulary; "" leaves a line free.
          first_line: number of the first line, for messages.

        Raises:
          InputError: the task is unknown, or a line or prefix is too long.
          KerasMtlError: the model gave a NaN.
        """
        chosen = find_task(self.tasks, task)
        if prefixes is not None and len(prefixes) != len(lines):
            raise InputError(f"{len(prefixes)} prefixes for {len(lines)} lines: give one a line")
        pieces = self.vocabulary.encode_batch([normalize(line) for line in lines])
        pieces = [self._fit(ids, first_line + i) for i, ids in enumerate(pieces)]
        forced = [[] for _ in lines] if prefixes is None else self._forced(prefixes)
        limits = [self.options.sentence_max_length(len(ids)) for ids in pieces]
        for i, (prefix, limit) in enumerate(zip(forced, limits, strict=True)):
            if len(prefix) > limit > 0:
                raise InputError(
                    f"line {first_line + i}: its prefix has {len(prefix)} tokens and its longest "
                    f"translation {limit}: shorten the prefix or raise max_length"
                )
        order = sorted((i for i in range(len(lines)) if pieces[i]), key=lambda i: len(pieces[i]))
        found = [[Hypothesis("", 0.0, 0)] for _ in lines]
        for begin in range(0, len(order), self.batch_size):
            rows = order[begin : begin + self.batch_size]
            names = [f"line {first_line + i}" for i in rows]
            batch = self._batch(
                chosen, [pieces[i] for i in rows], [limits[i] for i in rows], names,
                None if prefixes is None else [forced[i] for i in rows],
            )  # fmt: skip
            for i, hypotheses in zip(rows, batch, strict=True):
                found[i] = hypotheses
        return found

    def _fit(self, ids: list[int], line: int) -> list[int]:
        """Applies ``on_long_line``; the tag and the end of sentence need two positions."""
        room = self.model.max_length - 2
        if len(ids) <= room:
            return ids
        if self.on_long_line == "error":
            raise InputError(
                f"line {line} has {len(ids)} tokens and the model takes {room}: split the line, or "
                "choose on_long_line truncate or skip"
            )
        return ids[:room] if self.on_long_line == "truncate" else []

    def _forced(self, prefixes: Sequence[str]) -> list[list[int]]:
        return self.vocabulary.encode_batch([normalize(prefix) for prefix in prefixes])

    def _batch(
        self,
        task: TranslationTask,
        pieces: list[list[int]],
        limits: list[int],
        names: list[str],
        prefixes: list[list[int]] | None,
    ) -> list[list[Hypothesis]]:
        """Translates one batch of sentences, none empty."""
        tag, eos = self.vocabulary.tag_id(task.target), self.vocabulary.eos_id
        sources = [[tag, *ids, eos] for ids in pieces]
        rows, time = len(sources), max(map(len, sources))
        if self._jit_compile:  # Each shape is a compilation: full batches, few lengths.
            rows, time = self.batch_size, min(-(-time // 16) * 16, self.model.max_length)
        source = np.zeros([rows, time], np.int32)
        for row, ids in zip(source, sources, strict=False):
            row[: len(ids)] = ids
        source[len(sources) :, :2] = tag, eos  # A row without any token would attend to nothing.
        max_lengths = np.zeros([rows], np.int32)
        max_lengths[: len(limits)] = limits
        prefix, prefix_lengths = None, None
        if prefixes is not None:
            width = max(1, *map(len, prefixes), 1)
            prefix = np.zeros([rows, width], np.int32)
            prefix_lengths = np.zeros([rows], np.int32)
            for i, ids in enumerate(prefixes):
                prefix[i, : len(ids)] = ids
                prefix_lengths[i] = len(ids)
        decoder = np.full([rows], task.decoder, np.int32)
        result = self._search(source, decoder, max_lengths, prefix, prefix_lengths)
        raise_on_nan(result.nan_steps, [*names, *[""] * (rows - len(names))])
        return self._texts(result, len(sources))

    def _texts(self, result: Any, rows: int) -> list[list[Hypothesis]]:
        counts = np.maximum(result.counts[:rows], 1)
        ids = [
            result.ids[i, n, : result.lengths[i, n]] for i in range(rows) for n in range(counts[i])
        ]
        # Releases of SentencePiece differ in the spaces they strip; training text has single ones.
        texts = iter(" ".join(text.split()) for text in self.vocabulary.decode_batch(ids))
        return [
            [
                Hypothesis(next(texts), float(result.scores[i, n]), int(result.lengths[i, n]))
                for n in range(counts[i])
            ]
            for i in range(rows)
        ]
