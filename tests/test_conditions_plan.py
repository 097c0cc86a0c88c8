"""What serving conditions ask of engines: manners of a target's own, and twins with other arguments."""

from __future__ import annotations

from dataclasses import replace

import scripted

from pytest_kvcache.conditions import SHIPPED
from pytest_kvcache.plan import Following, Request, Texts, make_plan

AGAIN, ALONE, CHUNKED = (SHIPPED[name] for name in ("again", "alone", "chunked"))
BASELINE = scripted.spec("auto")
FP8 = scripted.spec("fp8_e4m3")
SMALL = scripted.prompt_set("small")
OTHER = scripted.prompt_set("other", prompts=5)
PENALISED = scripted.prompt_set("penalised", repetition_penalty=1.1)
TARGET = scripted.target(FP8, BASELINE)


def test_a_targets_own_engine_follows_in_a_plain_batch_and_then_in_each_manner() -> None:
    baseline, own = make_plan([Request(TARGET, (SMALL,), conditions=(ALONE, AGAIN))]).jobs
    assert (baseline.spec, baseline.follow, baseline.generate) == (BASELINE, (), (SMALL,))
    texts = Texts(SMALL, BASELINE)
    assert own.follow == tuple(Following(texts, manner) for manner in ("batch", "alone", "again"))
    assert own.reads == (texts,)


def test_other_engine_arguments_need_a_twin_that_writes_nothing() -> None:
    _, own, twin = make_plan([Request(TARGET, (SMALL, OTHER), conditions=(CHUNKED,))]).jobs
    assert twin.label == "model-fp8_e4m3+chunked"
    assert twin.spec == replace(FP8, engine_args=CHUNKED.engine_args)
    assert (twin.generate, twin.score, twin.baseline) == ((), (), BASELINE)
    assert twin.follow == own.follow == tuple(Following(Texts(s, BASELINE), "batch") for s in (SMALL, OTHER))


def test_a_twins_arguments_stand_beside_the_targets_own_and_before_them() -> None:
    target = scripted.target(scripted.spec("fp8_e4m3", max_num_seqs=8, zeta=1), BASELINE)
    served = target.under(CHUNKED)
    assert served.spec.arguments() == {
        "enable_chunked_prefill": True,
        "max_num_batched_tokens": 64,
        "max_num_seqs": 64,
        "zeta": 1,
    }
    assert [name for name, _ in served.spec.engine_args] == sorted(served.spec.arguments())


def test_many_tests_of_one_condition_share_its_twin() -> None:
    requests = [Request(TARGET, (s,), conditions=(CHUNKED,)) for s in (SMALL, OTHER, SMALL)]
    assert [job.spec.engine_args for job in make_plan(requests).jobs] == [(), (), CHUNKED.engine_args]


def test_a_target_of_which_only_conditions_are_asked_writes_nothing() -> None:
    baseline, own = make_plan([Request(TARGET, (SMALL,), conditions=(AGAIN,), with_outputs=False)]).jobs
    assert (baseline.generate, own.generate) == ((SMALL,), ())
    assert own.reads == (Texts(SMALL, BASELINE),)


def test_texts_that_are_not_scored_are_not_followed() -> None:
    _, own = make_plan([Request(TARGET, (SMALL, PENALISED), conditions=(AGAIN,))]).jobs
    assert {each.texts.prompt_set.name for each in own.follow} == {"small"}


def test_a_run_without_conditions_follows_nothing() -> None:
    plan = make_plan([Request(TARGET, (SMALL,), with_scores=True)])
    assert [job.follow for job in plan.jobs] == [(), ()]


def test_a_goldens_texts_are_followed() -> None:
    golden = replace(BASELINE, golden="auto")
    request = Request(scripted.target(FP8, golden), (SMALL,), conditions=(AGAIN, CHUNKED))
    plan = make_plan([request])
    assert plan.goldens == (Texts(SMALL, golden),)
    assert [{each.texts.writer for each in job.follow} for job in plan.jobs] == [{golden}] * 2
