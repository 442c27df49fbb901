"""The engine: an open model file that translates, scores and encodes."""

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
    """Translates with a model file, without TensorFlow.

    Results are identical, bit for bit, on every instruction set, in every batch and order, and with
    any number of workers and threads. All methods may be called from many threads, release the GIL,
    and stop soon after a keyboard interrupt. `docs/reference/engine_file.md` describes the file.

    Args:
        path: a file written by `keras-mtl export --format engine`.
        workers: number of threads that share the calls, the sentences of each call and the weights,
            1 to 1024. One worker for each core gives the most tokens per second.
        threads: number of threads that each worker uses inside one operation, 1 to 1024. More
            threads reduce the latency of single sentences.
        isa: the instruction set, one of `keras_mtl.engine.library.ISAS`; or `auto` for the value of
            `KERAS_MTL_ISA` or, if that is not set, the fastest.
        compute_type: `int8`, `float32`, or `auto` for the type of the weights in the file.
        verify: if True, first compares the checksum of every tensor.

    Raises:
        ExportError: the file is missing, damaged or of another kind.
        InputError: an argument is out of range.
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
        """The hyperparameters in the file: `vocabulary_size`, `max_length`, `eos_id`, …"""

    def _engine(self) -> Any:
        if os.getpid() != self._process:
            raise NativeError(
                "the engine was opened before this process was forked, so this process has no "
                "workers. Open it again in this process; the memory of the file is shared "
                "nevertheless"
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
        biases: Sequences | None = None,
        shortlist: Sequence[int] = (),
        sentence_indices: Sequence[int] | None = None,
        alignments: bool = False,
        attention_layer: int = -1,
        attention_head: int = -1,
        max_batch_size: int = 64,
    ) -> list[list[Hypothesis]]:
        """Translates token ids with beam search or sampling.

        Args:
            sources: the token ids of each sentence, integers `[S]`: the tag of the target language
                (if the model has tags), the tokens, the end of sentence. A sentence without tokens
                gets one empty hypothesis with score 0.
            options: a `keras_mtl.decoding.BeamOptions` or a mapping of its fields. Default:
                `BeamOptions()`, with `max_length` at most that of the model.
            decoders: the decoder of each sentence, for a model with several decoders. With
                adapters, `TranslationTask.route` of its task. Default: the first, without adapters.
            prefixes: token ids with which all hypotheses of each sentence begin, even if an option
                suppresses them.
            biases: token ids towards which each sentence is biased with `bias_weight`, even if an
                option suppresses them.
            shortlist: the only ids that may be produced, including the end of sentence. Empty
                allows all.
            sentence_indices: the number of each sentence, used in messages and, together with
                `seed`, to draw samples. Default: 0, 1, …
            alignments: whether hypotheses contain the attention from their tokens to all source
                ids.
            attention_layer: the decoder layer that provides the attention for alignments and for
                the coverage penalty. -1 is the last.
            attention_head: the head that provides it. -1 is the mean over all heads.
            max_batch_size: maximum number of sentences that each worker processes at once, at least
                1. It changes the speed, but no result.

        Returns:
            For each sentence at most `num_hypotheses` hypotheses, best first.

        Raises:
            InputError: an option, id or length is out of range.
            KerasMtlError: the output of the model is NaN.
        """
        values = option_values(options)
        values.setdefault("max_length", min(256, self.hyperparameters["max_length"]))
        forced = [] if prefixes is None else id_arrays("prefix", prefixes)
        wanted = [] if biases is None else id_arrays("bias", biases)
        return self._engine().translate(
            *flat_ids("source", sources),
            values,
            whole_numbers("decoders", decoders),
            [ids.tolist() for ids in forced],
            [ids.tolist() for ids in wanted],
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
            sources: as for `translate`. A source may be empty only if its target is.
            targets: the token ids of each target, integers `[T]`. A final end of sentence counts as
                a token; omit it to score an unfinished translation.
            decoders: as for `translate`.
            max_batch_size: number of sentences in one batch of a worker, at least 1.

        Returns:
            For each sentence float32 `[T]`, natural logarithms, without masking. Their sum is the
            log-probability of the target.

        Raises:
            InputError: an id or length is out of range.
            KerasMtlError: the output of the model is NaN.
        """
        return self._engine().score(
            *flat_ids("source", sources),
            *flat_ids("target", targets),
            whole_numbers("decoders", decoders),
            whole_number("max_batch_size", max_batch_size),
        )

    def encode(
        self, sources: Sequences, *, decoders: Sequence[int] | None = None
    ) -> list[np.ndarray]:
        """Computes the output of the encoder.

        Args:
            sources: as for `translate`.
            decoders: as for `translate`; only adapters make a difference.

        Returns:
            float32 `[S, hidden_dim]` for each sentence; with transparent attention
            `[decoder_layers, S, hidden_dim]`.

        Raises:
            InputError: an id or length is out of range.
        """
        ids, begins = flat_ids("source", sources)
        if len(begins) == 1:
            return []
        found = self._engine().encode(ids, begins, whole_numbers("decoders", decoders))
        return np.split(found, begins[1:-1], axis=-2)
