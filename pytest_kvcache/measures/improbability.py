"""Improbable text: what the baseline would not have written, however it reads.

A score holds the baseline's log-probability of each token x of an output, and of its own first choice there.
The surprise of a token is what it lacks against that choice,

    s = max log p - log p(x)    (nats, >= 0),

so that a token is not blamed for being hard to predict: where nothing is probable (names, numbers, a language
that the model hardly knows), neither is the first choice. The rule, on the mean of s over any 64 tokens:
``fail`` from 4 nats on, ``warn`` from 2.

Measured with a model of 135 million parameters: its own outputs reach 1.1, healthy quantization included;
with 4-bit weights, which make it another model, 2.7; under a broken cache up to 15. Passages that people
wrote, of which an output is none, have 2.9 (median) to 4.1 (the greatest of 495), and 5.1 with their words
shuffled, 9 in 10 of them above 4. The mean of -log p tells the shuffled ones worse (7 in 10 without a false
alarm), and so do its difference to the entropy and the ranks of the tokens.

Surprise beside the model's own choice is due to Gehrmann et al., "GLTR: Statistical Detection and
Visualization of Generated Text" (2019); the entropy in its place to Meister et al., "Locally Typical
Sampling" (2023).

Missed: nonsense that repeats itself, which becomes probable; outputs of fewer than 64 tokens. The reverse,
text too predictable to be healthy, is no finding: greedy text is as predictable as its paraphrases.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.records import Score, Signal

WINDOW = 64
PROOF = 4.0
SUSPICION = 2.0
"""Mean surprise of a window, in nats."""
WORST = 30.0
"""Nats that one token counts at most: a probability of 0 says no more."""


def find_improbable(score: Score) -> list[Signal]:
    """Return the stretches that surprise the baseline, in tokens, of kind ``improbable``.

    ``score`` is the baseline's, of the output. Raises ValueError if it does not hold the k log-probabilities
    that it should for each token. Takes time linear in the length.
    """
    surprise = _surprise(score)
    if surprise.size < WINDOW:
        return []
    sums = np.concatenate([[0.0], np.cumsum(surprise)])
    means = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    return [_signal(means[first:last], first, last - 1 + WINDOW) for first, last in _runs(means >= SUSPICION)]


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


def _signal(means: NDArray[np.float64], start: int, end: int) -> Signal:
    worst = float(means.max())
    severity: Literal["fail", "warn"] = "fail" if worst >= PROOF else "warn"
    evidence = f"up to {worst:.1f} nats per token less probable than what the baseline would write"
    return Signal("improbable", severity, "token", start, end, evidence)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the half-open intervals in which flags are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
