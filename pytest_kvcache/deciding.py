"""Deciding: from what both sides wrote and thought of it to a verdict, with excerpts that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol

from pytest_kvcache import verdicts
from pytest_kvcache.errors import EngineError
from pytest_kvcache.excerpts import choose_excerpts
from pytest_kvcache.golden_diff import told_surroundings
from pytest_kvcache.plan import Target, is_scored
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import EngineSpec, Excerpt, OutputSet, PromptSet, ReasonCode, ScoreSet, Verdict


class Sides(Protocol):
    """Gives what a target wrote, and what it thinks of its baseline's texts; in time, where engines run.

    Raises `EngineError` where it cannot. The source is known when the rest has been given.
    """

    def outputs(self, target: Target, prompt_set: PromptSet) -> OutputSet: ...
    def scores(self, target: Target, prompt_set: PromptSet) -> ScoreSet: ...
    def floor(self, target: Target, prompt_set: PromptSet) -> ScoreSet: ...
    def source(self, target: Target, prompt_sets: Sequence[PromptSet]) -> verdicts.Source: ...


def decide(
    sides: Sides,
    target: Target,
    prompt_sets: Sequence[PromptSet],
    policy: Policy,
    today: date,
    *,
    test: str | None = None,
) -> tuple[Verdict, tuple[Excerpt, ...]]:
    """Return the verdict about one candidate, and excerpts of what it wrote.

    An engine that broke makes a verdict too, a red one.
    """
    broken = ReasonCode.BASELINE_FAILED
    try:
        theirs = [_given(sides, target.of_baseline(), prompt_set) for prompt_set in prompt_sets]
        broken = ReasonCode.ENGINE_FAILED
        ours = [_given(sides, target, prompt_set) for prompt_set in prompt_sets]
    except EngineError as error:
        identity = _identity(sides, target, prompt_sets)
        return verdicts.failed(identity, broken, str(error), prompt_sets), ()
    evidence = [_evidence(target.baseline, *both) for both in zip(theirs, ours, strict=True)]
    verdict = verdicts.decide(
        _identity(sides, target, prompt_sets),
        evidence,
        limits=policy.limits_for(target.spec.model),
        known_bad=policy.known_bad_for(target.spec.model, target.label, test),
        today=today,
    )
    if verdict.golden is not None and (otherwise := _made_otherwise(evidence)):
        made = f"{verdict.golden}; made otherwise than the candidate: {otherwise}"
        verdict = replace(verdict, golden=made)
    return verdict, choose_excerpts(verdict, evidence)


def _made_otherwise(evidence: Sequence[verdicts.Evidence]) -> str:
    """Return what besides the kv dtype may be the cause of what a verdict finds beside goldens."""
    told = (told_surroundings(each.baseline, each.candidate) for each in evidence)
    return "; ".join(dict.fromkeys(filter(None, told)))


def _identity(sides: Sides, target: Target, prompt_sets: Sequence[PromptSet]) -> verdicts.Identity:
    return verdicts.Identity(
        id=target.id,
        model=target.spec.model,
        revision=target.spec.revision,
        kv_dtype=target.kv_dtype,
        variant=target.variant,
        baseline_id=target.baseline_id,
        source=sides.source(target, prompt_sets),
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """What one side gives for one prompt set; scores only of sets that are scored."""

    outputs: OutputSet
    scores: ScoreSet | None = None
    floor: ScoreSet | None = None


def _given(sides: Sides, target: Target, prompt_set: PromptSet) -> _Given:
    """Return what a side gives for a verdict, each entry read once."""
    outputs = sides.outputs(target, prompt_set)
    if not is_scored(prompt_set):
        return _Given(outputs)
    scores = sides.scores(target, prompt_set)
    return _Given(outputs, scores, sides.floor(target, prompt_set) if target.is_baseline else None)


def _evidence(baseline: EngineSpec, theirs: _Given, ours: _Given) -> verdicts.Evidence:
    return verdicts.Evidence(
        prompt_set=ours.outputs.prompt_set,
        baseline=replace(theirs.outputs, spec=baseline),
        candidate=ours.outputs,
        baseline_scores=theirs.scores,
        candidate_scores=ours.scores,
        floor_scores=theirs.floor,
    )
