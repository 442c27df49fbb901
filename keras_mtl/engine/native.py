"""The C++ core: loading it, checking that it belongs to this package, the engine for inference.

Nothing is loaded on import. The package works without the core where a TensorFlow implementation
exists; who needs the core calls :func:`core` and lets its message reach the user.
"""

import dataclasses
import functools
import importlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import keras_mtl
from keras_mtl import errors

ISAS = ("generic", "avx2", "vnni", "amx")
"""Instruction sets that kernels are written for, slowest first."""

Sequences = Iterable[Sequence[int] | np.ndarray]
"""Token ids of sentences: lists, or integer arrays of one dimension."""

_ISA_VARIABLE = "KERAS_MTL_ISA"
_REBUILD = "build it with `make` in a checkout, or install the package again with pip"


class NativeError(errors.KerasMtlError):
    """The C++ core is missing, of another version, or asked for what the processor lacks."""


@functools.cache
def core() -> ModuleType:
    """Loads the module ``keras_mtl._core``.

    Returns:
      The module; later calls return the same one.

    Raises:
      NativeError: it is not built, cannot be loaded, or was built for another version.
    """
    try:
        module = importlib.import_module("keras_mtl._core")
    except ModuleNotFoundError as error:
        raise NativeError(f"the C++ core keras_mtl._core is not built; {_REBUILD}") from error
    except ImportError as error:
        raise NativeError(
            f"the C++ core keras_mtl._core cannot be loaded ({error}); {_REBUILD}"
        ) from error
    check_version(module.version(), getattr(module, "__file__", "keras_mtl._core"))
    return module


def check_version(built_for: str, path: str) -> None:
    """Checks that the core was built from the sources of this package.

    Args:
      built_for: version that the core reports.
      path: file of the core, for the message.

    Raises:
      NativeError: the versions differ.
    """
    if built_for != keras_mtl.__version__:
        raise NativeError(
            f"{path}: the C++ core was built for keras_mtl {built_for}, this is "
            f"{keras_mtl.__version__}; {_REBUILD}"
        )


def is_available() -> bool:
    """Whether the core is built, loadable and of this version."""
    try:
        core()
    except NativeError:
        return False
    return True


@functools.cache
def load_ops() -> ModuleType:
    """Loads the TensorFlow operations of keras_mtl and imports TensorFlow.

    To be called before a SavedModel that holds them is loaded. They have kernels for CPUs alone and
    none for XLA, so a function that calls them must not be compiled (``jit_compile=False``).

    Returns:
      A module with a function for each operation: ``keras_mtl_quantized_mat_mul``,
      ``keras_mtl_beam_search``, ``keras_mtl_translate``, …

    Raises:
      NativeError: they are not built, or for another version of TensorFlow or keras_mtl.
    """
    library = _ops_library()
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise NativeError(
            f"{library}: the TensorFlow operations need the package {error.name}, which is not "
            "installed; translating with `keras_mtl.engine.native.Engine` needs neither"
        ) from error

    check_ops_version(library, tf.__version__)
    try:
        return tf.load_op_library(str(library))
    except tf.errors.OpError as error:
        raise NativeError(
            f"{library}: the TensorFlow operations cannot be loaded ({error.message}); {_REBUILD}"
        ) from error


def ops_are_available() -> bool:
    """Whether the TensorFlow operations are built and loadable; imports TensorFlow if they are."""
    try:
        load_ops()
    except NativeError:
        return False
    return True


def _ops_library() -> Path:
    # A package that is installed in place has its libraries in another directory than its sources.
    for directory in keras_mtl.__path__:
        library = Path(directory) / "_tf_ops.so"
        if library.is_file():
            return library
    raise NativeError(
        "the TensorFlow operations keras_mtl/_tf_ops.so are not built: TensorFlow was not there "
        "when keras_mtl was built. Everything else works without them; to have them, build "
        "keras_mtl where tensorflow is installed (`make` in a checkout, or `pip install "
        "--no-build-isolation`)"
    )


def check_ops_version(library: Path, tensorflow: str) -> None:
    """Checks what the TensorFlow operations were built for, without loading them.

    Args:
      library: file of the operations; ``_tf_ops.json`` beside it says what it was built for.
      tensorflow: version of the TensorFlow that shall load it.

    Raises:
      NativeError: the minor versions of TensorFlow, or the versions of keras_mtl, differ.
    """
    record = library.with_suffix(".json")
    try:
        built = json.loads(record.read_text(encoding="utf-8"))
        built_for, of_package = str(built["tensorflow"]), str(built["keras_mtl"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NativeError(f"{record} cannot be read ({error}); {_REBUILD}") from error
    if built_for.split(".")[:2] != tensorflow.split(".")[:2]:
        raise NativeError(
            f"{library}: the TensorFlow operations were built for TensorFlow {built_for} and this "
            f"is {tensorflow}; their binary interface changes with each minor version. Install "
            f"tensorflow {'.'.join(built_for.split('.')[:2])}, or build keras_mtl here: `make` in "
            "a checkout, or `pip install --no-build-isolation`"
        )
    check_version(of_package, str(library))


def cpu_features() -> dict[str, bool]:
    """What the processor has and the operating system allows, by name (``avx2``, ``amx_int8``...).

    Raises:
      NativeError: the core cannot be loaded.
    """
    return dict(core().cpu_features())


def isa() -> str:
    """The instruction set that kernels use: the fastest of this machine.

    The environment variable ``KERAS_MTL_ISA`` chooses a slower one, to compare or to reproduce.

    Returns:
      One of :data:`ISAS`.

    Raises:
      NativeError: the variable names no instruction set, or one that this machine lacks; or the
        core cannot be loaded.
    """
    return _environment_isa()


def choose_isa(requested: str, best: str, name: str = _ISA_VARIABLE) -> str:
    """Resolves a requested instruction set against what the machine has.

    Args:
      requested: one of :data:`ISAS`, or empty for the best.
      best: the fastest of :data:`ISAS` that this machine has.
      name: where it was requested, for the message.

    Returns:
      The instruction set to use.

    Raises:
      NativeError: ``requested`` is unknown or faster than ``best``.
    """
    if not requested:
        return best
    if requested not in ISAS:
        raise NativeError(
            f"{name}={requested!r} is not an instruction set{errors.nearest(requested, ISAS)}"
        )
    usable = ISAS[: ISAS.index(best) + 1]
    if requested not in usable:
        raise NativeError(
            f"{name}={requested}: this machine cannot run it; it can run {', '.join(usable)}"
        )
    return requested


class Hypothesis(NamedTuple):
    """One hypothesis of a search in C++.

    Attributes:
      tokens: without end of sentence.
      score: log-probability / length penalty + coverage.
      log_probability: end of sentence included.
      ended: whether it ended; else it was cut off at its longest.
      token_scores: float32[T], log-probability of each token, then of the end if there was one.
      alignment: float32[T, source length], the attention when each was predicted; None where it
        was not asked for.
    """

    tokens: list[int]
    score: float
    log_probability: float
    ended: bool
    token_scores: np.ndarray
    alignment: np.ndarray | None


class Engine:
    """A model file (``docs/reference/engine_file.md``) ready to translate, without TensorFlow.

    Results are the same, bit by bit, on every instruction set, in every batch and order, and with
    any number of workers and threads. All methods are safe for use from many threads, run without
    the GIL, and end soon after an interrupt from the keyboard.

    Args:
      path: the file that ``keras-mtl export --format engine`` wrote.
      workers: sentences of a call, and calls, are shared out among so many threads, which share the
        weights; 1 to 1024. As many as there are cores give the most tokens a second.
      threads: used by each worker inside one operation, for the latency of single sentences; 1 to
        1024.
      compute_type: ``int8``, ``float32``, or ``auto`` for that of the file's weights.
      isa: one of :data:`ISAS`, or ``auto``: the fastest, or what ``KERAS_MTL_ISA`` says.
      verify: compare the checksum of every tensor first.

    Raises:
      ExportError: the file is missing, damaged or of another kind.
      InputError: an argument is out of its range.
      NativeError: the C++ core cannot be loaded, or this machine lacks the instruction set.

    Example:
      >>> engine = Engine("model.kmtl", workers=2)
      >>> engine.translate([[tag, 17, 4, eos]], {"beam_size": 4, "max_length": 64})[0][0].tokens
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
        name = os.fspath(path)
        chosen = _environment_isa() if isa == "auto" else choose_isa(isa, core().isa(), "isa")
        self.workers, self.threads = _whole("workers", workers), _whole("threads", threads)
        self._process = os.getpid()
        self._opened = core().Engine(name, compute_type, chosen, self.workers, self.threads, verify)
        self.hyperparameters: dict[str, Any] = core().ModelFile(name).hyperparameters
        """What the file says of the model: ``vocabulary_size``, ``max_length``, ``eos_id``, …"""

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
        """``int8`` or ``float32``."""
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
          sources: token ids of each sentence, int32[S]: tag of the target language (where the model
            has tags), tokens, end of sentence. A sentence without tokens gets one empty hypothesis
            of score 0.
          options: a ``decoding.BeamOptions``, or a mapping of its fields; default
            ``BeamOptions()`` within the model's positions.
          decoders: decoder of each sentence, for a model that has several; default the first.
          prefixes: token ids that all hypotheses of a sentence begin with, suppressed or not.
          shortlist: the only ids that may be produced, end of sentence among them; empty allows
            all.
          sentence_indices: what messages call the sentences, and what decides, with ``seed``, what
            is sampled; default 0, 1, …
          alignments: whether hypotheses carry the attention from their tokens to all source ids.
          attention_layer: the decoder's layer whose attention that, and the coverage penalty's, is;
            -1 is the last.
          attention_head: the head; -1 is the mean over heads.
          max_batch_size: most sentences that each worker has in work at once, >= 1. Changes the
            speed and no result.

        Returns:
          For each sentence its hypotheses, best first; at most ``num_hypotheses``.

        Raises:
          InputError: an option, id or length is out of range.
          KerasMtlError: the model gave a NaN.
        """
        values = _option_values(options, self.hyperparameters["max_length"])
        given = None if prefixes is None else [ids.tolist() for ids in _arrays("prefix", prefixes)]
        found = self._engine().translate(
            *_flat("source", sources),
            values,
            _list("decoders", decoders),
            given or [],
            _list("sentence_indices", sentence_indices, bits=64),
            _list("shortlist", shortlist),
            alignments,
            _whole("attention_layer", attention_layer),
            _whole("attention_head", attention_head),
            _whole("max_batch_size", max_batch_size),
        )
        return [[Hypothesis(**fields) for fields in hypotheses] for hypotheses in found]

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
            *_flat("source", sources),
            *_flat("target", targets),
            _list("decoders", decoders),
            _whole("max_batch_size", max_batch_size),
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
        ids, begins = _flat("source", sources)
        return np.split(self._engine().encode(ids, begins), begins[1:-1]) if len(begins) > 1 else []


def _environment_isa() -> str:
    return choose_isa(os.environ.get(_ISA_VARIABLE, ""), core().isa())


def _whole(name: str, value: Any, bits: int = 32) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise errors.InputError(f"{name}={value!r}: give a whole number")
    whole = int(value)
    if abs(whole) >= 2 ** (bits - 1):
        raise errors.InputError(f"{name}={value!r}: give a whole number below 2^{bits - 1}")
    return whole


def _arrays(name: str, sequences: Sequences) -> list[np.ndarray]:
    """Returns ids of sentences as int32 arrays."""
    arrays = []
    for i, ids in enumerate(sequences):
        try:
            array = np.asarray(ids)
        except (ValueError, TypeError) as error:  # Lists of unequal length in place of ids.
            raise errors.InputError(f"{name} {i} is no list of ids of tokens: {error}") from error
        if array.size == 0:
            array = np.zeros([0], np.int32)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise errors.InputError(
                f"{name} {i} is {array.dtype} of shape {list(array.shape)}: give a list of whole "
                "numbers, ids of tokens"
            )
        if array.dtype != np.int32:
            wrong = array[(array < -(2**31)) | (array >= 2**31)]
            if wrong.size:
                raise errors.InputError(f"{name} {i} holds the id {wrong[0]}; ids are below 2^31")
            array = array.astype(np.int32)
        arrays.append(array)
    return arrays


def _flat(name: str, sequences: Sequences) -> tuple[np.ndarray, list[int]]:
    """Returns the ids of all sentences, one behind the other, and where each begins and ends."""
    arrays = _arrays(name, sequences)
    begins = np.cumsum([0, *map(len, arrays)]).tolist()
    return np.concatenate([np.zeros([0], np.int32), *arrays]), begins


def _list(name: str, values: Sequence[int] | None, bits: int = 32) -> list[int]:
    return [] if values is None else [_whole(name, value, bits) for value in values]


def _option_values(options: Any, longest: int) -> dict[str, Any]:
    """Returns options of beam search by name."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        values = dataclasses.asdict(options)
    else:
        values = dict(options or {})
        unknown = sorted(values.keys() - set(core().option_names()))
        if unknown:
            raise errors.InputError(
                f"unknown decoding option {unknown[0]!r}"
                f"{errors.nearest(unknown[0], core().option_names())}"
            )
        values.setdefault("max_length", min(256, longest))
    return {name: value for name, value in values.items() if value is not None}
