"""Improbable text: what the baseline would not have written, however it reads.

A score holds the baseline's log-probability of each token x of an output, and of its own first choice there.
The surprise of a token is what it lacks against that choice,

    s = max log p - log p(x)    (nats, >= 0),

so that a token is not blamed for being hard to predict: where nothing is probable (names, numbers, a language
that the model hardly knows), neither is the first choice. The rule, on the mean of s: ``fail`` from 4 nats on
over any 64 tokens, ``warn`` from 2.2 over any 32, or over all of an output of 8 to 31.

Measured with a model of 135 million parameters: over 32 tokens its own healthy outputs reach 2.25 (216,
healthy quantization included, 99 in 100 below 2); nonsense that it writes under a broken cache has 1.9 to
6, 9 in 10 of it above 2.2. Over 64 tokens passages that people wrote reach 4.0 (249), of which a judged
output must not be one, as it is the model's own; the same with their words shuffled 4.3 to 6.5. The mean
of -log p tells these from people's texts worse, as do its difference to the entropy and the ranks of the
tokens.

Surprise beside the model's own choice is due to Gehrmann et al., "GLTR: Statistical Detection and
Visualization of Generated Text" (2019); the entropy in its place to Meister et al., "Locally Typical
Sampling" (2023).

Missed: nonsense that repeats itself, which becomes probable; outputs of fewer than 8 tokens. The reverse,
text too predictable to be healthy, is no finding: greedy text is as predictable as its paraphrases.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.records import Score, Signal

PROOF = 4.0
PROOF_WINDOW = 64
SUSPICION = 2.2
SUSPICION_WINDOW = 32
"""Mean surprise in nats, and the tokens that it is taken over."""
SHORTEST = 8
"""Tokens; fewer are too few for a mean."""
WORST = 30.0
"""Nats that one token counts at most: a probability of 0 says no more."""


def find_improbable(score: Score) -> list[Signal]:
    """Return the stretches that surprise the baseline, in tokens, of kind ``improbable``.

    ``score`` is the baseline's, of the output. Raises ValueError if it does not hold the k log-probabilities
    that it should for each token. Takes time linear in the length.
    """
    surprise = _surprise(score)
    if surprise.size < SHORTEST:
        return []
    window = min(SUSPICION_WINDOW, surprise.size)
    proofs = _means(surprise, PROOF_WINDOW)
    means = _means(surprise, window)
    signals = []
    for first, last in _runs(means >= SUSPICION):
        end = last - 1 + window
        proved = bool((proofs[max(0, first - PROOF_WINDOW + window) : end] >= PROOF).any())
        signals.append(_signal(float(means[first:last].max()), first, end, proved=proved))
    return signals


def mean_surprises(score: Score, window: int) -> NDArray[np.float64]:
    """Return float64[n - window + 1]: the mean surprise of each window, by where it begins, in nats.

    Raises as `find_improbable` does.
    """
    return _means(_surprise(score), window)


def _means(surprise: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean of each window, by where it begins; nothing if the output is shorter."""
    if surprise.size < window:
        return np.zeros(0)
    sums = np.concatenate([[0.0], np.cumsum(surprise)])
    return np.asarray((sums[window:] - sums[:-window]) / window)


def _surprise(score: Score) -> NDArray[np.float64]:
    """Return float64[n]: 0 where it is not defined, the worst where the token has no probability."""
    n, k = len(score.token_ids), score.k
    logprobs = np.frombuffer(score.logprobs, "<f4").astype(np.float64)
    top = np.frombuffer(score.top_logprobs, "<f4").astype(np.float64)
    if k < 1 or logprobs.size != n or top.size != n * k:
        raise ValueError(
            f"{logprobs.size} and {top.size} log-probabilities for {n} tokens of {score.prompt_id!r}, k={k}"
        )
    with np.errstate(invalid="ignore"):
        surprise = top.reshape(n, k)[:, 0] - logprobs
    return np.nan_to_num(surprise, nan=0.0).clip(0, WORST)


def _signal(worst: float, start: int, end: int, *, proved: bool) -> Signal:
    severity: Literal["fail", "warn"] = "fail" if proved else "warn"
    evidence = f"up to {worst:.1f} nats per token less probable than what the baseline would write"
    return Signal("improbable", severity, "token", start, end, evidence)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the half-open intervals in which flags are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
