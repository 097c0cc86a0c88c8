"""The criterion: which real outputs are broken, by the baseline's log-probabilities.

It is independent of what the detectors look at: it reads no text, knows no characters and no periods.
Two questions, each over windows of the output:

*Is it improbable?* The highest mean surprise (negative log-probability) in any 32 tokens, in nats per
token. What a healthy model writes greedily is by construction what the baseline finds probable, so
that windows of its outputs stay below a bound: the 99.9 % quantile over all windows of what the healthy
models (`HEALTHY_MODELS`) wrote under ``auto``. With a repetition penalty, of which the baseline's scores
know nothing, the bound is higher. Within half a nat of it an output passes; one and a half nats above
it, at 22 % of the healthy bound's probability per token, it is nonsense; between these it is doubtful.

*Does it go round in circles?* The longest stretch in which at least 90 % of the tokens end four tokens
that stood in the output before, and which the baseline finds easy (a mean of at most 0.5 nats): being
told the same again, it knows what comes. 64 such tokens are a loop, 40 are doubtful. No shorter: a
refrain or a phrase said twice is none.

Weaknesses. The first question cannot tell weakly worded from broken text: a healthy model with weights
of four bits writes less probable text too, and a sixth of it comes out as doubtful. It sees nothing
wrong in fluent text that answers nothing. Outputs of a few tokens have a mean of a few tokens only. The
baseline hardly knows Chinese, and strewn characters may pass. The second question calls asked-for
repetition (a table, data as JSON) a loop if it is long and regular enough. A loop that varies (numbers
that count up, noise) escapes it, and often both. So outputs near the bounds are doubtful, and what
readers say of the sample stands above the criterion. Detectors that use the baseline's log-probabilities
themselves must be held against the readers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Label = Literal["healthy", "nonsense", "loop", "doubtful"]

HEALTHY_MODELS = frozenset({"gqa", "llama", "mha-rotated"})
WINDOW = 32
QUANTILE = 0.999
BOUND = 1.3
BOUND_PENALISED = 2.2
"""Nats per token; `tests/test_detection_real.py` derives both from the data."""
PASSES_WITHIN = 0.5
BROKEN_BEYOND = 1.5

GRAM = 4
REPEATED_SHARE = 0.9
EASY = 0.5
LOOP_TOKENS = 64
DOUBTFUL_TOKENS = 40

Floats = npt.NDArray[np.float64]


def label_of(token_ids: Sequence[int], logprobs: Sequence[float], *, penalised: bool) -> Label:
    """Return what an output is, given the baseline's log-probability of each of its tokens."""
    if circles(token_ids, logprobs, LOOP_TOKENS):
        return "loop"
    excess = worst_surprise(logprobs) - (BOUND_PENALISED if penalised else BOUND)
    if excess > BROKEN_BEYOND:
        return "nonsense"
    if excess > PASSES_WITHIN or circles(token_ids, logprobs, DOUBTFUL_TOKENS):
        return "doubtful"
    return "healthy"


def worst_surprise(logprobs: Sequence[float]) -> float:
    """Return the highest mean surprise in a window, in nats per token; 0 for an output of no tokens."""
    return float(window_surprises(logprobs).max(initial=0.0))


def window_surprises(logprobs: Sequence[float]) -> Floats:
    """Return ``float[windows]``: mean surprise of every 32 tokens, or of a shorter output's all."""
    return _means(-np.asarray(logprobs, dtype=np.float64), min(WINDOW, len(logprobs)))


def circles(token_ids: Sequence[int], logprobs: Sequence[float], tokens: int) -> bool:
    """Whether so many tokens in a row repeat what the output said before, to no surprise."""
    repeated = _means(repeats(token_ids), tokens)
    surprise = _means(-np.asarray(logprobs, dtype=np.float64), tokens)
    return bool(((repeated >= REPEATED_SHARE) & (surprise <= EASY)).any())


def repeats(token_ids: Sequence[int]) -> Floats:
    """Return ``float[n]``: 1 where the four tokens that end here stood in the output before, else 0."""
    seen: set[tuple[int, ...]] = set()
    marks = np.zeros(len(token_ids))
    for end in range(GRAM, len(token_ids) + 1):
        gram = tuple(token_ids[end - GRAM : end])
        marks[end - 1] = gram in seen
        seen.add(gram)
    return marks


def _means(values: Floats, window: int) -> Floats:
    """Return the mean of every window of so many values; none if there are fewer."""
    if not 0 < window <= len(values):
        return np.zeros(0)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((sums[window:] - sums[:-window]) / window)
