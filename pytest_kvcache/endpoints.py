"""Endpoints: the figures that a verdict rests on, each held against its margin.

The *primary* endpoints compare what both engines think of the baseline's own texts, prompt by prompt: an
endpoint fails where its 95 % interval lies beyond the margin, passes where it lies within, and is else
undecided. *Secondary* endpoints (degenerate, empty and run-away outputs, repetition under penalties)
pair outputs of the same prompt; they fail where their interval lies beyond the margin, and are never
undecided. Each has its own 95 %: nothing is corrected for there being several.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pytest_kvcache.measures.degeneration import find_degeneration, ran_away
from pytest_kvcache.measures.divergence import ScoreComparison, compare_scores
from pytest_kvcache.measures.paired import Interval, mean_interval, paired_difference_interval, share_interval
from pytest_kvcache.measures.penalties import pair_outputs, repetition_excess
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import (
    Message,
    Metric,
    Output,
    OutputSet,
    Prompt,
    PromptSet,
    Reason,
    ReasonCode,
    ScoreSet,
)

LEAST_FOR_AN_INTERVAL = 2
"""Prompts without which there is no primary endpoint, whatever a policy says."""
LEAST_TOKENS_TO_DIFFER = 32
"""Tokens from which on two engines that both round can hardly agree to the last bit."""

Comparisons = Mapping[Prompt, Sequence[ScoreComparison]]
"""Both engines' scores of the baseline's texts, compared and pooled by what the prompts say."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What baseline and candidate made of one prompt set. Scores are of the baseline's texts, by both."""

    prompt_set: PromptSet
    baseline: OutputSet
    candidate: OutputSet
    baseline_scores: ScoreSet | None = None
    candidate_scores: ScoreSet | None = None

    @property
    def penalised(self) -> bool:
        return self.prompt_set.sampling.penalised

    def pairs(self) -> Iterator[tuple[Prompt, Output, Output]]:
        """Yield each prompt with the candidate's and the baseline's output.

        Raises ValueError if they are not of the same prompts.
        """
        prompts = {prompt.id: prompt for prompt in self.prompt_set.prompts}
        for ours, theirs in pair_outputs(self.candidate, self.baseline):
            yield prompts[ours.prompt_id], ours, theirs


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One figure, and what in it speaks against a pass: that it fails, that it is undecided, or nothing."""

    name: str
    metric: Metric
    reason: Reason | None


def baseline_endpoints(evidence: Sequence[Evidence], limits: Limits) -> Iterator[Endpoint]:
    """Judge the baseline by itself: one that is broken can vouch for nobody.

    It is held to the share itself: what chance may excuse in a candidate is no reason to trust a baseline.
    """
    for penalised, name in ((False, "baseline_degenerate"), (True, "baseline_degenerate_penalised")):
        bad = [
            _is_degenerate(theirs, prompt) or _is_empty(theirs)
            for each in evidence
            if each.penalised is penalised
            for prompt, _, theirs in each.pairs()
        ]
        if bad:
            interval = share_interval(sum(bad), len(bad))
            what = f"share of the baseline's {'penalised ' * penalised}outputs that are degenerate"
            margin: float = getattr(limits, name)
            reason = None
            if interval.value > margin:
                message = _held_against(margin, interval, what, "beyond")
                reason = Reason(ReasonCode.BASELINE_DEGENERATE, name, message)
            yield Endpoint(name, _metric(interval, margin), reason)


def compare_all(evidence: Sequence[Evidence]) -> Comparisons:
    """Compare all scores of unpenalised sets, pooled under the first of all prompts that say the same.

    Texts of no tokens are left out: there is nothing to score.
    """
    first: dict[tuple[str | None, tuple[Message, ...]], Prompt] = {}
    pooled: dict[Prompt, list[ScoreComparison]] = defaultdict(list)
    for each in evidence:
        if each.penalised or each.baseline_scores is None or each.candidate_scores is None:
            continue
        prompts = {prompt.id: prompt for prompt in each.prompt_set.prompts}
        for ours, theirs in zip(each.candidate_scores.scores, each.baseline_scores.scores, strict=True):
            if theirs.token_ids:
                prompt = prompts[theirs.prompt_id]
                prompt = first.setdefault((prompt.text, prompt.messages), prompt)
                pooled[prompt].append(compare_scores(ours, theirs))
    return pooled


def primary_endpoints(comparisons: Comparisons, limits: Limits) -> Iterator[Endpoint]:
    """Judge delta NLL and same-top probability; nothing if fewer than two prompts have finite scores."""
    finite = [[c for c in group if c.is_finite] for group in comparisons.values()]
    groups = [group for group in finite if group]
    if len(groups) < LEAST_FOR_AN_INTERVAL:
        return
    delta = mean_interval([fmean(c.delta_nll for c in group) for group in groups])
    loss = mean_interval([1 - fmean(c.same_top for c in group) for group in groups])
    what = "delta NLL, in nats per token,"
    yield _endpoint("delta_nll", delta, limits, ReasonCode.DELTA_NLL, what, primary=True)
    what = "loss of same-top probability"
    yield _endpoint("same_top_loss", loss, limits, ReasonCode.SAME_TOP, what, primary=True)
    yield _figure("same_top", Interval(1 - loss.value, 1 - loss.high, 1 - loss.low, loss.n))


def secondary_endpoints(evidence: Sequence[Evidence], limits: Limits) -> Iterator[Endpoint]:
    """Judge outputs against the baseline's output for the same prompt."""
    faults = _find_faults(evidence)
    yield from _degenerate_excess(faults, limits)
    yield from _degenerate_shares(faults)
    empty, away = [each.empty for each in faults], [each.ran_away for each in faults]
    yield from _excess("empty_excess", empty, limits, ReasonCode.EMPTY, "excess of empty outputs")
    yield from _excess("runaway_excess", away, limits, ReasonCode.RUNAWAY, "excess of run-away outputs")
    penalised = [each for each in evidence if each.penalised]
    repetition = [value for each in penalised for value in repetition_excess(each.candidate, each.baseline)]
    if len(repetition) > 1:
        what = "4-gram repetition that remains under penalties, over the baseline's,"
        interval = mean_interval(repetition)
        yield _endpoint("penalised_repetition_excess", interval, limits, ReasonCode.PENALTIES, what)


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
    have = (
        ("scored prompts", len(comparisons), max(limits.min_prompts, LEAST_FOR_AN_INTERVAL)),
        ("kinds of prompts", len({prompt.kind for prompt in comparisons}), limits.min_kinds),
        ("tokens per prompt", round(fmean(lengths)) if lengths else 0, limits.min_tokens_per_prompt),
    )
    short = [f"{count} {what} (at least {least})" for what, count, least in have if count < least]
    if short:
        message = f"too little evidence for a pass: {', '.join(short)}"
        yield Reason(ReasonCode.TOO_LITTLE_EVIDENCE, None, message)


def cache_unread(evidence: Sequence[Evidence]) -> Iterator[Reason]:
    """Yield a reason if scoring hardly read the quantized cache: in most texts no rounding is to be seen.

    Some attention backends score a text from the keys and values just computed, not from the cache, but
    for the few texts that are split between two batches. Short texts count only where all are short.
    """
    same = [
        (len(ours.token_ids) >= LEAST_TOKENS_TO_DIFFER, ours.logprobs == theirs.logprobs)
        for each in evidence
        if each.candidate.provenance.kv_cache_quantized and each.candidate_scores and each.baseline_scores
        for ours, theirs in zip(each.candidate_scores.scores, each.baseline_scores.scores, strict=True)
    ]
    judged = [equal for long, equal in same if long] or [equal for _, equal in same]
    if 2 * sum(judged) > len(judged):
        message = (
            f"too little evidence for a pass: both engines give {sum(judged)} of {len(judged)} texts "
            "the same probabilities to the last bit, so scoring did not read the quantized cache: choose "
            "another attention backend"
        )
        yield Reason(ReasonCode.TOO_LITTLE_EVIDENCE, "delta_nll", message)


@dataclass(frozen=True, slots=True)
class _Faults:
    """What is wrong with the two outputs for one prompt; each pair is (candidate's, baseline's)."""

    penalised: bool
    degenerate: tuple[bool, bool]
    empty: tuple[bool, bool]
    ran_away: tuple[bool, bool]


def _find_faults(evidence: Sequence[Evidence]) -> list[_Faults]:
    return [
        _Faults(
            each.penalised,
            degenerate=(_is_degenerate(ours, prompt), _is_degenerate(theirs, prompt)),
            empty=(_is_empty(ours), _is_empty(theirs)),
            ran_away=(ran_away(ours, beside=theirs), ran_away(theirs, beside=ours)),
        )
        for each in evidence
        for prompt, ours, theirs in each.pairs()
    ]


def _degenerate_excess(faults: Sequence[_Faults], limits: Limits) -> Iterator[Endpoint]:
    for penalised, name in ((False, "degenerate_excess"), (True, "degenerate_excess_penalised")):
        pairs = [each.degenerate for each in faults if each.penalised is penalised]
        what = f"excess of degenerate outputs{' under penalties' * penalised}"
        yield from _excess(name, pairs, limits, ReasonCode.DEGENERATE, what)


def _degenerate_shares(faults: Sequence[_Faults]) -> Iterator[Endpoint]:
    """Yield how many outputs of each side are degenerate or empty, for people to read."""
    if faults:
        for side, name in enumerate(("degenerate_candidate", "degenerate_baseline")):
            count = sum(each.degenerate[side] or each.empty[side] for each in faults)
            yield _figure(name, share_interval(count, len(faults)))


def _excess(
    name: str, pairs: Sequence[tuple[bool, bool]], limits: Limits, code: ReasonCode, what: str
) -> Iterator[Endpoint]:
    """Judge how much more often the candidate has a fault than the baseline; nothing without pairs."""
    if pairs:
        only_ours = sum(ours and not theirs for ours, theirs in pairs)
        only_theirs = sum(theirs and not ours for ours, theirs in pairs)
        interval = paired_difference_interval(only_ours, only_theirs, len(pairs))
        yield _endpoint(name, interval, limits, code, what)


def _is_degenerate(output: Output, prompt: Prompt) -> bool:
    """Whether one signal suffices; empty outputs are counted by themselves."""
    return any(s.severity == "fail" and s.kind != "empty" for s in find_degeneration(output, prompt=prompt))


def _is_empty(output: Output) -> bool:
    return not output.text.strip()


def _figure(name: str, interval: Interval) -> Endpoint:
    """Return a figure that nothing is decided by."""
    return Endpoint(name, _metric(interval), None)


def _endpoint(
    name: str, interval: Interval, limits: Limits, code: ReasonCode, what: str, *, primary: bool = False
) -> Endpoint:
    """Hold a figure against the limit of its name. Only a primary endpoint can be undecided."""
    margin: float = getattr(limits, name)
    reason = None
    if interval.low > margin:
        reason = Reason(code, name, _held_against(margin, interval, what, "beyond"))
    elif primary and interval.high > margin:
        message = _held_against(margin, interval, what, "on both sides of")
        reason = Reason(ReasonCode.UNDECIDED, name, message)
    return Endpoint(name, _metric(interval, margin), reason)


def _metric(interval: Interval, margin: float | None = None) -> Metric:
    return Metric(interval.value, interval.low, interval.high, interval.n, margin)


def _held_against(margin: float, interval: Interval, what: str, where: str) -> str:
    return (
        f"{what} is {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}], "
        f"{where} the margin {margin:.3f} (n = {interval.n})"
    )
