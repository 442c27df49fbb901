"""Options of beam search, a part of the configuration of an experiment.

This module imports no TensorFlow.
"""

import dataclasses

NATIVE_ONLY = "native_only"  # Key of the metadata of options that only the C++ search has.


@dataclasses.dataclass(slots=True)
class SearchOptions:
    """Options of beam search; `docs/reference/beam_search.md` describes the algorithm.

    Attributes:
        beam_size: k, the number of live hypotheses of a sentence; >= 1. 1 is greedy decoding.
        num_hypotheses: number of hypotheses returned for a sentence; in [1, beam_size].
        patience: a sentence ends when round(beam_size * patience) hypotheses are finished (halves
            round up); > 0, and that number must be at least `num_hypotheses`.
        min_length: smallest number of target tokens, without the end of sentence; >= 0.
        max_length: largest number of target tokens, without the end of sentence; >= 1 and
            >= min_length.
        max_length_factor: if set, a sentence of n source tokens (without tag and end of sentence)
            gets at most floor(max_length_factor * n) + max_length_offset target tokens, and never
            more than `max_length`; > 0.
        max_length_offset: see `max_length_factor`; >= 0.
        length_penalty: divisor of the log-probability of a hypothesis: `none` (1), `power`
            (length^alpha), `gnmt` (((5 + length) / 6)^alpha), `lingvo` (((5 + length) / 5)^alpha)
            or `constant` (((c + length) / (c + 1))^alpha, with c = `length_penalty_constant`). The
            length is in tokens and counts the end of sentence.
        alpha: exponent of the length penalty; >= 0. 0 is the same as `none`.
        length_penalty_constant: c of the penalty `constant`; >= 0.
        coverage_penalty: b; b · Σ over source tokens of log(min(Σ of their attention, 1)) is added
            to the score; >= 0.
        target_seq_length_ratio: r, target tokens per source token. The coverage penalty then
            compares the sums of attention with r and is multiplied by it: r · b · Σ of log(min(Σ of
            attention / r, 1)); > 0.
        repetition_penalty: logits of tokens that the hypothesis already contains are divided by it
            if positive and multiplied by it if negative; in [0.01, 100], 1 is off.
        no_repeat_ngram: no hypothesis contains a sequence of this number of tokens twice; 0 is off.
        sampling: draw `beam_size` independent sequences at random, and return the
            `num_hypotheses` with the best scores. The draws depend only on `seed`, the index of the
            sentence, the step and the index of the sequence.
        temperature: logits are divided by it before drawing; > 0. Scores are the model's own.
        top_k: draw from the `top_k` most probable tokens; 0 is all.
        top_p: then draw from the fewest most probable tokens that reach this share; in (0, 1].
        seed: seed of the draws, in [0, 2^64).
        lingvo_pruning: prune and end by Lingvo's rules (`docs/reference/beam_search.md`) instead.
            The options from `eos_max_logit_delta` to `eoc_id` are used only with it.
        eos_max_logit_delta: a hypothesis may end only if the log-probability of the end of sentence
            is above that of its best token minus this value; >= 0.
        local_eos_threshold: a hypothesis may end only if the log-probability of the end of sentence
            is also above this value.
        beam_gap: a sentence ends when every live hypothesis is this far below the best finished
            one; >= 0.
        ensure_full_beam: a sentence does not end before `beam_size` hypotheses have finished.
        force_eos_in_last_step: hypotheses may always end at `max_length`.
        force_eos_in_top_k: hypotheses may also end if the end of sentence is not among their best
            beam_size + 1 tokens.
        merge_paths: live hypotheses whose tokens are equal without `eoc_id` become one, whose
            probability is their sum. For models that emit an empty token; requires `eoc_id`. Native
            only.
        eoc_id: id of the empty token ("end of chunk"), for `merge_paths`; -1: there is none.
        bias_weight: w of biased decoding, for which the caller gives tokens of each sentence: the
            next of these tokens gets the probability (1 - w) p + w, all others (1 - w) p; in [0,
            1].
        bias_only_if_consistent: stop biasing a hypothesis at its first token that differs from the
            given ones.

    Reference: `gnmt` and the coverage penalty are equation 14 of Wu et al., arXiv 1609.08144.
    `target_seq_length_ratio`, the options of Lingvo's rule, and biased decoding are those of Lingvo
    (core/beam_search_helper.py and core/base_decoder.py).
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
    target_seq_length_ratio: float = 1.0
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
    force_eos_in_top_k: bool = False
    merge_paths: bool = dataclasses.field(default=False, metadata={NATIVE_ONLY: True})
    eoc_id: int = -1
    bias_weight: float = 0.5
    bias_only_if_consistent: bool = True


@dataclasses.dataclass(slots=True)
class DecodingConfig(SearchOptions):
    """Beam search of evaluation and export: the fields of `SearchOptions`, and the batch size.

    Attributes:
        max_length: see `SearchOptions`. The defaults of this field and the next two allow
            2 n + 10 target tokens for n source tokens, and at most 128.
        max_length_factor: see `SearchOptions`.
        max_length_offset: see `SearchOptions`.
        batch_size: number of sentences that are translated at once; >= 1.
    """

    max_length: int = 128
    max_length_factor: float | None = 2.0
    max_length_offset: int = 10
    batch_size: int = 64
