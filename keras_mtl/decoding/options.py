"""The options of beam search, with the same names in Python, YAML and every export."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from keras_mtl.configuration.search_checks import max_finished, problems
from keras_mtl.configuration.search_options import NATIVE_ONLY, DecodingConfig, SearchOptions
from keras_mtl.errors import InputError, nearest


@dataclasses.dataclass(slots=True, unsafe_hash=True)  # Its fields are never assigned to.
class BeamOptions(SearchOptions):
    """Options of beam search: the options of a configuration and three more.

    The options are checked on construction. Do not assign to them; `replace` returns a changed
    copy. `keras_mtl.configuration.search_options.SearchOptions` documents the inherited options.

    Args:
        suppress: token ids that are never produced; their probability is distributed to the other
            tokens.
        score_prefix: whether forced target tokens count in the score.
        early_exit: whether to end a sentence as soon as no live hypothesis can improve the result.
            It affects only the time, not the result.

    Raises:
        InputError: an option is out of range; the message gives its name, value and remedy.

    Example:
        >>> import keras_mtl
        >>> options = keras_mtl.BeamOptions(beam_size=8, alpha=0.6)
        >>> options.replace(beam_size=1).alpha
        0.6
    """

    suppress: tuple[int, ...] = ()
    score_prefix: bool = True
    early_exit: bool = True

    def __post_init__(self) -> None:
        self.suppress = _token_ids(self.suppress)
        for name, text in problems(self):
            raise InputError(f"{name}={getattr(self, name)!r}{text}")
        for name in ("score_prefix", "early_exit"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}={getattr(self, name)!r}: give true or false")

    @property
    def max_finished(self) -> int:
        """Number of finished hypotheses at which a sentence ends if there is a length penalty."""
        return max_finished(self)

    @property
    def penalizes(self) -> bool:
        """Whether the score is anything but the plain log-probability."""
        penalizes_length = self.length_penalty != "none" and self.alpha != 0
        return penalizes_length or self.coverage_penalty != 0

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Makes options from a mapping, for example a section of a YAML file.

        Args:
            mapping: value by option name.

        Raises:
            InputError: an option is unknown (the message suggests the nearest name) or out of
                range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in mapping:
            if name not in known:
                raise InputError(f"unknown decoding option {name!r}{nearest(name, known)}")
        return cls(**mapping)

    @classmethod
    def from_config(cls, decoding: DecodingConfig) -> Self:
        """Makes options from the section `task.decoding` of a configuration.

        Raises:
            InputError: an option is out of range.
        """
        names = [field.name for field in dataclasses.fields(SearchOptions)]
        return cls(**{name: getattr(decoding, name) for name in names})

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some options changed. The copy is checked."""
        return type(self).from_mapping({**dataclasses.asdict(self), **changes})

    def sentence_max_length(self, source_length: int) -> int:
        """Returns the maximum of target tokens for a sentence with `source_length` tokens.

        Args:
            source_length: number of source tokens without language tag and end of sentence, >= 0.

        Returns:
            0 for an empty sentence, else a number in [max(1, min_length), max_length].
        """
        if source_length == 0:
            return 0
        limit = self.max_length
        if self.max_length_factor is not None:
            product = math.floor(self.max_length_factor * source_length)
            limit = min(limit, product + self.max_length_offset)
        return max(1, self.min_length, limit)

    def check_tensorflow(self) -> None:
        """Raises InputError if an option is set that only the native search supports."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # `eoc_id` is read only with `merge_paths`.
            if NATIVE_ONLY in field.metadata and value != field.default:
                raise InputError(
                    f"{field.name}={value!r}: only the native search supports this option. Use the "
                    f"native search, or set the option to {field.default!r}"
                )

    def check_vocabulary(self, vocabulary_size: int, eos_id: int) -> None:
        """Raises InputError if an option does not match a vocabulary of `vocabulary_size`."""
        if not vocabulary_size >= 2:
            raise InputError(
                f"vocabulary_size={vocabulary_size}: a vocabulary must have at least 2 tokens"
            )
        if self.beam_size > vocabulary_size:
            raise InputError(
                f"beam_size={self.beam_size}: it must not exceed the vocabulary's "
                f"{vocabulary_size} tokens; lower beam_size"
            )
        if self.merge_paths and (self.eoc_id >= vocabulary_size or self.eoc_id == eos_id):
            raise InputError(
                f"eoc_id={self.eoc_id}: give an id from 0 to {vocabulary_size - 1} other than the "
                f"end of sentence, {eos_id}"
            )
        for token in self.suppress:
            if not 0 <= token < vocabulary_size:
                raise InputError(
                    f"suppress contains id {token}: the ids of this vocabulary are 0 to "
                    f"{vocabulary_size - 1}"
                )
            if token == eos_id:
                raise InputError(
                    f"suppress contains id {token}, the end of sentence, without which no "
                    "hypothesis could end; use min_length to get longer ones"
                )


def _token_ids(value: Sequence[int] | None) -> tuple[int, ...]:
    """Returns the option `suppress` as a sorted tuple of distinct ids."""
    if isinstance(value, str | int):
        raise InputError(f"suppress={value!r}: give a list of token ids")
    ids = tuple(value or ())
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int):
            raise InputError(
                f"suppress contains {token!r}: give token ids, which are whole numbers"
            )
    return tuple(sorted(set(ids)))
