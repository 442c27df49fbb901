"""What can be asked of beam search: names, defaults and ranges, for the API and the configuration.

``decoding.BeamOptions`` has these fields and so has the section ``task.decoding`` of a
configuration; both are checked by :func:`problems`.
"""

import dataclasses
import math
from typing import Any

from keras_mtl.errors import nearest

LENGTH_PENALTIES = ("none", "power", "gnmt", "lingvo", "constant")

_LEAST = {
    "beam_size": 1,
    "num_hypotheses": 1,
    "min_length": 0,
    "max_length": 1,
    "max_length_offset": 0,
    "no_repeat_ngram": 0,
    "top_k": 0,
    "seed": 0,
}
_MOST_FINISHED = 1 << 20  # As in cc/engine/beam_options.cc.
_POSITIVE = ("patience", "max_length_factor", "repetition_penalty", "temperature", "top_p")
_NOT_NEGATIVE = (
    "alpha",
    "length_penalty_constant",
    "coverage_penalty",
    "eos_max_logit_delta",
    "beam_gap",
)
_SWITCHES = ("sampling", "lingvo_pruning", "ensure_full_beam", "force_eos_in_last_step")


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """Options of beam search; ``docs/reference/beam_search.md`` describes the rule.

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
      lingvo_pruning: steps and ends by Lingvo's rule (``docs/reference/beam_search.md``) instead.
        Native only, as are the five below, which are read only then.
      eos_max_logit_delta: a hypothesis may end where the end's log-probability is above that of its
        best token less this; >= 0.
      local_eos_threshold: and above this.
      beam_gap: a sentence ends when all live hypotheses are this far below the best that ended;
        >= 0.
      ensure_full_beam: and not before ``beam_size`` hypotheses have ended.
      force_eos_in_last_step: hypotheses may end at ``max_length`` in any case.

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


def problems(options: Any) -> list[tuple[str, str]]:
    """What is wrong with options.

    Args:
      options: anything that has the fields of ``SearchOptions``.

    Returns:
      (field, text) for each value that is out of its range; the text follows ``field=value`` and
      names the remedy. Fields that do not fit together are looked for when each is in its range.
    """
    return _out_of_range(options) or _misfits(options)


def _out_of_range(options: Any) -> list[tuple[str, str]]:
    found = []
    for name, lowest in _LEAST.items():
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            found.append((name, f": give a whole number of at least {lowest}"))
    for name in (*_POSITIVE, *_NOT_NEGATIVE):
        value = getattr(options, name)
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
            found.append((name, f": give a finite number {bound}"))
    for name in _SWITCHES:
        if not isinstance(getattr(options, name), bool):
            found.append((name, ": give true or false"))
    threshold = options.local_eos_threshold
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        found.append(("local_eos_threshold", ": give a number"))
    if options.length_penalty not in LENGTH_PENALTIES:
        remedy = nearest(str(options.length_penalty), LENGTH_PENALTIES)
        found.append(("length_penalty", f" is unknown{remedy}"))
    return found


def _misfits(options: Any) -> list[tuple[str, str]]:
    found = []
    if not 0.01 <= options.repetition_penalty <= 100:
        found.append(("repetition_penalty", ": give a number of 0.01 to 100"))
    if options.top_p > 1:
        found.append(("top_p", ": give a number above 0 and at most 1"))
    if options.seed >= 2**64:
        found.append(("seed", ": give a whole number below 2^64"))
    if options.sampling and options.lingvo_pruning:
        found.append(("sampling", " and lingvo_pruning=True: choose one"))
    hypotheses, beam = options.num_hypotheses, options.beam_size
    finished = max_finished(options)
    if hypotheses > beam:
        found.append(
            (
                "num_hypotheses",
                f" is above beam_size={beam}: a beam of k finds k hypotheses; raise beam_size or "
                "lower num_hypotheses",
            )
        )
    elif finished < hypotheses:
        found.append(
            (
                "patience",
                f": a sentence would end with {finished} finished hypotheses, below "
                f"num_hypotheses={hypotheses}; give at least {hypotheses / beam:g}",
            )
        )
    if options.min_length > options.max_length:
        found.append(
            (
                "min_length",
                f" is above max_length={options.max_length}: lower min_length or raise max_length",
            )
        )
    return found


def max_finished(options: Any) -> int:
    """Number of finished hypotheses that ends a sentence when there is a length penalty."""
    count = options.beam_size * options.patience + 0.5
    return math.floor(count) if count < _MOST_FINISHED else _MOST_FINISHED
