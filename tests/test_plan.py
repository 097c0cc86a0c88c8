"""The plan: every engine once, every prompt set once, baselines first."""

from __future__ import annotations

from dataclasses import replace

import scripted

from pytest_kvcache.plan import Request, Texts, make_plan
from pytest_kvcache.records import Prompt, PromptSet

BASELINE = scripted.spec("auto")
FP8 = scripted.spec("fp8_e4m3")
E5M2 = scripted.spec("fp8_e5m2")
SMALL = scripted.prompt_set("small")
OTHER = scripted.prompt_set("other", prompts=5)
PENALISED = scripted.prompt_set("penalised", repetition_penalty=1.1)


def test_many_tests_of_one_set_are_one_batch() -> None:
    request = Request(scripted.target(FP8, BASELINE), (SMALL,))
    plan = make_plan([request] * 10)
    assert [(job.spec, job.generate) for job in plan.jobs] == [(FP8, (SMALL,))]


def test_equal_sets_under_two_names_are_one_batch() -> None:
    target = scripted.target(FP8, BASELINE)
    twin = scripted.prompt_set("twin")
    plan = make_plan([Request(target, (SMALL,)), Request(target, (twin, OTHER))])
    assert [s.key for s in plan.jobs[0].generate] == [SMALL.key, OTHER.key]


def test_a_candidate_alone_needs_no_baseline() -> None:
    assert [job.spec for job in make_plan([Request(scripted.target(FP8, BASELINE), (SMALL,))]).jobs] == [FP8]


def test_a_verdict_brings_the_baseline_in_and_first() -> None:
    targets = [scripted.target(E5M2, BASELINE), scripted.target(FP8, BASELINE)]
    plan = make_plan([Request(t, (SMALL, PENALISED), with_scores=True) for t in targets])
    assert [job.spec for job in plan.jobs] == [BASELINE, E5M2, FP8]
    assert all(job.generate == (SMALL, PENALISED) for job in plan.jobs)


def test_penalised_texts_are_not_scored() -> None:
    plan = make_plan([Request(scripted.target(FP8, BASELINE), (SMALL, PENALISED), with_scores=True)])
    assert [job.score for job in plan.jobs] == [(Texts(SMALL, BASELINE),)] * 2


def test_answers_are_not_scored() -> None:
    tasks = PromptSet("tasks", (Prompt("p", "sum", text="1 + 1 =", answer="2"),))
    plan = make_plan([Request(scripted.target(FP8, BASELINE), (SMALL, tasks), with_scores=True)])
    assert [job.score for job in plan.jobs] == [(Texts(SMALL, BASELINE),)] * 2
    assert [job.generate for job in plan.jobs] == [(SMALL, tasks), (SMALL, tasks)]


def test_models_stay_together() -> None:
    pairs = [(scripted.spec("fp8_e4m3", m), scripted.spec("auto", m)) for m in ("a/a", "b/b")]
    plan = make_plan([Request(scripted.target(c, b), (SMALL,), with_scores=True) for c, b in pairs])
    assert [(job.spec.model, job.spec.kv_cache_dtype) for job in plan.jobs] == [
        ("a/a", "auto"),
        ("a/a", "fp8_e4m3"),
        ("b/b", "auto"),
        ("b/b", "fp8_e4m3"),
    ]


def test_an_engine_stays_up_only_where_a_test_may_ask_for_more() -> None:
    target = scripted.target(FP8, BASELINE)
    assert not make_plan([Request(target, (SMALL,))]).jobs[0].keep_alive
    assert make_plan([Request(target, (SMALL,)), Request(target, (), ad_hoc=True)]).jobs[0].keep_alive


def test_late_requests_join_the_known_engines() -> None:
    target = scripted.target(FP8, BASELINE)
    plan = make_plan([Request(target, (SMALL,), with_scores=True)])
    extended = plan.extended(make_plan([Request(target, (OTHER,))]))
    assert [job.spec for job in extended.jobs] == [BASELINE, FP8]
    assert extended.jobs[1].generate == (SMALL, OTHER)


class TestGoldens:
    """A golden has run already."""

    BASELINE = replace(BASELINE, golden="auto")

    def test_a_golden_baseline_gets_no_job_and_its_texts_are_scored(self) -> None:
        plan = make_plan([Request(scripted.target(FP8, self.BASELINE), (SMALL, PENALISED), with_scores=True)])
        assert [(job.spec, job.score) for job in plan.jobs] == [(FP8, (Texts(SMALL, self.BASELINE),))]
        assert plan.goldens == (Texts(SMALL, self.BASELINE), Texts(PENALISED, self.BASELINE))

    def test_a_baselines_outputs_alone_are_read_too(self) -> None:
        plan = make_plan([Request(scripted.target(FP8, self.BASELINE), (SMALL,), with_baseline=True)])
        assert plan.goldens == (Texts(SMALL, self.BASELINE),)
        assert [job.score for job in plan.jobs] == [()]

    def test_a_targets_own_golden_is_scored_by_that_target_alone(self) -> None:
        target = scripted.target(FP8, BASELINE)
        assert target.golden == replace(FP8, golden="fp8_e4m3")
        plan = make_plan([Request(target, (SMALL, PENALISED), with_scores=True, with_golden=True)])
        assert [job.score for job in plan.jobs] == [
            (Texts(SMALL, BASELINE),),
            (Texts(SMALL, BASELINE), Texts(SMALL, target.golden)),
        ]
        assert plan.goldens == (Texts(SMALL, target.golden), Texts(PENALISED, target.golden))

    def test_a_variants_golden_goes_by_its_name(self) -> None:
        target = replace(scripted.target(FP8, BASELINE), variant="careful")
        assert target.golden == replace(FP8, golden="careful")
        assert target.of_baseline().golden == self.BASELINE

    def test_a_request_names_the_goldens_that_could_answer_it(self) -> None:
        target = scripted.target(FP8, BASELINE)
        assert Request(target, (SMALL,)).goldens == ()
        assert Request(target, (SMALL,), with_scores=True).goldens == (self.BASELINE,)
        both = Request(target, (SMALL,), with_baseline=True, with_golden=True)
        assert both.goldens == (self.BASELINE, target.golden)

    def test_late_requests_add_to_what_is_read(self) -> None:
        target = scripted.target(FP8, self.BASELINE)
        plan = make_plan([Request(target, (SMALL,), with_scores=True)])
        extended = plan.extended(make_plan([Request(target, (SMALL, OTHER), with_scores=True)]))
        assert extended.goldens == (Texts(SMALL, self.BASELINE), Texts(OTHER, self.BASELINE))
