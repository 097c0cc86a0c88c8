"""Improbable text: what the baseline would hardly have written, or have read, as a text.

A score holds, for each token x of an output, the baseline's log-probability and its most probable tokens.
The surprise of a token is its information beyond what was to be expected there,

    s = -log p(x) - H,    H = -sum of p log p over the top k, - r log p(k),

in nats, where r is the probability outside the top k: none of those tokens is more probable than the k-th,
so that H is at most the entropy. A text that the model writes by itself has s around 0 if sampled, and below
if greedy, however hard it is to predict: names and numbers are improbable, but expected to be. That human
text stays near the entropy is due to Meister et al., "Locally Typical Sampling" (2023); the mean of s is the
numerator of Fast-DetectGPT's curvature (Bao et al., 2024).

The rule, over windows of 64 tokens: a mean of -log p of at least 6 nats is ``fail``, no text in a language
that the model knows; one of at least 2.5 nats with a mean surprise of at least .5 is ``warn``.

Missed: nonsense that repeats itself, which becomes probable; nonsense of fewer than 32 tokens.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.records import Score, Signal

WINDOW = 64
SHORTEST = 32
PROOF = 6.0
IMPROBABLE = 2.5
SURPRISING = 0.5
WORST = 30.0
"""Nats that a token counts at most: a probability of 0 says no more."""


def find_improbable(score: Score) -> list[Signal]:
    """Return the stretches that the baseline finds improbable, in tokens, of kind ``improbable``.

    ``score`` is the baseline's, of the output. Raises ValueError if it does not hold k log-probabilities
    for each token.
    """
    nll, surprise = _nll_and_surprise(score)
    if nll.size < SHORTEST:
        return []
    window = min(WINDOW, nll.size)
    mean_nll, mean_surprise = _means(nll, window), _means(surprise, window)
    proof = mean_nll >= PROOF
    found = proof | ((mean_nll >= IMPROBABLE) & (mean_surprise >= SURPRISING))
    signals = []
    for first, last in _runs(found):
        severity: Literal["fail", "warn"] = "fail" if proof[first:last].any() else "warn"
        start, end = first, last - 1 + window
        evidence = (
            f"{nll[start:end].mean():.1f} nats per token over {end - start} tokens, "
            f"{surprise[start:end].mean():.1f} more than expected"
        )
        signals.append(Signal("improbable", severity, "token", start, end, evidence))
    return signals


def _nll_and_surprise(score: Score) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return float64[n] each. Where a probability is not finite, both are 0 or the worst there is."""
    n, k = len(score.token_ids), score.k
    logprobs = np.frombuffer(score.logprobs, "<f4").astype(np.float64)
    top = np.frombuffer(score.top_logprobs, "<f4").astype(np.float64)
    if k < 1 or logprobs.size != n or top.size != n * k:
        raise ValueError(
            f"{logprobs.size} and {top.size} log-probabilities for {n} tokens of {score.prompt_id!r}, k={k}"
        )
    nll = np.nan_to_num(-logprobs, nan=0.0, posinf=WORST, neginf=0.0).clip(0, WORST)
    expected = _least_entropy(np.nan_to_num(top, nan=-WORST, neginf=-WORST, posinf=0.0).reshape(n, k))
    return nll, nll - expected


def _least_entropy(top: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[n]: the least entropy in nats that a distribution with this top k can have."""
    shares = np.exp(top)
    outside = (1 - shares.sum(axis=1)).clip(min=0)
    return np.asarray(-(shares * top).sum(axis=1) - outside * top[:, -1])


def _means(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the means of all windows."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((sums[window:] - sums[:-window]) / window)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the half-open intervals in which flags are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
