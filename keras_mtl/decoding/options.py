"""The options of beam search: one dataclass, the same names in Python, YAML and every export."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from keras_mtl.configuration.schema import DecodingConfig, SearchOptions
from keras_mtl.configuration.search_checks import max_finished, problems
from keras_mtl.errors import InputError, nearest

NATIVE_ONLY = (
    "coverage_penalty",
    "repetition_penalty",
    "no_repeat_ngram",
    "sampling",
    "lingvo_pruning",
)
"""Options that the TensorFlow search does not have. The others of sampling and of Lingvo's rule are
read only when these two are on."""


@dataclasses.dataclass(slots=True, unsafe_hash=True)  # Nobody assigns to its fields.
class BeamOptions(SearchOptions):
    """Options of beam search: those of `SearchOptions` and what is not for a configuration.

    They are checked when they are made. Do not assign to them; `replace` returns changed options.

    Args:
        suppress: token ids that are never produced; their probability goes to the other tokens.
        score_prefix: whether forced target tokens count in the score.
        early_exit: end a sentence as soon as no live hypothesis can reach the ones to be returned.
            Changes no result, only the time.

    Raises:
        InputError: an option is out of its range; the message names option, value and remedy.
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
        """Number of finished hypotheses that ends a sentence when there is a length penalty."""
        return max_finished(self)

    @property
    def penalises_length(self) -> bool:
        """Whether the score is anything but the plain log-probability."""
        return self.length_penalty != "none" and self.alpha != 0

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Builds options from a dictionary, for example a section of a YAML file.

        Args:
            mapping: option name to value.

        Raises:
            InputError: an option is unknown (the message names the nearest) or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in mapping:
            if name not in known:
                raise InputError(f"unknown decoding option {name!r}{nearest(name, known)}")
        return cls(**mapping)

    @classmethod
    def from_config(cls, decoding: DecodingConfig) -> Self:
        """Builds options from the section `task.decoding` of a configuration.

        Raises:
            InputError: an option is out of range.
        """
        names = [field.name for field in dataclasses.fields(SearchOptions)]
        return cls(**{name: getattr(decoding, name) for name in names})

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some options changed, checked again."""
        return type(self).from_mapping({**dataclasses.asdict(self), **changes})

    def sentence_max_length(self, source_length: int) -> int:
        """Most target tokens of a sentence of `source_length` source tokens.

        Args:
            source_length: source tokens, language tag and end of sentence not counted; >= 0.

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
        """Raises InputError if an option is set that only the native search has."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in NATIVE_ONLY and value != field.default:
                raise InputError(
                    f"{field.name}={value!r}: only the native search has this option; decode with "
                    f"it, or leave the option at {field.default!r}"
                )

    def check_vocabulary(self, vocabulary_size: int, eos_id: int) -> None:
        """Raises InputError if an option does not fit a vocabulary of `vocabulary_size`."""
        if not vocabulary_size >= 2:
            raise InputError(f"vocabulary_size={vocabulary_size}: at least 2 tokens are needed")
        if self.beam_size > vocabulary_size:
            raise InputError(
                f"beam_size={self.beam_size} is above the vocabulary's {vocabulary_size} tokens: "
                "lower beam_size"
            )
        for token in self.suppress:
            if not 0 <= token < vocabulary_size:
                raise InputError(
                    f"suppress holds id {token}: ids of this vocabulary are 0 to "
                    f"{vocabulary_size - 1}"
                )
            if token == eos_id:
                raise InputError(
                    f"suppress holds id {token}, the end of sentence: no hypothesis could end; "
                    "use min_length to ask for longer ones"
                )


def _token_ids(value: Sequence[int] | None) -> tuple[int, ...]:
    """Returns the option `suppress` as a sorted tuple of distinct ids."""
    if isinstance(value, str | int):
        raise InputError(f"suppress={value!r}: give a list of token ids")
    ids = tuple(value or ())
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int):
            raise InputError(f"suppress holds {token!r}: give whole numbers, ids of tokens")
    return tuple(sorted(set(ids)))
