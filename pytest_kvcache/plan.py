"""The plan: which engines a run needs, in which order, and what each of them is asked for.

A *target* is one model under one kv dtype (or variant): what tests are parametrised over. A *request*
is what one test needs of its target. The plan groups all requests by engine, so that every engine is
started once and every prompt set goes through it whole, once, however many tests look at it.

Candidates score the baseline's own fresh texts, so the baseline comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_kvcache.records import EngineSpec, PromptSet


@dataclass(frozen=True, slots=True)
class Target:
    """One model under one kv dtype or variant."""

    id: str
    """Readable and unique within a run, e.g. ``gqa-kbias-fp8``: the parameter's id in test names."""
    spec: EngineSpec
    kv_dtype: str
    """As the user wrote it: ``fp8``; a variant's kv dtype."""
    variant: str | None
    baseline: EngineSpec
    baseline_id: str

    @property
    def is_baseline(self) -> bool:
        return self.spec == self.baseline

    def of_baseline(self) -> Target:
        """Return the target of this one's baseline."""
        dtype = self.baseline.kv_cache_dtype
        return replace(self, id=self.baseline_id, spec=self.baseline, kv_dtype=dtype, variant=None)


@dataclass(frozen=True, slots=True)
class Request:
    """What one test needs of its target."""

    target: Target
    prompt_sets: tuple[PromptSet, ...]
    with_baseline: bool = False
    """Needs the baseline's outputs for the same prompts."""
    with_scores: bool = False
    """Needs the scores of the baseline's texts by both engines; implies the baseline's outputs."""
    ad_hoc: bool = False
    """May ask the engine for more than is declared."""


@dataclass(frozen=True, slots=True)
class EngineJob:
    """Everything one engine is asked for in its one life."""

    label: str
    spec: EngineSpec
    baseline: EngineSpec
    """The engine whose texts are scored; `spec` itself in a baseline's job."""
    generate: tuple[PromptSet, ...]
    score: tuple[PromptSet, ...]
    """Sets whose baseline texts this engine scores."""
    keep_alive: bool = False
    """Stay started when the declared work is done: a test may ask for more."""

    def merged(self, other: EngineJob) -> EngineJob:
        """Return one job with the work of both."""
        return replace(
            self,
            generate=_distinct((*self.generate, *other.generate)),
            score=_distinct((*self.score, *other.score)),
            keep_alive=self.keep_alive or other.keep_alive,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs of a run, baselines before their candidates, in the order tests asked for them."""

    jobs: tuple[EngineJob, ...]

    def job(self, spec: EngineSpec) -> EngineJob | None:
        return next((job for job in self.jobs if job.spec == spec), None)

    def extended(self, other: Plan) -> Plan:
        """Return this plan with another's jobs merged in, the known engines first."""
        merged = {job.spec: job for job in self.jobs}
        for job in other.jobs:
            known = merged.get(job.spec)
            merged[job.spec] = job if known is None else known.merged(job)
        return Plan(tuple(merged.values()))


def make_plan(requests: Sequence[Request]) -> Plan:
    """Group requests by engine. The result depends only on the requests and their order."""
    plan = Plan(())
    for request in requests:
        plan = plan.extended(Plan(_jobs_of(request)))
    models = list(dict.fromkeys(job.spec.model for job in plan.jobs))
    return Plan(
        tuple(sorted(plan.jobs, key=lambda job: (models.index(job.spec.model), job.spec != job.baseline)))
    )


def _jobs_of(request: Request) -> tuple[EngineJob, ...]:
    """Return what one request alone asks of the engines it concerns, the baseline first."""
    target = request.target
    paired = request.with_baseline or request.with_scores
    scored = tuple(filter(is_scored, request.prompt_sets)) if request.with_scores else ()
    sides = [target.of_baseline(), target] if paired and not target.is_baseline else [target]
    return tuple(
        EngineJob(
            label=side.baseline_id if side.is_baseline else side.id,
            spec=side.spec,
            baseline=side.baseline,
            generate=_distinct(request.prompt_sets),
            score=_distinct(scored),
            keep_alive=request.ad_hoc and side == target,
        )
        for side in sides
    )


def is_scored(prompt_set: PromptSet) -> bool:
    """Whether texts of this set are scored.

    A penalised text is not the model's own distribution, and the few words of an answer say whether it
    is right, not how a longer text would fare.
    """
    return not (prompt_set.sampling.penalised or prompt_set.is_tasks)


def _distinct(prompt_sets: Sequence[PromptSet]) -> tuple[PromptSet, ...]:
    return tuple({s.key: s for s in prompt_sets}.values())
