"""Details: where a candidate diverges, along the text and by kind of prompt. Nothing is decided by it."""

from __future__ import annotations

from dataclasses import replace

from pytest_kvcache.endpoints import Comparisons
from pytest_kvcache.measures.divergence import Divergence, sum_up
from pytest_kvcache.measures.paired import Interval
from pytest_kvcache.records import DivergenceDetail, Estimate, KindFigures, PositionFigure


def divergence_detail(comparisons: Comparisons) -> DivergenceDetail | None:
    """Return the details of compared texts; None if no text has a finite figure."""
    found = _divergence(comparisons)
    if not found.texts:
        return None
    growth = found.growth
    kinds = sorted(found.by_kind().items(), key=lambda each: (-each[1].kld.value, each[0]))
    return DivergenceDetail(
        growth=_estimate(growth) if growth.n else None,
        bins=tuple(PositionFigure(each.start, each.end, _estimate(each.kld)) for each in found.by_position()),
        kinds=tuple(
            KindFigures(kind, _estimate(of.delta_nll), _estimate(of.kld), _estimate(of.same_top))
            for kind, of in kinds
        ),
    )


def _divergence(comparisons: Comparisons) -> Divergence:
    """Sum up one text of each prompt, under names that no two prompts of several sets share."""
    first = {f"{i} {prompt.id}": (prompt, group[0]) for i, (prompt, group) in enumerate(comparisons.items())}
    return sum_up(
        [replace(text, prompt_id=name) for name, (_, text) in first.items()],
        {name: prompt.kind for name, (prompt, _) in first.items()},
    )


def _estimate(interval: Interval) -> Estimate:
    if interval.n == 1:
        return Estimate(interval.value, None, None, 1)
    return Estimate(interval.value, interval.low, interval.high, interval.n)
