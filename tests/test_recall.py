"""Tasks: answers that the candidate alone gets wrong fail an assertion and a verdict, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from plugin_project import results
from verdict_samples import PENALISED, PROVENANCE, QUANTIZED, evidence, output_set, prompt_set, verdict_on

import pytest_kvcache as kv
from pytest_kvcache.endpoints import _KINDS, VERDICT_CODES
from pytest_kvcache.errors import UsageError
from pytest_kvcache.evidence import Evidence
from pytest_kvcache.records import OutputSet, PlannedOutputs, Prompt, PromptSet, ReasonCode, VerdictKind

N = 24
TASKS = PromptSet("tasks", tuple(Prompt(f"t{i:02}", "sum", text=f"{i} is", answer=str(i)) for i in range(N)))


def answers(right: Callable[[int], bool] = lambda _: True, prompts: PromptSet = TASKS) -> OutputSet:
    return output_set(prompts, QUANTIZED, lambda i: f"{i}." if right(i) else "no idea")


def failure(*args: OutputSet | PlannedOutputs, **limits: Any) -> kv.QualityError:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_recall(*args, **limits)
    assert caught.value.codes == (ReasonCode.RECALL,)
    return caught.value


# The assertion


def test_as_many_right_answers_as_the_baseline_pass_whoever_gives_them() -> None:
    kv.assert_recall(answers(), answers())
    kv.assert_recall(answers(lambda i: i % 2 == 0), answers(lambda i: i % 2 == 1))


@pytest.mark.parametrize("known", range(N + 1))
def test_a_baseline_that_knows_six_of_24_cannot_show_a_loss_and_passes_nobody(known: int) -> None:
    both = answers(lambda i: i < known)
    if known < 7:
        with pytest.raises(kv.QualityError, match="not even the loss of all would be proven") as caught:
            kv.assert_recall(both, both)
        assert caught.value.codes == (ReasonCode.TOO_LITTLE_EVIDENCE,)
        kv.assert_recall(both, both, share=known / N)
    else:
        kv.assert_recall(both, both)


@pytest.mark.parametrize("lost", range(N + 1))
def test_seven_of_24_answers_lost_are_proof(lost: int) -> None:
    ours = answers(lambda i: i >= lost)
    if lost < 7:
        kv.assert_recall(ours, answers())
    else:
        failure(ours, answers())


def test_a_larger_margin_forgives_more() -> None:
    ours = answers(lambda i: i >= 8)
    failure(ours, answers())
    kv.assert_recall(ours, answers(), loss=0.2)


def test_the_message_counts_and_names_what_was_lost_and_shows_three() -> None:
    message = str(failure(answers(lambda i: i >= 12), answers(lambda i: i != 20)))
    lines = message.splitlines()
    assert lines[0].startswith("12 of 24 answers are right, the baseline's 23: a loss of 0.46 [0.")
    assert lines[0].endswith("beyond the margin 0.10")
    assert lines[1] == "lost: " + ", ".join(f"t{i:02}" for i in range(12))
    assert lines[2:] == [f'  t0{i}: "no idea" for "{i}"' for i in range(3)]


def test_the_message_says_which_kinds_of_task_lost_how_many() -> None:
    kinds = TASKS.prompts[:12] + tuple(replace(each, kind="needle-2000") for each in TASKS.prompts[12:])
    mixed = replace(TASKS, prompts=kinds)
    ours, theirs = answers(lambda i: i < 13, mixed), answers(lambda i: i != 20, mixed)
    line = "by kind: sum 12 of 12{}, needle-2000 1 of 12{}"
    assert str(failure(ours, theirs)).splitlines()[1] == line.format(" (baseline 12)", " (baseline 11)")
    assert str(failure(ours, share=0.9)).splitlines()[1] == line.format("", "")


def test_no_model_text_reaches_a_terminal_as_it_is() -> None:
    hostile = output_set(TASKS, QUANTIZED, lambda _: "\x1b[31m\n::error::" * 100)
    message = str(failure(hostile, answers()))
    assert "\x1b" not in message
    assert "\n::error" not in message
    assert max(map(len, message.splitlines())) < 200


def test_without_a_baseline_a_plain_share_is_the_limit() -> None:
    half = answers(lambda i: i % 2 == 0)
    kv.assert_recall(half, share=0.5)
    message = str(failure(half, share=0.51))
    assert message.startswith("12 of 24 answers are right, less than a share of 0.51\nwrong: t01, t03")


def test_a_share_holds_beside_a_baseline_too() -> None:
    bad = answers(lambda _: False)
    kv.assert_recall(bad, bad, share=0.0)
    failure(bad, bad, share=0.1)


def test_of_planned_outputs_only_tasks_count() -> None:
    prose_set = output_set(prompt_set(4), QUANTIZED)
    kv.assert_recall(PlannedOutputs((prose_set, answers())), PlannedOutputs((prose_set, answers())))
    failure(PlannedOutputs((prose_set, answers(lambda _: False))), PlannedOutputs((prose_set, answers())))


ONE = PromptSet("one", TASKS.prompts[:1])
MISUSE = {
    "no answers": (
        (output_set(prompt_set(4), QUANTIZED),),
        {"share": 0.5},
        "the prompts of small have no answ",
    ),
    "nothing to hold it against": ((answers(),), {}, "give the baseline's outputs, or the share"),
    "other prompts": ((answers(), answers(prompts=ONE)), {}, "not of the same prompts"),
    "one task": ((answers(prompts=ONE), answers(prompts=ONE)), {}, "at least two outputs"),
    "negative margin": ((answers(), answers()), {"loss": -0.1}, "the margin loss must be"),
    "no number": ((answers(),), {"share": float("nan")}, "the margin share must be"),
}


@pytest.mark.parametrize(("args", "limits", "problem"), MISUSE.values(), ids=MISUSE.keys())
def test_misuse_is_one_line(args: tuple[OutputSet, ...], limits: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        kv.assert_recall(*args, **limits)
    assert "\n" not in str(caught.value)


# The verdict


def tasks(
    right: Callable[[int], bool] = lambda _: True, baseline_right: Callable[[int], bool] = lambda _: True
) -> Evidence:
    theirs = output_set(TASKS, PROVENANCE, lambda i: f"{i}." if baseline_right(i) else "no idea")
    return Evidence(TASKS, theirs, answers(right))


def test_lost_answers_fail_a_verdict_although_every_score_is_fine() -> None:
    verdict = verdict_on(evidence(), tasks(lambda i: i >= 12))
    assert verdict.verdict is VerdictKind.FAIL
    assert [(reason.code, reason.metric) for reason in verdict.reasons] == [
        (ReasonCode.RECALL, "recall_loss")
    ]
    assert verdict.metrics["recall_loss"].value == 0.5
    assert verdict.metrics["recall_candidate"].value == 0.5
    assert verdict.metrics["recall_baseline"].value == 1.0


def test_answers_that_the_baseline_does_not_know_either_hold_nothing_up() -> None:
    assert verdict_on(evidence(), tasks(lambda i: i > 12, lambda i: i > 12)).verdict is VerdictKind.PASS


@pytest.mark.parametrize(("right", "kind"), [(5, VerdictKind.FAIL), (6, VerdictKind.INCONCLUSIVE)])
def test_a_baseline_is_red_below_a_quarter_of_the_answers_and_too_little_at_it(
    right: int, kind: VerdictKind
) -> None:
    verdict = verdict_on(evidence(), tasks(lambda i: i < right, lambda i: i < right))
    assert verdict.verdict is kind
    found = verdict.metrics["baseline_recall"]
    assert (found.value, found.margin, found.n) == (right / 24, 0.25, 24)
    if kind is VerdictKind.FAIL:
        assert [(reason.code, reason.metric) for reason in verdict.reasons] == [
            (ReasonCode.BASELINE_DEGENERATE, "baseline_recall")
        ]
        assert "below the margin 0.250 (n = 24)" in verdict.summary


@pytest.mark.parametrize("known", [6, 7])
def test_a_verdict_passes_only_where_the_loss_of_all_that_the_baseline_knew_would_be_seen(known: int) -> None:
    both = tasks(lambda i: i < known, lambda i: i < known)
    all_lost = tasks(lambda _: False, lambda i: i < known)
    if known == 7:
        assert verdict_on(evidence(), both).verdict is VerdictKind.PASS
        assert not verdict_on(evidence(), all_lost).ok
    else:
        for each in (both, all_lost):
            verdict = verdict_on(evidence(), each)
            assert verdict.verdict is VerdictKind.INCONCLUSIVE
            assert [(reason.code, reason.metric) for reason in verdict.reasons] == [
                (ReasonCode.TOO_LITTLE_EVIDENCE, "recall_loss")
            ]
            assert "not even the loss of all is proof beyond the margin 0.100" in verdict.summary


def test_a_candidate_that_answers_what_its_baseline_does_not_know_needs_no_fewer_tasks() -> None:
    better = tasks(lambda _: True, lambda i: i < 6)
    assert verdict_on(evidence(), better).verdict is VerdictKind.INCONCLUSIVE


def test_a_team_may_ask_for_more_or_less_of_its_baseline() -> None:
    none = tasks(lambda _: False, lambda _: False)
    assert verdict_on(evidence(), none, baseline_recall=0.0).ok
    assert not verdict_on(evidence(), tasks(lambda i: i > 0, lambda i: i > 0), baseline_recall=1.0).ok


def test_a_set_without_answers_has_no_figure_of_recall() -> None:
    assert not {name for name in verdict_on(evidence()).metrics if "recall" in name}


def test_short_wrong_and_empty_answers_are_no_faults_of_another_kind() -> None:
    silent = replace(tasks(), candidate=output_set(TASKS, QUANTIZED, lambda _: ""))
    verdict = verdict_on(evidence(), silent)
    assert {reason.code for reason in verdict.reasons} == {ReasonCode.RECALL}
    assert verdict.metrics["empty_excess"].n == len(evidence().candidate)


def test_the_codes_that_verdicts_give_are_those_of_their_endpoints() -> None:
    everything = verdict_on(evidence(), evidence(prompt_set(sampling=PENALISED)), tasks())
    endpoints = set(_KINDS) & set(everything.metrics)
    assert {_KINDS[name].code for name in endpoints} == VERDICT_CODES


def test_answers_alone_are_too_little_for_a_pass() -> None:
    verdict = verdict_on(tasks())
    assert [reason.code for reason in verdict.reasons] == [ReasonCode.TOO_LITTLE_EVIDENCE]


# Through the plugin


def test_a_verdict_with_tasks_says_that_recall_is_lost(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.kv_sensitive(prompts=["smoke", "smoke-tasks"])
        def test_verdict(kv_verdict):
            pass
        """
    )
    args = ("--kv-engine-arg=script=knows", "--kv-engine-arg=candidate_script=healthy")
    project.runpytest("--kv-dtypes=fp8", "--kv-models=scripted/model", *args).assert_outcomes(failed=1)
    (verdict,) = results(project)["verdicts"]
    assert [reason["code"] for reason in verdict["reasons"]] == ["recall-lost"]
    assert verdict["metrics"]["recall_loss"]["n"] == 24
