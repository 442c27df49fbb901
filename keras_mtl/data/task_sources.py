"""Sources of a mixture: the training examples of one task, numbered by increasing length.

`TranslationSource` reads a prepared store; `ArraySource` holds arrays for any Keras model. A new
kind of data needs only one more class with the members of `TaskSource`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keras_mtl.errors import DataError

if TYPE_CHECKING:
    from keras_mtl.data.pair_changes import PairChanges

#: Name of each array of a batch: (dtype, shape of one example with None for the length).
ExampleSpec = dict[str, tuple[np.dtype, tuple[int | None, ...]]]


class TaskSource(Protocol):
    """The training examples of one task.

    Attributes:
        name: name of the task; it keys the shuffling and the place in a saved state.
        size: number of examples.
        cumulative_lengths: int64[L + 1]; entry l is the number of examples of length <= l.
            Examples are numbered by increasing length, so a length bucket is a range of them. The
            length is the one to which a batch must be padded; without padding every length is 1.
        spec: dtype and shape of each array of an example.
        elements: number of elements of all examples without padding: tokens of text, or examples.
        padded_arrays: number of arrays of a batch with rows * length elements (2 for text).
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def cumulative_lengths(self) -> np.ndarray: ...

    @property
    def spec(self) -> ExampleSpec: ...

    @property
    def elements(self) -> int: ...

    @property
    def padded_arrays(self) -> int: ...

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """Returns int64[k], the lengths of the examples `indices` int64[k]."""
        ...

    def gather(self, indices: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Returns the arrays [k, ...] of the examples `indices` int64[k], padded to `length`."""
        ...


class PairReader(Protocol):
    """The members of a `keras_mtl.data.store.StoreReader` that a translation source uses."""

    vocabulary_size: int
    source_tokens: int
    target_tokens: int
    max_lengths_cumulative: np.ndarray

    def __len__(self) -> int: ...

    def lengths(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of pieces of source and target, int64[k] each."""
        ...

    def gather_flat(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pieces of source 0, target 0, source 1, … and their lengths, int64[2k]."""
        ...

    def pair(self, index: int) -> tuple[np.ndarray, int, int]:
        """Returns the pieces of a source and its target, and the numbers of both."""
        ...


class TranslationSource:
    """Sentence pairs of a store as rows: source = [tag] + pieces + [eos], target = pieces + [eos].

    Args:
        name: name of the task.
        reader: the store of its training pairs, sorted by the longer side.
        eos_id: id of the end of sentence.
        tag_id: id of the target language's tag before the source; None adds no tag (for models with
            a decoder for each language).
        changes: what changes the pairs each time a mixture reads them; None keeps them.

    Attributes:
        reader, eos_id, tag_id, changes: as given.

    Raises:
        DataError: the store is empty.
    """

    spec: ExampleSpec = {  # noqa: RUF012 - fixed, and part of the protocol
        "source": (np.dtype(np.int32), (None,)),
        "target": (np.dtype(np.int32), (None,)),
    }
    padded_arrays = 2

    def __init__(
        self,
        name: str,
        reader: PairReader,
        *,
        eos_id: int,
        tag_id: int | None = None,
        changes: "PairChanges | None" = None,
    ) -> None:
        self.name = name
        self.size = len(reader)
        if self.size == 0:
            raise DataError(
                f"task {name!r} has no training pairs; give it a corpus, relax its cleaning rules, "
                "or remove the task"
            )
        self.reader = reader
        self.eos_id = eos_id
        self.tag_id = tag_id
        self.changes = changes
        self._tags = 0 if tag_id is None else 1
        # The longer side in the store determines the bucket. If that is the target of a task with a
        # tag, the bucket may be one token longer than needed, but it is still a range of the store.
        self._overhead = self._tags + 1
        cumulative = reader.max_lengths_cumulative
        if changes is not None:
            # The order of the store remains that of the lengths, because `longest` is monotone.
            longest = changes.longest(np.arange(len(cumulative)))
            pairs = np.bincount(longest, np.diff(cumulative, prepend=0))
            cumulative = np.cumsum(pairs).astype(np.int64)
        self.cumulative_lengths = np.concatenate([np.zeros(self._overhead, np.int64), cumulative])
        pieces = reader.source_tokens + reader.target_tokens
        if changes is not None:
            pieces = int(self.size * self.mean_pieces().sum())
        self.elements = pieces + self.size * (self._overhead + 1)

    def mean_pieces(self) -> np.ndarray:
        """Returns float64[2], mean pieces of source and target; with changes the most of them."""
        totals = np.array([[self.reader.source_tokens, self.reader.target_tokens]])
        means = totals / self.size
        return (means if self.changes is None else self.changes.reserve(means))[0]

    def mean_tokens(self) -> np.ndarray:
        """Returns `mean_pieces` with tag and ends of sentence."""
        return self.mean_pieces() + np.array([self._tags + 1, 1])

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        longest = np.maximum(*self.reader.lengths(indices))
        if self.changes is not None:
            longest = self.changes.longest(longest)
        return longest + self._overhead

    def gather(self, indices: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Returns "source" and "target" as stored, without changes, int32[k, length].

        Both are padded with 0.

        Raises:
            DataError: a pair is longer than `length`, or the store is damaged.
        """
        tokens, lengths = self.reader.gather_flat(indices)
        count = len(indices)
        # First cell of each side's pieces in [2, count, length], in the order of the reader:
        # source 0, target 0, source 1, …
        first = np.arange(count)[:, None] * length + np.array([0, count * length])
        if self._tags:
            first[:, 0] += 1
        begins = first.reshape(-1)
        ends = begins + lengths
        if lengths.size and lengths.max() + self._overhead > length:
            raise DataError(
                f"task {self.name!r}: a pair has {int(lengths.max())} pieces; with tag and end of "
                f"sentence it does not fit into {length} tokens"
            )
        cells = np.zeros(2 * count * length, np.int32)
        before = np.cumsum(lengths) - lengths
        cells[np.repeat(begins - before, lengths) + np.arange(len(tokens))] = tokens
        cells[ends] = self.eos_id
        if self.tag_id is not None:
            cells[begins[0::2] - 1] = self.tag_id
        sides = cells.reshape(2, count, length)
        return {"source": sides[0], "target": sides[1]}


class ArraySource:
    """Holds the examples of a task of any Keras model in arrays, without padding.

    Use it with a single `Bucket(length=1, rows=batch_size)`.

    Args:
        name: name of the task.
        arrays: arrays [size, ...] by name, for example `{"x": images, "y": labels}`. Arrays of the
            same name have the same dtype and example shape in all tasks of a mixture. The arrays
            are not copied.

    Raises:
        DataError: there are no arrays or no examples, or the numbers of examples differ.

    Example:
        ```python
        import numpy as np
        from keras_mtl import ArraySource

        images = np.zeros((500, 28, 28, 1), np.float32)
        source = ArraySource("digits", {"x": images, "y": np.arange(500) % 10})
        source.size  # 500
        source.gather(np.array([3, 7]), length=1)["y"]  # array([3, 7])
        ```
    """

    padded_arrays = 1

    def __init__(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        self.name = name
        self._arrays = {key: np.asarray(value) for key, value in arrays.items()}
        sizes = {key: len(value) for key, value in self._arrays.items()}
        if not sizes or len(set(sizes.values())) > 1 or 0 in sizes.values():
            raise DataError(
                f"task {name!r}: its arrays have {sizes} examples; give at least one array, all "
                "with the same number of examples >= 1"
            )
        self.size = next(iter(sizes.values()))
        self.elements = self.size
        self.cumulative_lengths = np.array([0, self.size], np.int64)
        self.spec: ExampleSpec = {
            key: (value.dtype, value.shape[1:]) for key, value in self._arrays.items()
        }

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        return np.ones(len(indices), np.int64)

    def gather(self, indices: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Returns the rows `indices` of each array; `length` is not used."""
        return {key: value[indices] for key, value in self._arrays.items()}
