"""Ranges of the options of beam search, for `BeamOptions` and for `task.decoding`."""

import math

from keras_mtl.configuration.search_options import SearchOptions
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
    "eoc_id": -1,
}
MOST_FINISHED = 1 << 20  # As in cc/engine/beam_options.cc.
_POSITIVE = (
    "patience",
    "max_length_factor",
    "target_seq_length_ratio",
    "repetition_penalty",
    "temperature",
    "top_p",
)
_NOT_NEGATIVE = (
    "alpha",
    "length_penalty_constant",
    "coverage_penalty",
    "eos_max_logit_delta",
    "beam_gap",
    "bias_weight",
)
_SWITCHES = (
    "sampling",
    "lingvo_pruning",
    "ensure_full_beam",
    "force_eos_in_last_step",
    "force_eos_in_top_k",
    "merge_paths",
    "bias_only_if_consistent",
)


def problems(options: SearchOptions) -> list[tuple[str, str]]:
    """Returns the problems of options.

    Args:
        options: the options; further fields of a subclass are not checked.

    Returns:
        (field, text) for each value that is out of its range; the text follows `field=value` and
        names the remedy. Fields are compared with each other only if each is in its range.
    """
    return _out_of_range(options) or _misfits(options)


def _out_of_range(options: SearchOptions) -> list[tuple[str, str]]:
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


def _misfits(options: SearchOptions) -> list[tuple[str, str]]:
    found = []
    if not 0.01 <= options.repetition_penalty <= 100:
        found.append(("repetition_penalty", ": give a number of 0.01 to 100"))
    if options.top_p > 1:
        found.append(("top_p", ": give a number above 0 and at most 1"))
    if options.bias_weight > 1:
        found.append(("bias_weight", ": give a number from 0 to 1"))
    if options.merge_paths and options.eoc_id < 0:
        found.append(("merge_paths", " requires eoc_id, the id of the empty token: set it"))
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
                f": a sentence would end with {finished} finished hypotheses, fewer "
                f"than num_hypotheses={hypotheses}; give at least {hypotheses / beam:g}",
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


def max_finished(options: SearchOptions) -> int:
    """Returns how many finished hypotheses end a sentence when there is a length penalty."""
    count = options.beam_size * options.patience + 0.5
    return math.floor(count) if count < MOST_FINISHED else MOST_FINISHED
