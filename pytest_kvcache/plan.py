"""The plan: which engines a run needs, in which order, and what each of them is asked for.

A *target* is one model under one kv dtype (or variant): what tests are parametrised over. A *request*
is what one test needs of its target. The plan groups all requests by engine, so that every engine is
started once and every prompt set goes through it whole, once, however many tests look at it.

Candidates score the baseline's own fresh texts, so the baseline comes first. A golden has run already: it
is read, gets no job, and its texts are there from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_kvcache.conditions import BATCH, Condition
from pytest_kvcache.errors import UsageError
from pytest_kvcache.records import EngineSpec, Manner, PromptSet


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
    def label(self) -> str:
        """As the user names it beside its model, and the policy declares it: its variant or kv dtype."""
        return self.variant or self.kv_dtype

    @property
    def is_baseline(self) -> bool:
        return self.spec == self.baseline

    @property
    def golden(self) -> EngineSpec:
        """The engine of this target's own goldens: it wrote them once, and is never started."""
        return replace(self.spec, golden=self.variant or self.spec.kv_cache_dtype)

    def of_baseline(self) -> Target:
        """Return the target of this one's baseline."""
        dtype = self.baseline.kv_cache_dtype
        return replace(self, id=self.baseline_id, spec=self.baseline, kv_dtype=dtype, variant=None)

    def under(self, condition: Condition) -> Target:
        """Return this target as it is served under a condition: itself, or its twin."""
        if not condition.engine_args:
            return self
        return replace(self, id=f"{self.id}+{condition.name}", spec=twin(self.spec, condition))


def twin(spec: EngineSpec, condition: Condition) -> EngineSpec:
    """Return an engine with a condition's arguments; those that the condition gives no value are left out."""
    arguments = dict(spec.engine_args) | dict(condition.engine_args)
    left = {name for name, value in condition.engine_args if value == "null"}
    given = sorted((name, value) for name, value in arguments.items() if name not in left)
    return replace(spec, engine_args=tuple(given))


@dataclass(frozen=True, slots=True)
class Request:
    """What one test needs of its target."""

    target: Target
    prompt_sets: tuple[PromptSet, ...]
    with_outputs: bool = True
    """Needs the target's own outputs."""
    with_baseline: bool = False
    """Needs the baseline's outputs for the same prompts."""
    with_scores: bool = False
    """Needs the scores of the baseline's texts by both engines; implies the baseline's outputs."""
    with_golden: bool = False
    """Needs the target's own goldens, and its engine's scores of their texts."""
    conditions: tuple[Condition, ...] = ()
    """Needs what the target gives the baseline's texts under each of these, and in a plain batch; implies
    the baseline's outputs."""
    ad_hoc: bool = False
    """May ask the engine for more than is declared."""

    @property
    def sides(self) -> tuple[Target, ...]:
        """Whose engines it needs: the baseline's, where it compares with that, and then the target's."""
        if self.is_paired and not self.target.is_baseline:
            return (self.target.of_baseline(), self.target)
        return (self.target,)

    @property
    def is_paired(self) -> bool:
        return self.with_baseline or self.with_scores or bool(self.conditions)

    @property
    def goldens_read(self) -> tuple[EngineSpec, ...]:
        """Whose goldens it reads."""
        writers = [side.spec for side in self.sides if side.spec.golden is not None]
        own = [self.target.golden] if self.with_golden else []
        return tuple(dict.fromkeys(writers + own))

    @property
    def goldens(self) -> tuple[EngineSpec, ...]:
        """Whose goldens it reads, or would read if its baseline were a golden."""
        baseline = [self.target.of_baseline().golden] if self.is_paired else []
        own = [self.target.golden] if self.with_golden else []
        return tuple(dict.fromkeys(baseline + own))


@dataclass(frozen=True, slots=True)
class Texts:
    """What one engine wrote for a prompt set, as something to be scored."""

    prompt_set: PromptSet
    writer: EngineSpec


@dataclass(frozen=True, slots=True)
class Following:
    """Texts to be scored by decoding along them, under one serving condition."""

    texts: Texts
    manner: Manner


@dataclass(frozen=True, slots=True)
class EngineJob:
    """Everything one engine is asked for in its one life."""

    label: str
    spec: EngineSpec
    baseline: EngineSpec
    """The engine it is held against; `spec` itself in a baseline's job."""
    generate: tuple[PromptSet, ...]
    score: tuple[Texts, ...]
    """Its baseline's texts, its own if it is one, and its goldens' where a test asks for them."""
    follow: tuple[Following, ...] = ()
    """Its baseline's texts again, where a test asks for serving conditions."""
    keep_alive: bool = False
    """Stay started when the declared work is done: a test may ask for more."""

    def merged(self, other: EngineJob) -> EngineJob:
        """Return one job with the work of both."""
        return replace(
            self,
            generate=_distinct((*self.generate, *other.generate)),
            score=_distinct_texts((*self.score, *other.score)),
            follow=_distinct_followings((*self.follow, *other.follow)),
            keep_alive=self.keep_alive or other.keep_alive,
        )

    @property
    def reads(self) -> tuple[Texts, ...]:
        """The texts that it needs."""
        return _distinct_texts((*self.score, *(each.texts for each in self.follow)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs of a run, baselines before their candidates, in the order tests asked for them."""

    jobs: tuple[EngineJob, ...]
    goldens: tuple[Texts, ...] = ()
    """What is read from goldens."""

    def job(self, spec: EngineSpec) -> EngineJob | None:
        return next((job for job in self.jobs if job.spec == spec), None)

    def extended(self, other: Plan) -> Plan:
        """Return this plan with another's jobs merged in, the known engines first."""
        merged = {job.spec: job for job in self.jobs}
        for job in other.jobs:
            known = merged.get(job.spec)
            merged[job.spec] = job if known is None else known.merged(job)
        return Plan(tuple(merged.values()), _distinct_texts((*self.goldens, *other.goldens)))


def make_plan(requests: Sequence[Request]) -> Plan:
    """Group requests by engine. The result depends only on the requests and their order."""
    plan = Plan(())
    for request in requests:
        asked = (*_jobs_of(request), *_jobs_of_twins(request))
        plan = plan.extended(Plan(asked, _goldens_of(request)))
    models = list(dict.fromkeys(job.spec.model for job in plan.jobs))
    jobs = sorted(plan.jobs, key=lambda job: (models.index(job.spec.model), job.spec != job.baseline))
    return replace(plan, jobs=tuple(jobs))


def _jobs_of(request: Request) -> tuple[EngineJob, ...]:
    """Return what one request alone asks of the engines it concerns, the baseline first."""
    target = request.target
    scored = tuple(filter(is_scored, request.prompt_sets))
    of_baseline = tuple(Texts(s, target.baseline) for s in scored if request.with_scores)
    of_golden = tuple(Texts(s, target.golden) for s in scored if request.with_golden)
    return tuple(
        EngineJob(
            label=side.baseline_id if side.is_baseline else side.id,
            spec=side.spec,
            baseline=side.baseline,
            generate=_distinct(request.prompt_sets) if request.with_outputs or side.is_baseline else (),
            score=_distinct_texts(of_baseline + of_golden if side == target else of_baseline),
            follow=_followings(request, target) if side == target else (),
            keep_alive=request.ad_hoc and side == target,
        )
        for side in request.sides
        if side.spec.golden is None
    )


def _jobs_of_twins(request: Request) -> tuple[EngineJob, ...]:
    twins = [request.target.under(condition) for condition in request.conditions]
    return tuple(
        EngineJob(twin.id, twin.spec, twin.baseline, generate=(), score=(), follow=_followings(request, twin))
        for twin in twins
        if twin.spec != request.target.spec
    )


def _followings(request: Request, served: Target) -> tuple[Following, ...]:
    """Return what an engine follows: the target's own, or a twin's."""
    manners = [
        condition.manner
        for condition in ((BATCH, *request.conditions) if request.conditions else ())
        if request.target.under(condition).spec == served.spec
    ]
    scored = filter(is_scored, request.prompt_sets)
    texts = [Texts(prompt_set, served.baseline) for prompt_set in scored]
    return _distinct_followings([Following(each, manner) for each in texts for manner in manners])


def _goldens_of(request: Request) -> tuple[Texts, ...]:
    return _distinct_texts([Texts(s, writer) for writer in request.goldens_read for s in request.prompt_sets])


def is_scored(prompt_set: PromptSet) -> bool:
    """Whether texts of this set are scored.

    A penalised text is not the model's own distribution, and the few words of an answer say whether it
    is right, not how a longer text would fare.
    """
    return not (prompt_set.sampling.penalised or prompt_set.is_tasks)


def scored_sets(prompt_sets: Sequence[PromptSet], wanted_for: str) -> tuple[PromptSet, ...]:
    """Return the sets whose texts are scored. Raises `UsageError` if none is."""
    scored = tuple(filter(is_scored, prompt_sets))
    if not scored:
        names = ", ".join(prompt_set.name for prompt_set in prompt_sets)
        raise UsageError(
            f"{names}: tasks and penalised sets are not scored; declare another set for {wanted_for}"
        )
    return scored


def _distinct(prompt_sets: Sequence[PromptSet]) -> tuple[PromptSet, ...]:
    return tuple({s.key: s for s in prompt_sets}.values())


def _distinct_texts(texts: Sequence[Texts]) -> tuple[Texts, ...]:
    return tuple({(each.writer, each.prompt_set.key): each for each in texts}.values())


def _distinct_followings(followings: Sequence[Following]) -> tuple[Following, ...]:
    keys = {(each.texts.writer, each.texts.prompt_set.key, each.manner): each for each in followings}
    return tuple(keys.values())
