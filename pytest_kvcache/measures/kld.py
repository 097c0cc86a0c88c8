"""KLD from top-k: how far the candidate's distribution is from the baseline's, as far as both are known.

KLD, the Kullback-Leibler divergence KL(baseline || candidate) of the next token, needs every token of the
vocabulary; an engine gives the k most probable ones and the given one. What is computed here is the least
KLD that agrees with all that is known, so it is a lower bound, never an estimate from above:

- tokens that both sides know count by their probabilities, p ln(p / q);
- a token that only the baseline knows is, for the candidate, at most as probable as its k-th: q is what
  makes the divergence least below that cap;
- all other tokens are one bucket on each side. By the log-sum inequality (Cover & Thomas, "Elements of
  Information Theory", theorem 2.7.1) merging tokens never adds to the divergence.

Above the bound nothing is known: a token unseen by both may have become impossible, and then the true
divergence is infinite. :attr:`Bound.unseen` says how much of the baseline's probability that concerns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING = 1e-6
"""By how much the sum of float32 probabilities may miss 1: no bucket of the candidate counts as emptier."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What one engine said of the next token at n positions: no token stands twice in a row."""

    ids: NDArray[np.int64]
    logprobs: Floats

    @staticmethod
    def of(
        top_ids: NDArray[np.int32], top_logprobs: Floats, given: NDArray[np.int64], logprobs: Floats
    ) -> Known:
        """Put the given tokens beside the top k; where one is among them, it counts there only."""
        repeated = (top_ids == given[:, None]).any(axis=1)
        return Known(
            np.column_stack([top_ids, np.where(repeated, NOTHING, given)]),
            np.column_stack([top_logprobs, np.where(repeated, -np.inf, logprobs)]),
        )


NOTHING = -1
"""The id of no token."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """float64[n] each, in the order of the positions."""

    kld: Floats
    """The least KLD, in nats, that agrees with what is known."""
    unseen: Floats
    """The baseline's probability of all tokens that not both sides know."""


def bound_kld(baseline: Known, candidate: Known, cap: Floats) -> Bound:
    """Return the least KLD at each position. ``cap`` is the candidate's k-th log-probability, float64[n].

    Finite log-probabilities give finite figures: ratios are differences of logarithms, so a probability too
    small for a float still has its ratio. Takes k squared comparisons per position.
    """
    p = np.exp(baseline.logprobs)
    log_q, known = _logprobs_of(baseline.ids, candidate)
    shared = known & (p > 0)
    ratio = np.subtract(baseline.logprobs, log_q, where=shared, out=np.zeros_like(p))
    unseen = np.clip(1 - np.where(shared, p, 0).sum(axis=1), 0, 1)
    left = np.clip(1 - np.where(shared, np.exp(log_q), 0).sum(axis=1), ROUNDING, 1)
    alone = np.where(shared, 0, p)
    kld = (p * ratio).sum(axis=1) + _least_of_rest(alone, unseen, left, cap)
    return Bound(np.maximum(kld, 0), unseen)


def _logprobs_of(ids: NDArray[np.int64], engine: Known) -> tuple[Floats, NDArray[np.bool_]]:
    """Return an engine's log-probabilities of given tokens, and which of them it knows."""
    wanted, held = (np.ascontiguousarray(each.T) for each in (ids, engine.ids))
    place = np.zeros(wanted.shape, np.int16)
    for number, column in enumerate(held, start=1):
        np.maximum(place, (wanted == column) * np.int16(number), out=place)
    place = np.ascontiguousarray(place.T)
    known = (place > 0) & (ids != NOTHING)
    n, width = engine.ids.shape
    at = np.arange(n)[:, None] * width + place - 1
    return np.where(known, engine.logprobs.ravel().take(at, mode="clip"), -np.inf), known


def _least_of_rest(alone: Floats, unseen: Floats, left: Floats, cap: Floats) -> Floats:
    """Return the least divergence of what not both sides know.

    ``alone`` holds the probabilities of tokens that only the baseline knows; with the baseline's
    bucket they make up ``unseen``. The candidate has ``left`` for all of them. The least divergence
    shares that out in proportion, but for the most probable tokens, which stop at the cap. Tokens of no
    probability come last and never do.
    """
    at_cap = np.zeros(alone.shape)
    falling = -np.sort(-alone, axis=1)[:, : np.count_nonzero(alone, axis=1).max(initial=0)]
    n, width = falling.shape
    most = np.exp(cap)[:, None]
    capped = np.arange(width + 1)
    taken = np.column_stack([np.zeros(n), np.cumsum(falling, axis=1)])
    rest_p = np.maximum(unseen[:, None] - taken, 0)
    rest_q = np.maximum(left[:, None] - capped * most, ROUNDING)
    following = np.column_stack([falling, np.zeros(n)])
    fits = rest_q * following <= most * rest_p
    first = fits.argmax(axis=1)
    rows = np.arange(n)
    at_cap[:, :width] = _divergence(np.where(capped[:-1] < first[:, None], falling, 0), cap[:, None])
    bucket = _divergence(rest_p[rows, first], np.log(rest_q[rows, first]))
    least: Floats = at_cap.sum(axis=1) + bucket
    return least


def _divergence(p: Floats, log_q: Floats) -> Floats:
    """Return p ln(p / q), 0 where p is 0."""
    divergence: Floats = p * (np.log(np.where(p > 0, p, 1)) - log_q)
    return divergence
