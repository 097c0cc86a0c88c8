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

from pytest_kvcache.endpoints import Endpoint
from pytest_kvcache.evidence import Evidence
from pytest_kvcache.plan import is_scored
from pytest_kvcache.records import Reason, ReasonCode, Score

LARGEST_FLOOR = 1 / 3
"""Share of a margin that noise may take up."""
LEAST_FOR_A_FLOOR = 8
"""Texts of a set that must be scored alone, or all of them if it has fewer."""


def noise_floor(evidence: Sequence[Evidence]) -> dict[str, float]:
    """Return the floor of each primary endpoint; nothing where no text was scored alone.

    Each is a mean over texts: of KLD, of the loss of same-top, and of the absolute delta NLL of a text, for
    either sign is noise. They are infinite where a log-probability is not finite. Scores of other texts than
    the baseline's do not count.
    """
    compared = [comparison for each in evidence for comparison in each.compared.alone]
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


def incomplete(evidence: Sequence[Evidence]) -> Iterator[Reason]:
    """Yield a reason for each set of which not all that is scored is there.

    Both engines score all of the baseline's texts that have any token, and nothing else; of some of them the
    baseline scores the beginnings alone as well.
    """
    for each in evidence:
        missing = _missing(each) if is_scored(each.prompt_set) else None
        if missing:
            message = f"too little evidence for a pass: of {each.prompt_set.name}, {missing}"
            yield Reason(ReasonCode.TOO_LITTLE_EVIDENCE, None, message)


def _missing(evidence: Evidence) -> str | None:
    texts = {text.prompt_id: text.token_ids for text in evidence.baseline if text.token_ids}
    if strange := [score.prompt_id for score in _doubtful(evidence) if not _is_of(score, texts)]:
        return f"{len(strange)} scores (e.g. {strange[0]}) are of no text of the baseline's"
    if (scored := len(evidence.compared.texts)) < len(texts):
        return f"{scored} of the baseline's {len(texts)} texts were scored by both engines"
    alone = {comparison.prompt_id for comparison in evidence.compared.alone}
    if len(alone) < (least := min(LEAST_FOR_A_FLOOR, len(texts))):
        return (
            f"{len(alone)} of the baseline's {len(texts)} texts were scored alone (at least {least}), so the "
            "noise floor is unknown: give floor_scores with the evidence"
        )
    return None


def _doubtful(evidence: Evidence) -> Iterator[Score]:
    """Yield the scores that may be of no text: none of a side of which all were compared, text by text."""
    for side in (evidence.candidate_scores, evidence.baseline_scores):
        if side is not None and len(side.scores) != len(evidence.compared.texts):
            yield from side.scores
    if evidence.floor_scores is not None:
        yield from evidence.floor_scores.scores


def _is_of(score: Score, texts: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a score is of a text or its beginning."""
    return texts.get(score.prompt_id, ())[: len(score.token_ids)] == score.token_ids


def _beside(endpoint: Endpoint, floor: float) -> Endpoint:
    metric = replace(endpoint.metric, floor=floor)
    assert metric.margin is not None, "what has a floor has a margin"
    reason = endpoint.reason
    if floor > LARGEST_FLOOR * metric.margin and not metric.ci_low > metric.margin + floor:
        reason = Reason(ReasonCode.NOISE, endpoint.name, _noise(endpoint.name, floor, metric.margin))
    return replace(endpoint, metric=metric, reason=reason)


def _noise(name: str, floor: float, margin: float) -> str:
    if not math.isfinite(floor):
        return (
            f"the noise floor of {name} is unknown: what the baseline gives texts alone is not finite: "
            "look at its engine before any figure"
        )
    return (
        f"the noise floor of {name} is {floor:.3f}, above a third of the margin {margin:.3f}: the baseline "
        "itself differs by so much with what shares a batch; use batch-invariant kernels, or a margin of at "
        "least three times the floor"
    )
