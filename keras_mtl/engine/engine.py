"""The engine: a model file, ready to translate, to score and to encode."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.engine import library
from keras_mtl.engine.arguments import (
    Sequences,
    flat_ids,
    id_arrays,
    option_values,
    whole_number,
    whole_numbers,
)
from keras_mtl.engine.hypothesis import Hypothesis
from keras_mtl.engine.library import NativeError


class Engine:
    """A model file (`docs/reference/engine_file.md`) ready to translate, without TensorFlow.

    Results are the same, bit by bit, on every instruction set, in every batch and order, and with
    any number of workers and threads. All methods are safe for use from many threads, run without
    the GIL, and end soon after an interrupt from the keyboard.

    Args:
        path: the file that `keras-mtl export --format engine` wrote.
        workers: number of threads that share the calls, the sentences of a call and the weights; 1
            to 1024. One for each core gives the most tokens per second.
        threads: used by each worker inside one operation, for the latency of single sentences; 1 to
            1024.
        compute_type: `int8`, `float32`, or `auto` for that of the file's weights.
        isa: one of :data:`ISAS`, or `auto`: the fastest, or what `KERAS_MTL_ISA` says.
        verify: compare the checksum of every tensor first.

    Raises:
        ExportError: the file is missing, damaged or of another kind.
        InputError: an argument is out of its range.
        NativeError: the C++ core cannot be loaded, or this machine lacks the instruction set.

    Example:
        ```python
        import keras_mtl

        engine = keras_mtl.Engine("demo.kmtl", workers=2)
        source = [17, 4, 2]  # ids, with the end of sentence
        engine.translate([source], {"beam_size": 4, "max_length": 32})[0][0].ids
        ```
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        workers: int = 1,
        threads: int = 1,
        isa: str = "auto",
        *,
        compute_type: str = "auto",
        verify: bool = False,
    ) -> None:
        core = library.core()
        chosen = library.isa() if isa == "auto" else library.choose_isa(isa, core.isa(), "isa")
        self.workers = whole_number("workers", workers)
        self.threads = whole_number("threads", threads)
        self._process = os.getpid()
        self._opened = core.Engine(
            os.fspath(path), compute_type, chosen, self.workers, self.threads, verify
        )
        self.file = self._opened.file
        """The open model file; see `keras_mtl.engine.open_model_file`."""
        self.hyperparameters: dict[str, Any] = self.file.hyperparameters
        """What the file says about the model: `vocabulary_size`, `max_length`, `eos_id`, …"""

    def _engine(self) -> Any:
        if os.getpid() != self._process:
            raise NativeError(
                "the engine was opened before this process was forked, and its workers are not "
                "here: open it in this process (the file's memory is shared all the same)"
            )
        return self._opened

    @property
    def isa(self) -> str:
        """The instruction set in use."""
        return self._engine().isa

    @property
    def compute_type(self) -> str:
        """`int8` or `float32`."""
        return self._engine().compute_type

    def translate(
        self,
        sources: Sequences,
        options: Any = None,
        *,
        decoders: Sequence[int] | None = None,
        prefixes: Sequences | None = None,
        shortlist: Sequence[int] = (),
        sentence_indices: Sequence[int] | None = None,
        alignments: bool = False,
        attention_layer: int = -1,
        attention_head: int = -1,
        max_batch_size: int = 64,
    ) -> list[list[Hypothesis]]:
        """Searches the best translations.

        Args:
            sources: token ids of each sentence, int32[S]: tag of the target language (where the
                model has tags), tokens, end of sentence. A sentence without tokens gets one empty
                hypothesis of score 0.
            options: a `decoding.BeamOptions`, or a mapping of its fields; default
                `BeamOptions()` within the model's positions.
            decoders: decoder of each sentence, for a model that has several; default the first.
            prefixes: token ids that all hypotheses of a sentence begin with, suppressed or not.
            shortlist: the only ids that may be produced, end of sentence among them; empty allows
                all.
            sentence_indices: what messages call the sentences, and what decides, with `seed`, what
                is sampled; default 0, 1, …
            alignments: whether hypotheses carry the attention from their tokens to all source ids.
            attention_layer: the decoder's layer whose attention that, and the coverage penalty's,
                is; -1 is the last.
            attention_head: the head; -1 is the mean over heads.
            max_batch_size: most sentences that each worker has in work at once, >= 1. Changes the
                speed and no result.

        Returns:
            For each sentence its hypotheses, best first; at most `num_hypotheses`.

        Raises:
            InputError: an option, id or length is out of range.
            KerasMtlError: the model gave a NaN.
        """
        values = option_values(options)
        values.setdefault("max_length", min(256, self.hyperparameters["max_length"]))
        forced = [] if prefixes is None else id_arrays("prefix", prefixes)
        return self._engine().translate(
            *flat_ids("source", sources),
            values,
            whole_numbers("decoders", decoders),
            [ids.tolist() for ids in forced],
            whole_numbers("sentence_indices", sentence_indices, bits=64),
            whole_numbers("shortlist", shortlist),
            alignments,
            whole_number("attention_layer", attention_layer),
            whole_number("attention_head", attention_head),
            whole_number("max_batch_size", max_batch_size),
        )

    def score(
        self,
        sources: Sequences,
        targets: Sequences,
        *,
        decoders: Sequence[int] | None = None,
        max_batch_size: int = 64,
    ) -> list[np.ndarray]:
        """Computes the log-probability of each token of given translations.

        Args:
            sources: as for :meth:`translate`; none empty whose target is not.
            targets: token ids of each target, int32[T]. An end of sentence at the end counts as a
                token; leave it out to score an unfinished translation.
            decoders: as for :meth:`translate`.
            max_batch_size: sentences in one batch of a worker, >= 1.

        Returns:
            float32[T] for each sentence, natural logarithms; no token is masked. Their sum is the
            target's log-probability.

        Raises:
            InputError: an id or length is out of range.
            KerasMtlError: the model gave a NaN.
        """
        return self._engine().score(
            *flat_ids("source", sources),
            *flat_ids("target", targets),
            whole_numbers("decoders", decoders),
            whole_number("max_batch_size", max_batch_size),
        )

    def encode(self, sources: Sequences) -> list[np.ndarray]:
        """Computes the encoder's output.

        Args:
            sources: as for :meth:`translate`.

        Returns:
            float32[S, hidden_dim] for each sentence.

        Raises:
            InputError: an id or length is out of range.
        """
        ids, begins = flat_ids("source", sources)
        return np.split(self._engine().encode(ids, begins), begins[1:-1]) if len(begins) > 1 else []
