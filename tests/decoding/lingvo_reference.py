"""Lingvo's rule as it is described: one sentence, plain loops, nothing shared with ours."""

import numpy as np

from tests.decoding.reference import log_softmax, penalty


def search_sentence(model, vocabulary_size, options, max_length, eos, log_probabilities=False):
    """Returns (tokens, score, log-probability) of the hypotheses of one sentence, best first."""
    k = options.beam_size
    active = [([], np.float32(0))]
    terminated = []
    best_terminated = -1e36
    for step in range(max_length):
        last = step == max_length - 1
        merged = []
        for beam, (tokens, score) in enumerate(active):
            outputs = model(tokens).astype(np.float32).copy()
            masked = list(options.suppress) + ([eos] if step < options.min_length else [])
            outputs[masked] = -np.inf
            log_p = log_softmax(outputs) if masked or not log_probabilities else outputs
            order = sorted(range(vocabulary_size), key=lambda v: (-log_p[v], v))
            order = [v for v in order if log_p[v] > -np.inf][: k + 1 + options.merge_paths]
            if not order:
                continue
            if options.force_eos_in_top_k and eos not in order and log_p[eos] > -np.inf:
                order[-1] = eos
            near = (
                eos in order
                and np.float64(log_p[eos])
                > np.float64(log_p[order[0]]) - options.eos_max_logit_delta
                and log_p[eos] > options.local_eos_threshold
            )
            forced = last and options.force_eos_in_last_step and log_p[eos] > -np.inf
            if near or forced:
                total = np.float32(score + log_p[eos])
                terminated.append((tokens, total, step + 1, len(terminated)))
                best_terminated = max(best_terminated, total)
            merged += [
                (np.float32(score + log_p[v]), v, beam, [*tokens, v]) for v in order if v != eos
            ]
        merged.sort(key=lambda c: (-c[0], c[1], c[2]))
        if options.merge_paths:
            merged = merge_paths(merged, options.eoc_id)
        active = [(tokens, score) for score, _, _, tokens in merged[:k]]
        full = not options.ensure_full_beam or len(terminated) >= k
        gap = np.float64(best_terminated) - options.beam_gap
        if not active or (full and all(np.float64(score) <= gap for _, score in active)):
            break
    scored = [
        (tokens, np.float32(total / penalty(length, options)), total, order)
        for tokens, total, length, order in terminated
    ]
    scored.sort(key=lambda h: (-h[1], h[3]))
    return [hypothesis[:3] for hypothesis in scored[: options.num_hypotheses]]


def merge_paths(candidates, eoc):
    """Merges sorted (score, token, slot, tokens) whose tokens are equal without `eoc`."""
    groups = {}
    for candidate in candidates:
        tokens = tuple(token for token in candidate[3] if token != eoc)
        groups.setdefault(tokens, []).append(candidate)
    merged = [
        (np.float32(np.logaddexp.reduce([np.float64(c[0]) for c in group])), *group[0][1:])
        for group in groups.values()
    ]
    merged = [(min(score, np.float32(0)), *rest) for score, *rest in merged]
    return sorted(merged, key=lambda c: (-c[0], c[1], c[2]))
