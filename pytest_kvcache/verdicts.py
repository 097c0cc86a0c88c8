"""Verdicts: one decision for one model and candidate, with its reasons. Pure.

A verdict is a decision of non-inferiority, not a test of difference: a quantized cache does change what
a model says. It is red for any failed endpoint (:mod:`~pytest_kvcache.endpoints`), and for a comparison that
means nothing; inconclusive while a primary endpoint is undecided or the evidence is too little; else a
pass. What the team declared known-bad is applied last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from typing import Literal

from pytest_kvcache.details import divergence_detail
from pytest_kvcache.endpoints import (
    VERDICT_CODES,
    Endpoint,
    baseline_answers,
    baseline_endpoints,
    cache_unread,
    compare_all,
    figures,
    first_divergences,
    judge_endpoints,
    not_finite,
    primary_samples,
    secondary_samples,
    too_few_answers,
    too_little,
)
from pytest_kvcache.evidence import Evidence, find_faults, wrong_answers
from pytest_kvcache.policy import KnownBad, Limits
from pytest_kvcache.records import (
    QUALITY_CODES,
    Coverage,
    DivergenceDetail,
    EngineSpec,
    Metric,
    OutputSet,
    PromptSet,
    Provenance,
    Reason,
    ReasonCode,
    Verdict,
    VerdictKind,
)
from pytest_kvcache.soundness import beside_noise, incomplete, noise_floor, not_probed

__all__ = ["Evidence", "Identity", "decide", "failed", "outcome"]

Source = Literal["fresh", "cached", "golden"]
"""Where outputs come from: this run, an earlier one, or a golden."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a verdict is about, as in the fields of :class:`~pytest_kvcache.records.Verdict`."""

    id: str
    model: str
    revision: str | None
    kv_dtype: str
    variant: str | None
    baseline_id: str
    source: Source = "fresh"


def decide(
    identity: Identity,
    evidence: Sequence[Evidence],
    *,
    limits: Limits,
    known_bad: KnownBad | None,
    today: date,
) -> Verdict:
    """Decide from outputs. Raises ValueError if the two sides do not answer the same prompts."""
    endpoints: list[Endpoint] = []
    divergence = None
    faults, wrong = find_faults(evidence), wrong_answers(evidence)
    reasons = _obstacles(identity, evidence)
    if not reasons:
        endpoints += baseline_endpoints(faults, limits)
        endpoints += baseline_answers(wrong, limits)
        reasons += _reasons_of(endpoints)
    if not reasons:
        comparisons = compare_all(evidence)
        divergence = divergence_detail(comparisons)
        samples = {**primary_samples(comparisons), **secondary_samples(faults, evidence)}
        floors = noise_floor(evidence)
        judged = beside_noise(judge_endpoints(samples, limits), floors)
        measured = [*judged, *first_divergences(evidence), *figures(faults, evidence, samples)]
        endpoints += measured
        reasons += [*not_finite(comparisons), *_reasons_of(measured)]
        reasons += [*too_little(comparisons, limits), *too_few_answers(wrong, limits)]
        reasons += [*cache_unread(evidence), *not_probed(evidence), *incomplete(evidence)]
    kind, reasons = _declared(*outcome(reasons), known_bad, today)
    return _verdict(
        identity,
        kind,
        reasons,
        [each.prompt_set for each in evidence],
        resolved=evidence[0].candidate.provenance.kv_cache_dtype if evidence else None,
        metrics={endpoint.name: endpoint.metric for endpoint in endpoints},
        ran=sum(len(each.candidate.outputs) for each in evidence),
        golden=_writers(each.baseline for each in evidence),
        divergence=divergence,
    )


def failed(identity: Identity, code: ReasonCode, message: str, prompt_sets: Sequence[PromptSet]) -> Verdict:
    """Return the red verdict of a run that gave nothing to judge; no declaration excuses it."""
    return _verdict(identity, VerdictKind.FAIL, [Reason(code, None, message)], prompt_sets)


def _verdict(
    identity: Identity,
    kind: VerdictKind,
    reasons: Sequence[Reason],
    prompt_sets: Sequence[PromptSet],
    *,
    resolved: str | None = None,
    metrics: dict[str, Metric] | None = None,
    ran: int = 0,
    golden: str | None = None,
    divergence: DivergenceDetail | None = None,
) -> Verdict:
    planned = sum(len(prompt_set.prompts) for prompt_set in prompt_sets)
    return Verdict(
        id=identity.id,
        model=identity.model,
        revision=identity.revision,
        kv_dtype=identity.kv_dtype,
        resolved_kv_dtype=resolved,
        variant=identity.variant,
        baseline_id=identity.baseline_id,
        verdict=kind,
        source=identity.source,
        prompt_sets=tuple(prompt_set.name for prompt_set in prompt_sets),
        metrics=metrics or {},
        reasons=tuple(reasons),
        coverage=Coverage(planned, ran, planned - ran),
        golden=golden,
        divergence=divergence,
    )


def _writers(baselines: Iterable[OutputSet]) -> str | None:
    """Return what wrote the goldens among these, each once; None if there is none."""
    writers = (_writer(each.provenance) for each in baselines if each.spec.golden is not None)
    return ", ".join(dict.fromkeys(writers)) or None


def _writer(provenance: Provenance) -> str:
    return f"vllm {dict(provenance.versions).get('vllm', '(unknown)')} on {provenance.platform}"


# From reasons to an outcome


def _reasons_of(endpoints: Sequence[Endpoint]) -> list[Reason]:
    return [endpoint.reason for endpoint in endpoints if endpoint.reason]


def outcome(reasons: Sequence[Reason]) -> tuple[VerdictKind, list[Reason]]:
    """Return the outcome with the reasons for it: what is red silences what is open."""
    open_codes = {ReasonCode.UNDECIDED, ReasonCode.TOO_LITTLE_EVIDENCE, ReasonCode.NOISE}
    red = [reason for reason in reasons if reason.code not in open_codes]
    if red:
        return VerdictKind.FAIL, red
    return (VerdictKind.INCONCLUSIVE if reasons else VerdictKind.PASS), list(reasons)


def _declared(
    kind: VerdictKind, reasons: list[Reason], known_bad: KnownBad | None, today: date
) -> tuple[VerdictKind, list[Reason]]:
    """Hold an outcome against what the team declared about it.

    One of the declared codes suffices: others may be what another test, or a larger tier, gives.
    """
    if known_bad is None or kind is VerdictKind.INCONCLUSIVE:
        return kind, reasons
    codes = {reason.code for reason in reasons}
    if not codes <= QUALITY_CODES:
        return kind, reasons
    declared = ", ".join(known_bad.codes)
    if known_bad.expired(today):
        note = f"the known-bad declaration ({declared}) expired on {known_bad.expires}: mend it or renew it"
        return VerdictKind.FAIL, [Reason(ReasonCode.KNOWN_BAD_EXPIRED, None, note), *reasons]
    if kind is VerdictKind.PASS:
        return VerdictKind.FAIL, [Reason(ReasonCode.KNOWN_BAD_NOT_REPRODUCED, None, known_bad.outlived)]
    could_be_seen = [code for code in known_bad.codes if code in VERDICT_CODES]
    missing = [f"{code} was not seen" for code in could_be_seen if code not in codes]
    unexpected = [f"{code} is not declared" for code in sorted(codes.difference(known_bad.codes))]
    if unexpected:
        note = f"it fails, but not as declared known-bad: {', '.join([*missing, *unexpected])}"
        return VerdictKind.FAIL, [Reason(ReasonCode.KNOWN_BAD_NOT_REPRODUCED, None, note), *reasons]
    note = "; ".join([f"known-bad as declared ({declared}): {known_bad.why}", *missing])
    return VerdictKind.KNOWN_BAD, [Reason(ReasonCode.KNOWN_BAD_REPRODUCED, None, note), *reasons]


# What makes a comparison void


def quantized_baseline(baseline_id: str, spec: EngineSpec, resolved: str) -> str:
    """Return in one line why a baseline that resolved to a quantized cache is none."""
    if spec.golden is not None:
        return (
            f"the goldens of {baseline_id} were written with a quantized cache ({resolved}) and vouch for "
            "nobody: write them with --kv-baseline=bfloat16, and read them as golden:bfloat16"
        )
    return (
        f"the baseline {baseline_id} itself resolved to a quantized cache ({resolved}): "
        "use --kv-baseline=bfloat16"
    )


def _obstacles(identity: Identity, evidence: Sequence[Evidence]) -> list[Reason]:
    """Return the first reason, if any, why these engines cannot be compared."""
    return list(islice((reason for each in evidence for reason in _obstacles_of(identity, each)), 1))


def _obstacles_of(identity: Identity, evidence: Evidence) -> Iterator[Reason]:
    ours, theirs = evidence.candidate.provenance, evidence.baseline.provenance
    if theirs.kv_cache_quantized:
        message = quantized_baseline(identity.baseline_id, evidence.baseline.spec, theirs.kv_cache_dtype)
        yield Reason(ReasonCode.BASELINE_QUANTIZED, None, message)
    if ours.model_id != theirs.model_id:
        yield Reason(ReasonCode.MODEL_CHANGED, None, _other_model(evidence))
    changed = [
        prompt.id
        for prompt, a, b in evidence.pairs()
        if not prompt.is_open and a.prompt_token_ids != b.prompt_token_ids
    ]
    if changed:
        yield Reason(ReasonCode.MODEL_CHANGED, None, _other_prompts(evidence, changed))
    if ours.kv_cache_dtype == theirs.kv_cache_dtype and not _is_own_golden(evidence):
        yield Reason(
            ReasonCode.SAME_AS_BASELINE,
            None,
            f"{identity.id} resolved to the baseline's own kv dtype ({ours.kv_cache_dtype}): it tests "
            "nothing; name another kv dtype, or a variant that quantizes at least one layer",
        )


def _is_own_golden(evidence: Evidence) -> bool:
    """Whether the candidate is the very engine that wrote the golden, as it is today."""
    return replace(evidence.baseline.spec, golden=None) == evidence.candidate.spec


def _other_model(evidence: Evidence) -> str:
    ours, theirs = evidence.candidate.provenance.model_id, evidence.baseline.provenance.model_id
    if evidence.baseline.spec.golden is not None:
        return (
            f"the golden of {evidence.prompt_set.name} is of another model ({theirs}) than ran now ({ours}): "
            "if the change is meant, refresh it"
        )
    return (
        f"baseline and candidate ran different models ({theirs} and {ours}): "
        "pin one revision and leave the files alone during a run"
    )


def _other_prompts(evidence: Evidence, changed: Sequence[str]) -> str:
    prompts = f"{len(changed)} of {len(evidence.candidate)} prompts of {evidence.prompt_set.name}"
    if evidence.baseline.spec.golden is not None:
        return (
            f"{prompts} (e.g. {changed[0]}) became other tokens than in the golden: the tokenizer or the "
            "chat template is another, or writes the date; if the change is meant, refresh the golden"
        )
    return (
        f"{prompts} (e.g. {changed[0]}) became other tokens than for the baseline: "
        "give both the same tokenizer and chat template"
    )
