"""Endpoints: the figures that a verdict rests on, each held against its margin.

The *primary* endpoints compare what both engines think of the baseline's own texts, prompt by prompt: each
must lie within its margin with its whole 95 % interval, and is undecided where it does not. *Secondary*
endpoints (degenerate, suspicious, empty and run-away outputs, repetition under penalties, wrong answers)
pair outputs of the same prompt; they hold a pass up only where the interval lies beyond the margin. Either
fails where it is beyond at the level corrected for all endpoints
(:mod:`~pytest_kvcache.measures.noninferiority`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from pytest_kvcache.evidence import Evidence, Faults, wrong_answers
from pytest_kvcache.measures.divergence import first_divergence
from pytest_kvcache.measures.figures import TextFigures
from pytest_kvcache.measures.noninferiority import Differences, Judgement, Means, Sample, judge
from pytest_kvcache.measures.paired import Interval, median_interval, share_interval
from pytest_kvcache.measures.penalties import repetition_excess
from pytest_kvcache.measures.power import BETA, MOST_PROMPTS, can_show_excess
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import (
    Message,
    Metric,
    Prompt,
    Reason,
    ReasonCode,
    Score,
)

LEAST_FOR_AN_INTERVAL = 2
"""Prompts without which there is no primary endpoint, whatever a policy says."""
LEAST_TOKENS_TO_DIFFER = 32
"""Tokens from which on two engines that both round can hardly agree to the last bit."""

Comparisons = Mapping[Prompt, Sequence[TextFigures]]
"""What both engines think of the baseline's texts, pooled by what the prompts say."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One figure, and what in it speaks against a pass: that it fails, that it is undecided, or nothing."""

    name: str
    metric: Metric
    reason: Reason | None


def baseline_endpoints(faults: Sequence[Faults], limits: Limits) -> Iterator[Endpoint]:
    """Judge the baseline by itself: one that is broken can vouch for nobody.

    It is held to the share itself: what chance may excuse in a candidate is no reason to trust a baseline.
    """
    for penalised, name in ((False, "baseline_degenerate"), (True, "baseline_degenerate_penalised")):
        bad = [each.degenerate[1] or each.empty[1] for each in faults if each.penalised is penalised]
        if bad:
            interval = share_interval(sum(bad), len(bad))
            what = f"share of the baseline's {'penalised ' * penalised}outputs that are degenerate"
            margin: float = getattr(limits, name)
            reason = None
            if interval.value > margin:
                message = _held_against(margin, interval, what, "beyond")
                reason = Reason(ReasonCode.BASELINE_DEGENERATE, name, message)
            yield Endpoint(name, _metric(interval, margin), reason)


def baseline_answers(wrong: Sequence[tuple[bool, bool]], limits: Limits) -> Iterator[Endpoint]:
    """Judge the baseline's `wrong_answers` by themselves: what it never knew no candidate can lose.

    As with its outputs, the share itself counts.
    """
    if not wrong:
        return
    right = share_interval(sum(not theirs for _, theirs in wrong), len(wrong))
    reason = None
    if right.value < limits.baseline_recall:
        what = "share of tasks that the baseline gets right"
        held = _held_against(limits.baseline_recall, right, what, "below")
        message = f"{held}: it cannot show a loss of answers; give tasks that the model can do"
        reason = Reason(ReasonCode.BASELINE_DEGENERATE, "baseline_recall", message)
    yield Endpoint("baseline_recall", _metric(right, limits.baseline_recall), reason)


def compare_all(evidence: Sequence[Evidence]) -> Comparisons:
    """Compare all scores of unpenalised sets, pooled under the first of all prompts that say the same."""
    first: dict[tuple[str | None, tuple[Message, ...]], Prompt] = {}
    pooled: dict[Prompt, list[TextFigures]] = defaultdict(list)
    for each in evidence:
        if each.penalised:
            continue
        for prompt, text in each.compared.texts:
            one = first.setdefault((prompt.text, prompt.messages), prompt)
            pooled[one].append(text)
    return pooled


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an endpoint is about, for its reasons."""

    code: ReasonCode
    what: str
    primary: bool = False


_KINDS = {
    "delta_nll": _Kind(ReasonCode.DELTA_NLL, "delta NLL, in nats per token,", primary=True),
    "kld": _Kind(ReasonCode.KLD, "mean KLD, in nats,", primary=True),
    "same_top_loss": _Kind(ReasonCode.SAME_TOP, "loss of same-top probability", primary=True),
    "degenerate_excess": _Kind(ReasonCode.DEGENERATE, "excess of degenerate outputs"),
    "degenerate_excess_penalised": _Kind(
        ReasonCode.DEGENERATE, "excess of degenerate outputs under penalties"
    ),
    "suspicious_excess": _Kind(ReasonCode.SUSPICIOUS, "excess of suspicious outputs"),
    "empty_excess": _Kind(ReasonCode.EMPTY, "excess of empty outputs"),
    "runaway_excess": _Kind(ReasonCode.RUNAWAY, "excess of run-away outputs"),
    "early_end_excess": _Kind(ReasonCode.EARLY_END, "excess of outputs cut short"),
    "nonsense_excess": _Kind(ReasonCode.NONSENSE, "excess of nonsense"),
    "language_drift_excess": _Kind(ReasonCode.LANGUAGE, "excess of answers in another language"),
    "topic_drift_excess": _Kind(ReasonCode.TOPIC, "excess of answers that leave their topic"),
    "penalties_ignored_excess": _Kind(
        ReasonCode.PENALTIES, "excess of penalised texts that begin as without a penalty"
    ),
    "recall_loss": _Kind(ReasonCode.RECALL, "loss of right answers"),
    "penalised_repetition_excess": _Kind(
        ReasonCode.PENALTIES, "4-gram repetition that remains under penalties, over the baseline's,"
    ),
}
"""All endpoints, by the names of their limits."""

VERDICT_CODES = frozenset(
    {
        ReasonCode.DELTA_NLL,
        ReasonCode.KLD,
        ReasonCode.SAME_TOP,
        ReasonCode.DEGENERATE,
        ReasonCode.SUSPICIOUS,
        ReasonCode.EMPTY,
        ReasonCode.RUNAWAY,
        ReasonCode.PENALTIES,
        ReasonCode.RECALL,
    }
)
"""The codes of quality that a verdict can give: those of `primary_samples` and `secondary_samples`."""


def judge_endpoints(samples: Mapping[str, Sample], limits: Limits) -> Iterator[Endpoint]:
    """Hold all samples of one verdict against their limits, together: their number sets the level."""
    for name, judgement in judge(samples, {name: getattr(limits, name) for name in samples}).items():
        yield Endpoint(name, _judged(judgement), reason_against(name, judgement))


def reason_against(name: str, judgement: Judgement) -> Reason | None:
    """Return what speaks against a pass of the endpoint: a failure, or that it is open; None if nothing."""
    kind = _KINDS[name]
    held = _held_against(judgement.margin, judgement.interval, kind.what, "beyond")
    if judgement.beyond:
        return Reason(kind.code, name, held)
    decided_by = f": {_what_decides(judgement.further)}"
    if judgement.suspect:
        note = ", which may be chance in one of several endpoints"
        return Reason(ReasonCode.UNDECIDED, name, held + note + decided_by)
    if kind.primary and not judgement.within:
        held = _held_against(judgement.margin, judgement.interval, kind.what, "on both sides of")
        return Reason(ReasonCode.UNDECIDED, name, held + decided_by)
    return None


def primary_samples(comparisons: Comparisons) -> dict[str, Sample]:
    """Return delta NLL, KLD and same-top loss of each prompt; nothing for fewer than two finite ones."""
    finite = [[c for c in group if c.is_finite] for group in comparisons.values()]
    groups = [group for group in finite if group]
    if len(groups) < LEAST_FOR_AN_INTERVAL:
        return {}
    return {
        "delta_nll": Means(np.array([fmean(c.delta_nll for c in group) for group in groups])),
        "kld": Means(np.array([fmean(c.kld for c in group) for group in groups])),
        "same_top_loss": Means(np.array([1 - fmean(c.same_top for c in group) for group in groups])),
    }


def secondary_samples(faults: Sequence[Faults], evidence: Sequence[Evidence]) -> dict[str, Sample]:
    """Compare each output with the baseline's output for the same prompt; nothing where there are none."""
    found: dict[str, Sequence[tuple[bool, bool]]] = {
        "degenerate_excess": [each.degenerate for each in faults if not each.penalised],
        "degenerate_excess_penalised": [each.degenerate for each in faults if each.penalised],
        "suspicious_excess": [each.suspicious for each in faults],
        "empty_excess": [each.empty for each in faults],
        "runaway_excess": [each.ran_away for each in faults],
        "recall_loss": wrong_answers(evidence),
    }
    samples: dict[str, Sample] = {name: Differences.of(pairs) for name, pairs in found.items() if pairs}
    penalised = [each for each in evidence if each.penalised]
    repetition = [value for each in penalised for value in repetition_excess(each.candidate, each.baseline)]
    if len(repetition) >= LEAST_FOR_AN_INTERVAL:
        samples["penalised_repetition_excess"] = Means(np.array(repetition))
    return samples


def figures(
    faults: Sequence[Faults], evidence: Sequence[Evidence], samples: Mapping[str, Sample]
) -> Iterator[Endpoint]:
    """Yield what nothing is decided by, for people to read."""
    if "same_top_loss" in samples:
        loss = samples["same_top_loss"].interval()
        yield _figure("same_top", Interval(1 - loss.value, 1 - loss.high, 1 - loss.low, loss.n))
    if faults:
        for side, name in enumerate(("degenerate_candidate", "degenerate_baseline")):
            count = sum(each.degenerate[side] or each.empty[side] for each in faults)
            yield _figure(name, share_interval(count, len(faults)))
    if wrong := wrong_answers(evidence):
        for side, name in enumerate(("recall_candidate", "recall_baseline")):
            yield _figure(name, share_interval(sum(not each[side] for each in wrong), len(wrong)))


def first_divergences(evidence: Sequence[Evidence]) -> Iterator[Endpoint]:
    """Yield, for people to read, where free-running outputs part, and how many never do.

    The position, in tokens, is the median over those that part. Without penalties and tasks.
    """
    parted = [
        first_divergence(ours, theirs)
        for each in evidence
        if not (each.penalised or each.prompt_set.is_tasks)
        for _, ours, theirs in each.pairs()
    ]
    positions = [position for position in parted if position is not None]
    if positions:
        yield _figure("first_divergence", median_interval(positions))
    if parted:
        yield _figure("never_diverges", share_interval(len(parted) - len(positions), len(parted)))


def not_finite(comparisons: Comparisons) -> Iterator[Reason]:
    """Yield a reason for each side whose log-probabilities are NaN or infinite anywhere."""
    theirs = [sum(c.baseline_non_finite for c in group) for group in comparisons.values()]
    ours = [sum(c.candidate_non_finite for c in group) for group in comparisons.values()]
    for counts, who, code in (
        (theirs, "baseline", ReasonCode.BASELINE_DEGENERATE),
        (ours, "candidate", ReasonCode.NOT_FINITE),
    ):
        if any(counts):
            prompts = f"{sum(map(bool, counts))} of {len(counts)} prompts"
            message = f"{sum(counts)} log-probabilities of the {who} are not finite, in {prompts}"
            yield Reason(code, "delta_nll", message)


def too_little(comparisons: Comparisons, limits: Limits) -> Iterator[Reason]:
    """Yield one reason that names all that a pass would still need, if anything."""
    lengths = [c.tokens for group in comparisons.values() for c in group]
    kinds = len({prompt.kind for prompt in comparisons})
    have = (
        ("scored prompt{s}", len(comparisons), max(limits.min_prompts, LEAST_FOR_AN_INTERVAL)),
        ("kind{s} of prompts", kinds, limits.min_kinds),
        ("token{s} per prompt", round(fmean(lengths)) if lengths else 0, limits.min_tokens_per_prompt),
    )
    short = [
        f"{count} {what.format(s='' if count == 1 else 's')} (at least {least})"
        for what, count, least in have
        if count < least
    ]
    if short:
        message = f"too little evidence for a pass: {', '.join(short)}"
        if 0 < kinds < limits.min_kinds:
            message += "; name each prompt's `kind` in the prompt file, or set the limit `min_kinds`"
        yield Reason(ReasonCode.TOO_LITTLE_EVIDENCE, None, message)


def too_few_answers(wrong: Sequence[tuple[bool, bool]], limits: Limits) -> Iterator[Reason]:
    """Yield a reason if the baseline knows so few of the tasks that no loss of answers could be seen.

    ``wrong`` are the `wrong_answers`. A team that allows its baseline to know none (``baseline_recall`` 0)
    has said that it does without.
    """
    theirs = [of_baseline for _, of_baseline in wrong]
    if theirs and limits.baseline_recall and not can_show_excess(theirs, limits.recall_loss):
        message = (
            f"of {len(theirs)} answers the baseline has {theirs.count(False)} right, and not even the loss "
            f"of all is proof beyond the margin {limits.recall_loss:.3f}: give more tasks, or easier ones"
        )
        yield Reason(ReasonCode.TOO_LITTLE_EVIDENCE, "recall_loss", message)


def cache_unread(evidence: Sequence[Evidence]) -> Iterator[Reason]:
    """Yield a reason if scoring hardly read the quantized cache of the candidates that have one."""
    quantized = (each for each in evidence if each.candidate.provenance.kv_cache_quantized)
    yield from _unread(
        [(text.tokens, text.are_same) for each in quantized for _, text in each.compared.texts]
    )


def unread(scores: Iterable[tuple[Score, Score]]) -> Iterator[Reason]:
    """Yield a reason if in most texts no rounding is to be seen, given the scores by two different caches.

    Some attention backends score a text from the keys and values just computed, not from the cache, but
    for the few texts that are split between two batches. Short texts count only where all are short.
    """
    yield from _unread([(len(ours.token_ids), ours.logprobs == theirs.logprobs) for ours, theirs in scores])


def _unread(texts: Sequence[tuple[int, bool]]) -> Iterator[Reason]:
    """Do the same, given the tokens of each text, and whether both scores of it are the same."""
    long = [same for tokens, same in texts if tokens >= LEAST_TOKENS_TO_DIFFER]
    judged = long or [same for _, same in texts]
    if 2 * sum(judged) > len(judged):
        message = (
            f"too little evidence for a pass: both engines give {sum(judged)} of {len(judged)} texts "
            "the same probabilities to the last bit, so scoring did not read the quantized cache: choose "
            "another attention backend"
        )
        yield Reason(ReasonCode.TOO_LITTLE_EVIDENCE, "delta_nll", message)


def _figure(name: str, interval: Interval) -> Endpoint:
    """Return a figure that nothing is decided by."""
    return Endpoint(name, _metric(interval), None)


def _what_decides(further: int | None) -> str:
    if further is None:
        return f"it lies so close to the margin that it would take more than {MOST_PROMPTS:,} prompts"
    step = 10 ** max(0, len(str(further)) - 2)
    return f"about {math.ceil(further / step) * step} more prompts like these would decide"


def _judged(judgement: Judgement) -> Metric:
    metric = _metric(judgement.interval, judgement.margin)
    return replace(metric, alpha=judgement.alpha, beta=BETA, detectable=judgement.detectable)


def _metric(interval: Interval, margin: float | None = None) -> Metric:
    return Metric(interval.value, interval.low, interval.high, interval.n, margin)


def _held_against(margin: float, interval: Interval, what: str, where: str) -> str:
    return (
        f"{what} is {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}], "
        f"{where} the margin {margin:.3f} (n = {interval.n})"
    )
