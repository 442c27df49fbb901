"""The options of beam search: one dataclass, the same names in Python, YAML and every export."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from keras_mtl.errors import InputError, nearest

LENGTH_PENALTIES = ("none", "power", "gnmt", "lingvo", "constant")

NATIVE_ONLY = (
    "coverage_penalty",
    "repetition_penalty",
    "no_repeat_ngram",
    "sampling",
    "lingvo_pruning",
)
"""Options that the TensorFlow search does not have. The others of sampling and of Lingvo's rule are
read only when these two are on."""

_POSITIVE = ("patience", "max_length_factor", "repetition_penalty", "temperature", "top_p")
_NOT_NEGATIVE = (
    "alpha",
    "length_penalty_constant",
    "coverage_penalty",
    "eos_max_logit_delta",
    "beam_gap",
)
_SWITCHES = (
    "score_prefix",
    "early_exit",
    "sampling",
    "lingvo_pruning",
    "ensure_full_beam",
    "force_eos_in_last_step",
)


@dataclasses.dataclass(frozen=True)
class BeamOptions:
    """Options of beam search; the rule they steer is written down in ``docs/decoding.md``.

    Args:
      beam_size: k, live hypotheses of a sentence; >= 1. 1 is greedy decoding.
      num_hypotheses: hypotheses returned for a sentence; in [1, beam_size].
      patience: a sentence ends when round(beam_size * patience) hypotheses are finished (halves
        round up); > 0, and that number must reach ``num_hypotheses``.
      min_length: fewest target tokens, end of sentence not counted; >= 0.
      max_length: most target tokens, end of sentence not counted; >= 1 and >= min_length.
      max_length_factor: when set, a sentence of n source tokens (tag and end of sentence not
        counted) gets at most floor(max_length_factor * n) + max_length_offset target tokens,
        never more than ``max_length``; > 0.
      max_length_offset: see ``max_length_factor``; >= 0.
      length_penalty: what a hypothesis' log-probability is divided by, its length being in tokens
        and counting the end of sentence: ``none``, ``power`` (length^alpha), ``gnmt``
        (((5 + length) / 6)^alpha), ``lingvo`` (((5 + length) / 5)^alpha) or ``constant``
        (((c + length) / (c + 1))^alpha, c being ``length_penalty_constant``).
      alpha: exponent of the length penalty; >= 0. 0 is the same as ``none``.
      length_penalty_constant: c of the penalty ``constant``; >= 0.
      suppress: token ids that are never produced; their probability goes to the other tokens.
      score_prefix: whether forced target tokens count in the score.
      early_exit: end a sentence as soon as no live hypothesis can reach the ones to be returned.
        Changes no result, only the time.
      coverage_penalty: b; b · Σ over source tokens of log(min(Σ of their attention, 1)) is added to
        the score; >= 0. Native only.
      repetition_penalty: logits of tokens that a hypothesis holds already are divided by it where
        above 0 and multiplied by it where below; in [0.01, 100], 1 is off. Native only.
      no_repeat_ngram: no hypothesis holds a sequence of so many tokens twice; 0 is off. Native
        only.
      sampling: draw ``beam_size`` sequences at random, each by itself, and return the
        ``num_hypotheses`` of best score. What is drawn depends on ``seed``, the sentence's index,
        the step and the number of the sequence alone. Native only, as are the four below.
      temperature: logits are divided by it before drawing; > 0. Scores are the model's own.
      top_k: draw from so many likeliest tokens; 0 is all.
      top_p: then draw from the fewest likeliest tokens that reach this share; in (0, 1].
      seed: in [0, 2^64).
      lingvo_pruning: steps and ends by Lingvo's rule (``docs/decoding.md``) in place of ours.
        Native only, as are the five below, which are read only then.
      eos_max_logit_delta: a hypothesis may end where the end's log-probability is above that of its
        best token less this; >= 0.
      local_eos_threshold: and above this.
      beam_gap: a sentence ends when all live hypotheses are this far below the best that ended;
        >= 0.
      ensure_full_beam: and not before ``beam_size`` hypotheses have ended.
      force_eos_in_last_step: hypotheses may end at ``max_length`` in any case.

    Raises:
      InputError: an option is out of its range; the message names option, value and remedy.

    Reference: ``gnmt`` and the coverage penalty are equation 14 of arXiv 1609.08144.
    """

    beam_size: int = 4
    num_hypotheses: int = 1
    patience: float = 1.0
    min_length: int = 1
    max_length: int = 256
    max_length_factor: float | None = None
    max_length_offset: int = 0
    length_penalty: str = "power"
    alpha: float = 1.0
    length_penalty_constant: float = 5.0
    suppress: tuple[int, ...] = ()
    score_prefix: bool = True
    early_exit: bool = True
    coverage_penalty: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    sampling: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    lingvo_pruning: bool = False
    eos_max_logit_delta: float = 5.0
    local_eos_threshold: float = -100.0
    beam_gap: float = 3.0
    ensure_full_beam: bool = False
    force_eos_in_last_step: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "suppress", _token_ids(self.suppress))
        for name, lowest in (
            ("beam_size", 1),
            ("num_hypotheses", 1),
            ("min_length", 0),
            ("max_length", 1),
            ("max_length_offset", 0),
            ("no_repeat_ngram", 0),
            ("top_k", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise InputError(f"{name}={value!r}: give a whole number of at least {lowest}")
        for name in (*_POSITIVE, *_NOT_NEGATIVE):
            value = getattr(self, name)
            if name == "max_length_factor" and value is None:
                continue
            positive = name in _POSITIVE
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not math.isfinite(value)
                or value < 0
                or (positive and value == 0)
            ):
                bound = "above 0" if positive else "of at least 0"
                raise InputError(f"{name}={value!r}: give a finite number {bound}")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name}={getattr(self, name)!r}: give true or false")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise InputError(
                f"repetition_penalty={self.repetition_penalty!r}: give a number of 0.01 to 100"
            )
        if self.top_p > 1:
            raise InputError(f"top_p={self.top_p!r}: give a number above 0 and at most 1")
        if self.seed >= 2**64:
            raise InputError(f"seed={self.seed}: give a whole number below 2^64")
        threshold = self.local_eos_threshold
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise InputError(f"local_eos_threshold={threshold!r}: give a number")
        if self.sampling and self.lingvo_pruning:
            raise InputError("sampling and lingvo_pruning are both on: choose one")
        if self.length_penalty not in LENGTH_PENALTIES:
            raise InputError(
                f"length_penalty={self.length_penalty!r} is unknown"
                f"{nearest(str(self.length_penalty), LENGTH_PENALTIES)}"
            )
        if self.num_hypotheses > self.beam_size:
            raise InputError(
                f"num_hypotheses={self.num_hypotheses} is above beam_size={self.beam_size}: a beam "
                "of k finds k hypotheses; raise beam_size or lower num_hypotheses"
            )
        if self.max_finished < self.num_hypotheses:
            raise InputError(
                f"patience={self.patience}: a sentence would end with {self.max_finished} finished "
                f"hypotheses, below num_hypotheses={self.num_hypotheses}; give at least "
                f"{self.num_hypotheses / self.beam_size:g}"
            )
        if self.min_length > self.max_length:
            raise InputError(
                f"min_length={self.min_length} is above max_length={self.max_length}: lower "
                "min_length or raise max_length"
            )

    @property
    def max_finished(self) -> int:
        """Number of finished hypotheses that ends a sentence when there is a length penalty."""
        return math.floor(self.beam_size * self.patience + 0.5)

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

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some options changed, checked again."""
        return type(self).from_mapping({**dataclasses.asdict(self), **changes})

    def sentence_max_length(self, source_length: int) -> int:
        """Most target tokens of a sentence of ``source_length`` source tokens.

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
        """Raises InputError where an option is set that only the native search has."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in NATIVE_ONLY and value != field.default:
                raise InputError(
                    f"{field.name}={value!r}: only the native search has this option; decode with "
                    f"it, or leave the option at {field.default!r}"
                )

    def check_vocabulary(self, vocabulary_size: int, eos_id: int) -> None:
        """Raises InputError where an option does not fit a vocabulary of ``vocabulary_size``."""
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
    """Returns the option ``suppress`` as a sorted tuple of distinct ids."""
    if isinstance(value, str | int):
        raise InputError(f"suppress={value!r}: give a list of token ids")
    ids = tuple(value or ())
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int):
            raise InputError(f"suppress holds {token!r}: give whole numbers, ids of tokens")
    return tuple(sorted(set(ids)))
