"""A session: runs a plan and answers for its outputs, scores and verdicts. It knows no pytest.

Many processes may run the same plan over one run store. Whoever needs an entry that is missing claims
an engine that nobody runs yet, preferably the one it needs, and runs that engine's whole job; so
waiting workers help each other, and no engine is started twice. Nobody waits for another's work while
holding a device, with one exception that cannot become a circle: what is waited for runs on a device of
its own, and will not need more. So a candidate waits for the texts of a running baseline, and an engine
that tests will ask for more is kept for them. Such an engine may be reserved: it runs only where they do.

A golden stands in for an engine that has run already: what it holds is copied into the run store, and is
from then on like what an engine of this run has written. So is what the generation cache has kept of an
engine: it is taken when the engine's job would begin, and where nothing is left to do no engine starts.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import TypeVar

from pytest_kvcache.cache import GenerationCache, no_cache
from pytest_kvcache.conditions import Condition
from pytest_kvcache.deciding import decide
from pytest_kvcache.dtypes import is_quantized
from pytest_kvcache.engines import Engine, EngineFactory
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.pool import EnginePool, Life, Notify
from pytest_kvcache.errors import EngineError, RequestError, UnfitError, UsageError
from pytest_kvcache.plan import EngineJob, Following, Plan, Request, Target, Texts, is_scored, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import (
    EngineSpec,
    Golden,
    Manner,
    OutputSet,
    PromptSet,
    Provenance,
    ScoreSet,
    Verdict,
    content_key,
)
from pytest_kvcache.remaining import is_done, unfollowed, ungenerated, unscored, without_floor
from pytest_kvcache.seeding import FindGolden, no_goldens, seed
from pytest_kvcache.store import RunStore
from pytest_kvcache.verdicts import Source, quantized_baseline

POLL_SECONDS = 0.2
_T = TypeVar("_T")


class Session:
    """Runs the engines of a plan, at most one alive at a time in this process.

    ``ahead`` says that no other process does, so that the next engine's may be started before its turn.
    """

    def __init__(
        self,
        plan: Plan,
        store: RunStore,
        start_engine: EngineFactory,
        devices: DevicePool,
        *,
        find_golden: FindGolden = no_goldens,
        cache: GenerationCache | None = None,
        notify: Notify = lambda *_: None,
        ahead: bool = False,
    ) -> None:
        self._plan = plan
        self._store = store
        self._find_golden = find_golden
        self._cache = cache or no_cache()
        self._attended: EngineSpec | None = None
        self._pool = EnginePool(start_engine, devices, notify=notify, on_end=store.put_report, ahead=ahead)

    def attend(self, target: Target) -> None:
        """Say whose tests this process runs now: it may start their engine though that is reserved."""
        self._attended = target.spec

    def outputs(self, target: Target, prompt_set: PromptSet) -> OutputSet:
        """Return the target's outputs for a whole prompt set, generating them if nobody has.

        Raises `EngineError` with the engine's own reason if it broke or refused the set.
        """
        self._include(Request(target, (prompt_set,)))
        return self._await(
            target, prompt_set, [target.spec], lambda: self._store.outputs(target.spec, prompt_set)
        )

    def scores(self, target: Target, prompt_set: PromptSet, *, text_of: EngineSpec | None = None) -> ScoreSet:
        """Return the target's scores of texts for a prompt set: its baseline's, or those of ``text_of``.

        That may be `Target.golden`, for what the target thinks of its own golden's texts. Raises
        `EngineError` if either engine broke or refused the set, or its golden holds no scores, and
        `UsageError` for a penalised set and for tasks: their texts are not scored.
        """
        _check_scored(prompt_set)
        writer = text_of or target.baseline
        of_golden = writer == target.golden
        self._include(Request(target, (prompt_set,), with_scores=not of_golden, with_golden=of_golden))
        return self._await(
            target,
            prompt_set,
            [target.spec, writer],
            lambda: self._store.scores(target.spec, prompt_set, writer),
        )

    def scores_under(self, target: Target, prompt_set: PromptSet, condition: Condition) -> ScoreSet:
        """Return the target's scores of its baseline's texts under a serving condition, by decoding.

        Raises as `scores` does, also where the twin that the condition needs broke.
        """
        _check_scored(prompt_set)
        self._include(Request(target, (prompt_set,), conditions=(condition,), with_outputs=False))
        served, writer, manner = target.under(condition), target.baseline, condition.manner
        return self._await(
            served,
            prompt_set,
            [served.spec, writer],
            lambda: self._store.followed(served.spec, prompt_set, writer, manner),
            manner,
        )

    def floor(self, target: Target, prompt_set: PromptSet) -> ScoreSet:
        """Return what the target's baseline gives some of its own texts one at a time: its noise floor.

        Raises as `scores` does.
        """
        baseline = target.of_baseline()
        self.scores(baseline, prompt_set)
        return self._await(
            baseline, prompt_set, [baseline.spec], lambda: self._store.floor(baseline.spec, prompt_set)
        )

    def golden(self, target: Target, prompt_set: PromptSet) -> Golden:
        """Return the target's own golden for a prompt set. Raises `EngineError` if there is none."""
        self._include(Request(target, (prompt_set,), with_golden=True))
        spec = target.golden
        outputs = self._await(target, prompt_set, [spec], lambda: self._store.outputs(spec, prompt_set))
        scores = self._store.scores(spec, prompt_set, spec)
        return Golden(spec.golden or "", outputs, scores, self._store.floor(spec, prompt_set))

    def check_resolved(self, target: Target, provenance: Provenance) -> None:
        """Raise `UnfitError` if what vLLM resolved is not what the target will be taken for.

        Verdicts check more; this is for tests without one.
        """
        resolved = provenance.kv_cache_dtype
        if target.is_baseline and provenance.kv_cache_quantized:
            raise UnfitError(quantized_baseline(target.id, target.spec, resolved))
        if is_quantized(target.spec.kv_cache_dtype) and not provenance.kv_cache_quantized:
            raise UnfitError(
                f"{target.id} asked for {target.spec.kv_cache_dtype} and vLLM resolved {resolved}: "
                "it tests nothing"
            )

    def verdict(
        self,
        target: Target,
        prompt_sets: Sequence[PromptSet],
        policy: Policy,
        today: date,
        *,
        test: str | None = None,
    ) -> Verdict:
        """Decide about one candidate from whole prompt sets, and keep the verdict in the run store.

        ``test`` is the function that asks, which the policy may declare known-bad by its name.
        An engine that broke makes a verdict too, a red one; nothing is raised for it.
        """
        self._include(Request(target, tuple(prompt_sets), with_scores=True))
        verdict, excerpts = decide(self, target, prompt_sets, policy, today, test=test)
        engines = [target.spec.key, target.baseline.key]
        self._store.put_verdict(verdict, excerpts, key=content_key([engines, *(s.key for s in prompt_sets)]))
        return verdict

    def source(self, target: Target, prompt_sets: Sequence[PromptSet]) -> Source:
        """Return where the outputs of the target and of its baseline have come from."""
        if target.baseline.golden is not None:
            return "golden"
        engines = (target.spec, target.baseline)
        cached = any(self._store.is_cached(spec, s) for spec in engines for s in prompt_sets)
        return "cached" if cached else "fresh"

    def live(self, target: Target) -> Engine:
        """Return the target's started engine, for work that no plan foresaw. `release` ends it.

        All that is planned for it is done first, so that it need not start again for that.
        """
        self._include(Request(target, (), ad_hoc=True))
        while not is_done(self._job(target), self._store):
            self._help_or_wait(self._job(target))
        failure = self._store.failure(target.spec)
        if failure is not None:
            raise EngineError(failure)
        return self._start(self._job(target), following=None).engine

    def provenance(self, target: Target) -> Provenance:
        """Return what the target's engine resolved, starting it unless it has run already."""
        known = (self._store.outputs(target.spec, s) for s in self._job(target).generate)
        entry = next((entry for entry in known if entry is not None), None)
        return entry.provenance if entry else self.live(target).provenance

    def release(self) -> None:
        """End the engine that is alive in this process, if any, and free its device."""
        self._pool.release()

    def close(self) -> None:
        """End all that this session has started."""
        self._pool.close()

    def _include(self, request: Request) -> None:
        """Make sure that the plan knows what is asked for, also where no test declared it."""
        self._plan = self._plan.extended(make_plan([request]))
        for texts in self._plan.goldens:
            seed(self._store, texts, self._find_golden)

    def _job(self, target: Target) -> EngineJob:
        job = self._plan.job(target.spec)
        assert job is not None, "everything that is asked for is planned first"
        return job

    # How entries come to be

    def _await(
        self,
        target: Target,
        prompt_set: PromptSet,
        needs: Sequence[EngineSpec],
        read: Callable[[], _T | None],
        manner: Manner | None = None,
    ) -> _T:
        while (entry := read()) is None:
            for spec in needs:
                failure = self._store.failure(spec, prompt_set, manner if spec == target.spec else None)
                if failure is not None:
                    raise EngineError(failure)
            if target.spec.golden is not None:
                raise EngineError(
                    f"the golden of {prompt_set.name} for {target.id} holds no log-probabilities, so nothing "
                    "can be compared with it: write it with them, by --kv-golden-update=all"
                )
            self._help_or_wait(self._job(target))
        return entry

    def _help_or_wait(self, wanted: EngineJob) -> None:
        """Bring the wanted job nearer to its end, holding no device that others may need for it."""
        if not self._help(wanted):
            if not self._store.is_running(wanted.spec):
                self.release()
            time.sleep(POLL_SECONDS)

    def _help(self, wanted: EngineJob) -> bool:
        """Run one unfinished job that nobody runs, the most wanted first; False if there is none."""
        is_running = functools.cache(self._store.is_running)  # asked once, so that no job overtakes another
        jobs = sorted(self._plan.jobs, key=lambda job: (job.spec != wanted.spec, job.spec != wanted.baseline))
        for job in jobs:
            if is_done(job, self._store) or not self._may_start(job, is_running) or self._is_elsewhere(job):
                continue
            with self._store.claim(job.spec) as ours:
                if ours and not is_done(job, self._store):
                    self._cache.take(self._store, job)
                    if not is_done(job, self._store):
                        self._run(job, self._after(job, jobs))
                    self._note_preemptions(job)
                    return True
        return False

    def _may_start(self, job: EngineJob, is_running: Callable[[EngineSpec], bool]) -> bool:
        """Whether all that the job scores is written, or being written by a running baseline."""
        awaited = {texts.writer for texts in job.reads if self._is_awaited(job, texts)}
        return all(map(is_running, awaited))

    def _is_elsewhere(self, job: EngineJob) -> bool:
        """Whether the job is another worker's, because tests there will go on with its engine."""
        return job.spec != self._attended and self._store.is_reserved(job.spec)

    def _is_awaited(self, job: EngineJob, texts: Texts) -> bool:
        """Whether another engine has still to write texts that the job scores."""
        return (
            job.spec != texts.writer
            and not self._store.has_outputs(texts.writer, texts.prompt_set)
            and self._store.failure(texts.writer, texts.prompt_set) is None
        )

    def _after(self, job: EngineJob, jobs: Sequence[EngineJob]) -> EngineSpec | None:
        """Return whose turn it probably is after a job's: what is kept of an engine may yet spare it."""
        later = (other for other in jobs if other.spec != job.spec and not is_done(other, self._store))
        return next((other.spec for other in later), None)

    def _run(self, job: EngineJob, following: EngineSpec | None) -> None:
        """Run a claimed job to its end, or keep the reason why it could not be."""
        try:
            life = self._start(job, following)
            self._generate(job, life)
            self._score(job, life)
            self._follow(job, life)
            self._cache.keep(self._store, job, life.engine.provenance)
        except EngineError as error:
            self._store.put_failure(job.spec, str(error))
            self._pool.release(str(error))
        if not job.keep_alive:
            self.release()

    def _generate(self, job: EngineJob, life: Life) -> None:
        for prompt_set in ungenerated(job, self._store):
            with self._refusal_kept(job, prompt_set):
                self._store.put_outputs(life.generate(prompt_set))

    def _score(self, job: EngineJob, life: Life) -> None:
        for texts in unscored(job, self._store):
            written = self._written(texts)
            if written is not None:
                with self._refusal_kept(job, texts.prompt_set):
                    self._store.put_scores(life.score(written))
        for prompt_set in without_floor(job, self._store):
            own = self._store.outputs(job.spec, prompt_set)
            assert own is not None, "it scores what it has written"
            with self._refusal_kept(job, prompt_set):
                self._store.put_floor(life.score_alone(own))

    def _follow(self, job: EngineJob, life: Life) -> None:
        before: Following | None = None
        for following in unfollowed(job, self._store):
            written = self._written(following.texts)
            if written is not None:
                warm = before == Following(following.texts, "batch")
                with self._refusal_kept(job, following.texts.prompt_set, following.manner):
                    self._store.put_followed(life.follow(written, following.manner, warm=warm))
                    before = following

    def _note_preemptions(self, job: EngineJob) -> None:
        """Say where the cache had no room for all outputs of a set at once, whichever run wrote them."""
        for outputs in filter(None, (self._store.outputs(job.spec, s) for s in job.generate)):
            if preemptions := outputs.counts.preemptions:
                name = outputs.prompt_set.name
                self._store.put_note(
                    f"{job.label} preempted {preemptions} times while it wrote {name}: its kv cache has no "
                    "room for the whole set at once, which may change outputs; give it more memory"
                )

    @contextmanager
    def _refusal_kept(
        self, job: EngineJob, prompt_set: PromptSet, manner: Manner | None = None
    ) -> Iterator[None]:
        """Keep a refusal for its set alone: the engine lives, and other tests' sets may do."""
        try:
            yield
        except RequestError as error:
            self._store.put_failure(job.spec, str(error), prompt_set, manner)

    def _start(self, job: EngineJob, following: EngineSpec | None) -> Life:
        return self._pool.get(
            job.label,
            job.spec,
            self._store.log(job.spec),
            on_device=lambda: self._store.mark_running(job.spec),
            following=(following, self._store.log(following)) if following else None,
        )

    def _written(self, texts: Texts) -> OutputSet | None:
        """Return texts to score, waiting while their engine runs elsewhere; None if it ended without."""
        writer, prompt_set = texts.writer, texts.prompt_set
        while self._store.is_running(writer) and not self._store.has_outputs(writer, prompt_set):
            time.sleep(POLL_SECONDS)
        written = self._store.outputs(writer, prompt_set)
        return written and replace(written, spec=writer)


def _check_scored(prompt_set: PromptSet) -> None:
    if not is_scored(prompt_set):
        why = "holds tasks" if prompt_set.is_tasks else "is sampled under penalties"
        raise UsageError(f"{prompt_set.name} {why}, and such texts are not scored")
