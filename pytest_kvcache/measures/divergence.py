"""Divergence: what two engines think of one and the same text.

The text is the baseline's own output, so its prompt and its tokens are what the model is trusted to
say. Nonsense that never loops shows here: an engine that writes it finds sensible text improbable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.records import Score


@dataclass(frozen=True, slots=True)
class ScoreComparison:
    """Two engines' scores of one text of ``tokens`` tokens."""

    tokens: int
    delta_nll: float
    """Nats per token by which the candidate finds the text less probable than the baseline does."""
    same_top: float
    """Share of positions at which both hold the same token for the most probable one."""
    candidate_non_finite: int
    """Positions at which the candidate's log-probability is NaN or infinite. Both means leave out
    positions where either one's is; they are NaN if that leaves none, as in a text of no tokens."""
    baseline_non_finite: int

    @property
    def is_finite(self) -> bool:
        """Whether any position was left to take the means of."""
        return math.isfinite(self.delta_nll)


def compare_scores(candidate: Score, baseline: Score) -> ScoreComparison:
    """Compare two scores of the same text. Raises ValueError if they are of different texts."""
    if candidate.prompt_id != baseline.prompt_id or candidate.token_ids != baseline.token_ids:
        raise ValueError(
            f"scores of different texts: {candidate.prompt_id!r} ({len(candidate.token_ids)} tokens) and "
            f"{baseline.prompt_id!r} ({len(baseline.token_ids)} tokens)"
        )
    of_candidate, of_baseline = _logprobs(candidate), _logprobs(baseline)
    finite = np.isfinite(of_candidate) & np.isfinite(of_baseline)
    same = _top(candidate) == _top(baseline)
    return ScoreComparison(
        tokens=finite.size,
        delta_nll=_mean((of_baseline - of_candidate)[finite]),
        same_top=_mean(same[finite]),
        candidate_non_finite=int(np.count_nonzero(~np.isfinite(of_candidate))),
        baseline_non_finite=int(np.count_nonzero(~np.isfinite(of_baseline))),
    )


def _logprobs(score: Score) -> NDArray[np.float64]:
    """Return float64[n], checked against the number of tokens."""
    values = np.frombuffer(score.logprobs, "<f4").astype(np.float64)
    if values.size != len(score.token_ids):
        raise ValueError(
            f"{values.size} log-probabilities for {len(score.token_ids)} tokens of {score.prompt_id!r}"
        )
    return values


def _top(score: Score) -> NDArray[np.int32]:
    """Return int32[n]: the most probable token at each position."""
    ids = np.frombuffer(score.top_ids, "<i4")
    if score.k < 1 or ids.size != len(score.token_ids) * score.k:
        raise ValueError(
            f"{ids.size} top ids for {len(score.token_ids)} tokens of {score.prompt_id!r}, k={score.k}"
        )
    return ids.reshape(-1, score.k)[:, 0]


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else math.nan
