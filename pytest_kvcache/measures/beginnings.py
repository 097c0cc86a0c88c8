"""Beginnings: what two engines think as long as the texts that each of them writes are the same.

Engines that write by themselves part sooner or later, and what they think of two different texts cannot be
compared. But up to the first token that differs, and at that position too, both have read the same tokens, so
their distributions can be. The figures are conditioned on agreement up to there: whatever makes texts part
early is seen at few positions, and most positions are easy ones. They say less than scores of the same whole
texts do, and cost no engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_kvcache.measures.divergence import (
    Divergence,
    ScoreComparison,
    compare_positions,
    first_divergence,
    sum_up,
)
from pytest_kvcache.records import Score


@dataclass(frozen=True, slots=True, eq=False)
class Beginnings:
    """Two engines beside each other, each on its own texts, as far as these can be compared."""

    common: Divergence
    """Over the tokens that both texts begin with: for delta NLL. A text without any is left out."""
    reached: Divergence
    """Over these and the position where the texts part, if neither ends there: for KLD and same-top.
    At that position each side's NLL is of a token of its own, so it says nothing about delta NLL."""

    @property
    def positions(self) -> int:
        """All positions of ``reached`` that are finite on both sides."""
        return sum(text.positions.size for text in self.reached.texts)


def compare_beginnings(pairs: Iterable[tuple[Score, Score]]) -> Beginnings:
    """Compare each candidate's score of its own text with the baseline's of its own: m and n tokens.

    With c common tokens that is c positions for delta NLL, and min(c + 1, m, n) for KLD and same-top. The
    caller vouches that both were given the same tokens of the prompt. Raises ValueError for what is no
    score.
    """
    common: list[ScoreComparison] = []
    reached: list[ScoreComparison] = []
    for ours, theirs in pairs:
        parted = first_divergence(ours.token_ids, theirs.token_ids)
        same = len(ours.token_ids) if parted is None else parted
        shortest = min(len(ours.token_ids), len(theirs.token_ids))
        for found, n in ((common, same), (reached, min(same + 1, shortest))):
            found.append(compare_positions(ours.first(n), theirs.first(n)))
    return Beginnings(sum_up(common, {}), sum_up(reached, {}))
