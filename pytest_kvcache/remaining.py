"""Remaining: what of a job the run store does not hold yet, but for what will never be."""

from __future__ import annotations

from pytest_kvcache.plan import EngineJob, Following, Texts
from pytest_kvcache.records import PromptSet
from pytest_kvcache.store import RunStore


def is_done(job: EngineJob, store: RunStore) -> bool:
    work = (ungenerated, unscored, without_floor, unfollowed)
    return not any(remaining(job, store) for remaining in work)


def ungenerated(job: EngineJob, store: RunStore) -> list[PromptSet]:
    return [
        s for s in job.generate if store.failure(job.spec, s) is None and not store.has_outputs(job.spec, s)
    ]


def unscored(job: EngineJob, store: RunStore) -> list[Texts]:
    return [
        texts
        for texts in job.score
        if store.failure(job.spec, texts.prompt_set) is None
        and store.failure(texts.writer, texts.prompt_set) is None
        and not store.has_scores(job.spec, texts.prompt_set, texts.writer)
    ]


def without_floor(job: EngineJob, store: RunStore) -> list[PromptSet]:
    """Return the sets for which the job has still to score some of its own texts one at a time."""
    return [
        texts.prompt_set
        for texts in job.score
        if texts.writer == job.spec
        and store.failure(job.spec, texts.prompt_set) is None
        and not store.has_floor(job.spec, texts.prompt_set)
    ]


def unfollowed(job: EngineJob, store: RunStore) -> list[Following]:
    return [
        each
        for each in job.follow
        if store.failure(job.spec, each.texts.prompt_set, each.manner) is None
        and store.failure(each.texts.writer, each.texts.prompt_set) is None
        and not store.has_followed(job.spec, each.texts.prompt_set, each.texts.writer, each.manner)
    ]
