"""Beam search written as the rule is written: one sentence, plain loops, nothing shared with ours.

The numbers in the comments are the clauses of docs/reference/beam_search.md.
"""

import math

import numpy as np


def log_softmax(logits):
    """float32[V], computed in float64."""
    logits = logits.astype(np.float64)
    with np.errstate(divide="ignore"):
        highest = logits.max()
        if highest == -np.inf:
            return logits.astype(np.float32)
        return (logits - highest - np.log(np.exp(logits - highest).sum())).astype(np.float32)


def penalty(length, options):
    alpha, constant = options.alpha, options.length_penalty_constant
    value = {
        "none": 1.0,
        "power": length**alpha,
        "gnmt": ((5 + length) / 6) ** alpha,
        "lingvo": ((5 + length) / 5) ** alpha,
        "constant": ((constant + length) / (constant + 1)) ** alpha,
    }[options.length_penalty]
    return np.float32(value)


def search_sentence(
    model, vocabulary_size, options, max_length, eos, prefix=(), log_probabilities=False
):
    """Returns the hypotheses of one sentence.

    Args:
      model: function of a list of tokens -> float32[V].
      max_length: most tokens of this sentence.
      log_probabilities: the model gives log-probabilities, used as they are unless masked.

    Returns:
      List of (tokens without end of sentence, score, log-probability), best first.
    """
    if max_length == 0:
        return [([], np.float32(0), np.float32(0))]
    k, n = options.beam_size, options.num_hypotheses
    enough = math.floor(k * options.patience + 0.5)
    live = [([], np.float32(0))]
    finished = []  # (tokens, log-probability, length with end of sentence, order found)
    first_ended = False
    for step in range(max_length):
        # 1 and 2
        candidates = []  # (score, beam, token)
        for beam, (tokens, score) in enumerate(live):
            outputs = model(tokens).astype(np.float32)
            if step < len(prefix):
                log_p = outputs if log_probabilities else log_softmax(outputs)
                add = log_p[prefix[step]] if options.score_prefix else np.float32(0)
                candidates.append((np.float32(score + add), beam, prefix[step]))
                continue
            masked = outputs.copy()
            masked[list(options.suppress)] = -np.inf
            if step < options.min_length:
                masked[eos] = -np.inf
            anything_masked = bool(options.suppress) or step < options.min_length
            use = outputs if log_probabilities and not anything_masked else log_softmax(masked)
            for token in range(vocabulary_size):
                candidates.append((np.float32(score + use[token]), beam, token))
        # 3, and what has probability zero is no candidate
        candidates = [c for c in candidates if c[0] > -np.inf]
        candidates.sort(key=lambda c: (-c[0], c[1], c[2]))
        candidates = candidates[: 2 * k]
        # 4 and 5
        slots = {}
        refill = [c for c in candidates[k:] if c[2] != eos]
        for rank, (score, beam, token) in enumerate(candidates[:k]):
            tokens = live[beam][0] + ([] if token == eos else [token])
            if token == eos or step + 1 == max_length:
                finished.append((tokens, score, step + 1, len(finished)))
            if token == eos:
                first_ended |= rank == 0
                if refill:
                    score, beam, token = refill.pop(0)
                    slots[rank] = (live[beam][0] + [token], score)
            else:
                slots[rank] = (tokens, score)
        live = [slots[rank] for rank in sorted(slots)]
        # 6
        if not live:
            break
        if options.length_penalty == "none" or options.alpha == 0:
            if first_ended and len(finished) >= n:
                break
        elif len(finished) >= enough:
            break
    # 7
    scored = [
        (tokens, np.float32(score / penalty(length, options)), score, length, order)
        for tokens, score, length, order in finished
    ]
    scored.sort(key=lambda h: (-h[1], h[3], h[4]))
    return [hypothesis[:3] for hypothesis in scored[:n]]


def best_sequence(model, vocabulary_size, options, max_length, eos):
    """Enumerates every sequence; returns (tokens, score) of the best by score."""
    best = (None, -np.inf)

    def visit(tokens, score):
        nonlocal best
        outputs = model(tokens).astype(np.float32).copy()
        outputs[list(options.suppress)] = -np.inf
        if len(tokens) < options.min_length:
            outputs[eos] = -np.inf
        log_p = log_softmax(outputs).astype(np.float64)
        for token in range(vocabulary_size):
            total = score + log_p[token]
            following = tokens if token == eos else [*tokens, token]
            if token == eos or len(following) == max_length:
                final = total / penalty(len(tokens) + 1, options)
                if final > best[1]:
                    best = (following, final)
            else:
                visit(following, total)

    visit([], 0.0)
    return best
