"""Figures: the little that a verdict takes from two scores of a text, so that it need not hold the scores."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_kvcache.measures.divergence import compare_scores
from pytest_kvcache.measures.positions import Slope, means_along, slope_of
from pytest_kvcache.records import Score


@dataclass(frozen=True, slots=True)
class TextFigures:
    """Two engines' scores of one text in short; see :class:`~.divergence.ScoreComparison`."""

    tokens: int
    delta_nll: float
    kld: float
    same_top: float
    is_finite: bool
    """Whether any position is finite on both sides; the means are NaN if none is."""
    candidate_non_finite: int
    baseline_non_finite: int
    are_same: bool
    """Whether both sides give the tokens of the text the same log-probabilities, to the last bit."""
    along: tuple[float | None, ...]
    """Mean KLD in each bin of positions."""
    slope: Slope | None


def figures_of(candidate: Score, baseline: Score) -> TextFigures:
    """Compare two scores of the same text. Raises ValueError if they are of different texts."""
    compared = compare_scores(candidate, baseline)
    return TextFigures(
        tokens=compared.tokens,
        delta_nll=compared.delta_nll,
        kld=compared.kld,
        same_top=compared.same_top,
        is_finite=compared.is_finite,
        candidate_non_finite=compared.candidate_non_finite,
        baseline_non_finite=compared.baseline_non_finite,
        are_same=candidate.logprobs == baseline.logprobs,
        along=means_along(compared.positions, compared.klds),
        slope=slope_of(compared.positions, compared.klds),
    )
