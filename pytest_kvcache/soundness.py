"""Soundness: is what was scored fit to judge a candidate by?

A batch's composition alone changes the figures of the very same engine. How much that is, the *noise floor*,
a baseline shows by scoring some of its texts one at a time. A primary endpoint whose floor is above a third
of its margin cannot say on which side of the margin a harm lies. The floor never moves a margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from pytest_kvcache.endpoints import Comparisons, Endpoint, Evidence
from pytest_kvcache.measures.divergence import ScoreComparison, compare_scores
from pytest_kvcache.records import Reason, ReasonCode

LARGEST_FLOOR = 1 / 3
"""Share of a margin that noise may take up."""


def noise_floor(evidence: Sequence[Evidence]) -> dict[str, float]:
    """Return the floor of each primary endpoint; nothing where no text was scored alone.

    Each is a mean over texts: of KLD, of the loss of same-top, and of the absolute delta NLL of a text, for
    either sign is noise. They are infinite where a log-probability is not finite.
    """
    compared = [comparison for each in evidence for comparison in _alone_beside_batch(each)]
    if not compared:
        return {}
    if any(text.candidate_non_finite or not text.is_finite for text in compared):
        return dict.fromkeys(("delta_nll", "kld", "same_top_loss"), math.inf)
    return {
        "delta_nll": fmean(abs(text.delta_nll) for text in compared),
        "kld": fmean(text.kld for text in compared),
        "same_top_loss": 1 - fmean(text.same_top for text in compared),
    }


def beside_noise(endpoints: Iterable[Endpoint], floors: Mapping[str, float]) -> Iterator[Endpoint]:
    """Yield all endpoints, with the floors of those that have one.

    Where the floor is too large the endpoint is open, unless its interval lies beyond the margin by more
    than the floor: noise explains no harm of that size.
    """
    for endpoint in endpoints:
        floor = floors.get(endpoint.name)
        yield endpoint if floor is None else _beside(endpoint, floor)


def not_probed(evidence: Sequence[Evidence]) -> Iterator[Reason]:
    """Yield a reason if nothing proves that a candidate's scores are those of its quantized cache.

    Prefill may take the keys and values that it has just computed instead. An engine proves that it does not
    by scoring a few texts while decoding along them, which not every engine can.
    """
    for each in evidence:
        engine = each.candidate.provenance
        if each.candidate_scores and engine.kv_cache_quantized and not engine.can_follow:
            message = (
                "too little evidence for a pass: this engine cannot decode along a given text, as with "
                "speculative decoding, so nothing proves that scoring reads the quantized cache: judge the "
                "kv dtype by a variant without speculative_config"
            )
            yield Reason(ReasonCode.TOO_LITTLE_EVIDENCE, "delta_nll", message)
            return


def floor_unknown(comparisons: Comparisons, floors: Mapping[str, float]) -> Iterator[Reason]:
    """Yield a reason if texts were compared, and nothing says how much of what they show is noise."""
    if comparisons and not floors:
        message = (
            "too little evidence for a pass: none of the baseline's texts was scored alone, so the noise "
            "floor is unknown: give floor_scores with the evidence"
        )
        yield Reason(ReasonCode.TOO_LITTLE_EVIDENCE, None, message)


def _alone_beside_batch(evidence: Evidence) -> Iterator[ScoreComparison]:
    if evidence.floor_scores is None or evidence.baseline_scores is None:
        return
    batch = {score.prompt_id: score for score in evidence.baseline_scores.scores}
    for alone in evidence.floor_scores.scores:
        yield compare_scores(alone, batch[alone.prompt_id].first(len(alone.token_ids)))


def _beside(endpoint: Endpoint, floor: float) -> Endpoint:
    metric = replace(endpoint.metric, floor=floor)
    assert metric.margin is not None, "what has a floor has a margin"
    reason = endpoint.reason
    if floor > LARGEST_FLOOR * metric.margin and not metric.ci_low > metric.margin + floor:
        message = (
            f"the noise floor of {endpoint.name} is {floor:.3f}, above a third of the margin "
            f"{metric.margin:.3f}: the baseline itself differs by so much with what shares a batch; use "
            "batch-invariant kernels, or a margin of at least three times the floor"
        )
        reason = Reason(ReasonCode.NOISE, endpoint.name, message)
    return replace(endpoint, metric=metric, reason=reason)
