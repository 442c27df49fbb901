"""Options of a search as tensors, for a graph whose caller chooses them.

The caller gives one string such as `beam_size=8,alpha=0.6`, as for `keras-mtl translate --options`.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from keras_mtl.configuration.search_checks import LENGTH_PENALTIES, MOST_FINISHED
from keras_mtl.configuration.search_options import NATIVE_ONLY, SearchOptions
from keras_mtl.decoding.graph_search.state import real
from keras_mtl.decoding.options import BeamOptions

_FIXED = ("eoc_id", "bias_weight", "bias_only_if_consistent")  # They need further inputs.
_NUMBER = r"[-+]?(inf|[0-9]+\.?[0-9]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?)"
_TRUE = "true|True|1"
# The pattern of each kind of value, and what an error says.
_PATTERNS = {
    "whole": ("[-+]?[0-9]{1,18}|-?[0-9]{19}", "give a whole number"),
    "number": (_NUMBER, "give a number"),
    "switch": (f"{_TRUE}|false|False|0", "give true or false"),
    "name": ("|".join(LENGTH_PENALTIES), f"give one of {', '.join(LENGTH_PENALTIES)}"),
}
_INT32 = (-(1 << 31), (1 << 31) - 1)

OPTION_NAMES = tuple(
    field.name
    for field in dataclasses.fields(SearchOptions)
    if NATIVE_ONLY not in field.metadata and field.name not in _FIXED
)
"""The options that a graph's caller can choose."""


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """Options of a search; `SearchOptions` documents them.

    Those in `OPTION_NAMES` are scalar tensors: int32 (`seed` is int64), float64, bool, or string.
    A `max_length_factor` of 0 means None.

    Attributes:
        max_finished: int32[], number of finished hypotheses at which a sentence ends.
        penalizes: bool[], whether the score is anything but the plain log-probability.
    """

    beam_size: tf.Tensor
    num_hypotheses: tf.Tensor
    patience: tf.Tensor
    min_length: tf.Tensor
    max_length: tf.Tensor
    max_length_factor: tf.Tensor
    max_length_offset: tf.Tensor
    length_penalty: tf.Tensor
    alpha: tf.Tensor
    length_penalty_constant: tf.Tensor
    coverage_penalty: tf.Tensor
    target_seq_length_ratio: tf.Tensor
    repetition_penalty: tf.Tensor
    no_repeat_ngram: tf.Tensor
    sampling: tf.Tensor
    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    seed: tf.Tensor
    lingvo_pruning: tf.Tensor
    eos_max_logit_delta: tf.Tensor
    local_eos_threshold: tf.Tensor
    beam_gap: tf.Tensor
    ensure_full_beam: tf.Tensor
    force_eos_in_last_step: tf.Tensor
    force_eos_in_top_k: tf.Tensor
    suppress: tuple[int, ...]
    score_prefix: bool
    early_exit: bool
    max_finished: tf.Tensor
    penalizes: tf.Tensor

    def length_penalties(self, max_length: Any) -> tf.Tensor:
        """Returns the divisor for each length, float32[max_length + 1]; see `penalties`."""
        lengths = tf.cast(tf.range(max_length + 1), tf.float64)
        constant = self.length_penalty_constant
        table = {
            "none": tf.ones_like(lengths),
            "power": lengths,
            "gnmt": (5.0 + lengths) / 6.0,
            "lingvo": (5.0 + lengths) / 5.0,
            "constant": (constant + lengths) / (constant + 1.0),
        }
        assert set(table) == set(LENGTH_PENALTIES)
        base = sum(
            tf.where(tf.equal(self.length_penalty, name), bases, 0.0)
            for name, bases in table.items()
        )
        penalties = tf.pow(base, self.alpha)
        return tf.cast(tf.where(lengths > 0.0, penalties, 1.0), tf.float32)


def sentence_max_lengths(options: Any, lengths: tf.Tensor) -> tf.Tensor:
    """Returns `BeamOptions.sentence_max_length` of each sentence, int32[n].

    Args:
        options: `BeamOptions` or `GraphOptions`.
        lengths: int32[n], source tokens without tag and end of sentence.
    """
    limits = tf.fill(tf.shape(lengths), options.max_length)
    factor = options.max_length_factor
    if factor is not None:
        product = tf.floor(real(factor) * tf.cast(lengths, tf.float64))
        product = tf.cast(tf.minimum(product, real(options.max_length)), tf.int32)
        limited = tf.minimum(limits, product + options.max_length_offset)
        limits = tf.where(factor > 0.0, limited, limits) if tf.is_tensor(factor) else limited
    limits = tf.maximum(limits, tf.maximum(1, options.min_length))
    return tf.where(lengths > 0, limits, 0)


def parse_options(text: tf.Tensor, defaults: BeamOptions, vocabulary_size: int) -> GraphOptions:
    """Parses and checks options in a graph.

    Args:
        text: string[], `name=value` parts separated by commas. Booleans are `true` or `false`.
        defaults: the values of options that are not given; `max_length` is also the upper limit.
        vocabulary_size: size of the vocabulary.

    Returns:
        The options. In the graph, an unknown name or an invalid value raises
        `tf.errors.InvalidArgumentError` with the name, the value and what is expected.
    """
    texts = _texts(text, defaults)
    found = _parsed(texts)
    product = tf.cast(found["beam_size"], tf.float64) * found["patience"] + 0.5
    finished = tf.cast(tf.minimum(tf.floor(product), float(MOST_FINISHED)), tf.int32)
    checks = _ranges(found, finished, defaults, vocabulary_size)
    names, valid, remedies = zip(*checks, strict=True)
    values = tf.gather(texts, [OPTION_NAMES.index(name) for name in names])
    with _required(tf.stack(valid), names, values, [f"give {remedy}" for remedy in remedies]):
        found = {name: tf.identity(value) for name, value in found.items()}
    penalizes = tf.not_equal(found["length_penalty"], "none") & tf.not_equal(found["alpha"], 0.0)
    return GraphOptions(
        **found,
        suppress=defaults.suppress,
        score_prefix=defaults.score_prefix,
        early_exit=defaults.early_exit,
        max_finished=finished,
        penalizes=penalizes | tf.not_equal(found["coverage_penalty"], 0.0),
    )


def _texts(text: tf.Tensor, defaults: BeamOptions) -> tf.Tensor:
    """Returns the value of each of `OPTION_NAMES` as text, string[n]. Unknown names fail."""
    parts = tf.strings.split(tf.strings.regex_replace(text, r"\s", ""), ",")
    # A last part that is empty, so that there is one.
    parts = tf.concat([parts, [""]], 0)
    names = tf.strings.regex_replace(parts, "=.*", "")
    matches = tf.equal(names[:, None], tf.constant(OPTION_NAMES)[None])  # [parts, n]
    known = tf.reduce_any(matches, 1) & tf.strings.regex_full_match(parts, "[^=]+=.+")
    wrong = ~(known | tf.equal(parts, ""))
    message = tf.strings.join(
        [
            "options: '",
            parts[tf.argmax(tf.cast(wrong, tf.int32))],
            f"' is not NAME=VALUE with one of the names {', '.join(OPTION_NAMES)}",
        ]
    )
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(wrong), [message])]):
        values = tf.strings.regex_replace(parts, "^[^=]*=", "")
    numbers = tf.range(tf.size(parts))[:, None]
    last = tf.reduce_max(tf.where(matches, numbers, -1), 0)  # [n]
    default = [_as_text(getattr(defaults, name)) for name in OPTION_NAMES]
    return tf.where(last >= 0, tf.gather(values, tf.maximum(last, 0)), default)


def _as_text(value: Any) -> str:
    if value is None:
        return "0"
    if isinstance(value, int) and value >= 1 << 63:  # A seed, which has 64 bits.
        value -= 1 << 64
    return str(value)


def _parsed(texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the options, with the types of their defaults, from texts string[n]."""
    kinds: dict[str, list[str]] = {"whole": [], "number": [], "switch": [], "name": []}
    for field in dataclasses.fields(SearchOptions):
        if field.name in OPTION_NAMES:
            kinds[_kind(field.default)].append(field.name)
    found: dict[str, tf.Tensor] = {}
    for kind, names in kinds.items():
        values = tf.gather(texts, [OPTION_NAMES.index(name) for name in names])
        pattern, remedy = _PATTERNS[kind]
        valid = tf.strings.regex_full_match(values, pattern)
        with _required(valid, names, values, [remedy] * len(names)):
            values = tf.identity(values)
        if kind == "whole":
            parsed = tf.strings.to_number(values, tf.int64)
        elif kind == "number":
            parsed = tf.strings.to_number(values, tf.float64)
        else:
            parsed = tf.strings.regex_full_match(values, _TRUE) if kind == "switch" else values
        for name, value in zip(names, tf.unstack(parsed), strict=True):
            keep = kind != "whole" or name == "seed"
            found[name] = value if keep else tf.cast(tf.clip_by_value(value, *_INT32), tf.int32)
    return found


def _kind(default: Any) -> str:
    if isinstance(default, str):
        return "name"
    if isinstance(default, bool):
        return "switch"
    return "whole" if isinstance(default, int) else "number"


def _ranges(
    found: dict[str, tf.Tensor], finished: tf.Tensor, defaults: BeamOptions, vocabulary_size: int
) -> list[tuple[str, tf.Tensor, str]]:
    """Returns (name, whether the value is in its range, remedy) of each check."""
    size, length, hypotheses = (
        found[name] for name in ("beam_size", "max_length", "num_hypotheses")
    )
    enough = (hypotheses <= size) & (hypotheses <= finished)
    at_most = f"{defaults.max_length}, the max_length of the export"
    checks = [
        ("beam_size", (size >= 1) & (size <= vocabulary_size), f"1 to {vocabulary_size}"),
        (
            "num_hypotheses",
            (hypotheses >= 1) & enough,
            "1 to beam_size, and at most round(beam_size * patience)",
        ),
        ("max_length", (length >= 1) & (length <= defaults.max_length), f"1 to {at_most}"),
        (
            "min_length",
            (found["min_length"] >= 0) & (found["min_length"] <= length),
            "0 to max_length",
        ),
        (
            "repetition_penalty",
            (found["repetition_penalty"] >= 0.01) & (found["repetition_penalty"] <= 100),
            "0.01 to 100",
        ),
        ("top_p", (found["top_p"] > 0) & (found["top_p"] <= 1), "a number above 0, at most 1"),
        (
            "sampling",
            ~(found["sampling"] & found["lingvo_pruning"]),
            "false with lingvo_pruning=true",
        ),
    ]
    for name in ("patience", "target_seq_length_ratio", "temperature"):
        value = found[name]
        checks.append((name, tf.math.is_finite(value) & (value > 0), "a number above 0"))
    for name in (
        "max_length_factor", "alpha", "length_penalty_constant", "coverage_penalty",
        "eos_max_logit_delta", "beam_gap",
    ):  # fmt: skip
        value = found[name]
        checks.append((name, tf.math.is_finite(value) & (value >= 0), "0 or a number above it"))
    for name in ("max_length_offset", "no_repeat_ngram", "top_k"):
        checks.append((name, found[name] >= 0, "0 or a number above it"))
    return checks


def _required(
    valid: tf.Tensor, names: Sequence[str], values: tf.Tensor, remedies: Sequence[str]
) -> AbstractContextManager[Any]:
    """Returns a context that fails in the graph, with a message about the first wrong value."""
    wrong = tf.argmax(tf.cast(~valid, tf.int32))
    parts = [tf.constant(names), values, tf.constant(remedies)]
    name, value, remedy = (part[wrong] for part in parts)
    message = tf.strings.join(["options: ", name, "=", value, ": ", remedy])
    return tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(valid), [message])])
