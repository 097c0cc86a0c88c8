"""Details: where a candidate diverges, along the text and by kind of prompt. Nothing is decided by it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pytest_kvcache.endpoints import Comparisons
from pytest_kvcache.measures.figures import TextFigures
from pytest_kvcache.measures.paired import Interval
from pytest_kvcache.measures.positions import bins, growth, over_prompts
from pytest_kvcache.records import DivergenceDetail, Estimate, KindFigures, PositionFigure


def divergence_detail(comparisons: Comparisons) -> DivergenceDetail | None:
    """Return the details of compared texts, the first of each prompt; None if none has a finite figure."""
    first = [(prompt.kind, group[0]) for prompt, group in comparisons.items() if group[0].is_finite]
    if not first:
        return None
    texts = [text for _, text in first]
    along = bins([text.along for text in texts], max(text.tokens for text in texts))
    grown = growth(text.slope for text in texts)
    kinds: defaultdict[str, list[TextFigures]] = defaultdict(list)
    for kind, text in first:
        kinds[kind].append(text)
    return DivergenceDetail(
        growth=_estimate(grown) if grown.n else None,
        bins=tuple(PositionFigure(each.start, each.end, _estimate(each.kld)) for each in along),
        kinds=tuple(sorted(map(_of_kind, kinds, kinds.values()), key=lambda of: (-of.kld.value, of.kind))),
    )


def _of_kind(kind: str, texts: Sequence[TextFigures]) -> KindFigures:
    return KindFigures(
        kind,
        delta_nll=_estimate(over_prompts([text.delta_nll for text in texts])),
        kld=_estimate(over_prompts([text.kld for text in texts])),
        same_top=_estimate(over_prompts([text.same_top for text in texts])),
    )


def _estimate(interval: Interval) -> Estimate:
    if interval.n == 1:
        return Estimate(interval.value, None, None, 1)
    return Estimate(interval.value, interval.low, interval.high, interval.n)
