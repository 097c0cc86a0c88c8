"""What an assertion or measure cannot judge it refuses: one line, the argument's name, and what it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from verdict_samples import PENALISED, PROVENANCE, QUANTIZED, output, output_set, prompt_set, prose, scores

import pytest_kvcache as kv
from pytest_kvcache.measures.divergence import Divergence
from pytest_kvcache.records import OutputSet, PlannedOutputs, PlannedScores, Prompt, PromptSet

OUTPUTS = output_set(prompt_set(8), QUANTIZED)
PENALISED_OUTPUTS = output_set(prompt_set(8, sampling=PENALISED), QUANTIZED)
SCORES = scores(output_set(prompt_set(8), PROVENANCE))
TASKS = PromptSet("tasks", tuple(Prompt(f"t{i}", "sum", text=f"{i} is", answer=str(i)) for i in range(8)))
ANSWERS = output_set(TASKS, QUANTIZED, lambda i: f"{i}.")

NO_OUTPUTS = {
    "nothing": (None, "None"),
    "number": (7, "int"),
    "bytes": (b"a gentle soul", "bytes"),
    "mapping": ({"p": prose(1)}, "dict"),
    "unordered": ({prose(1)}, "set"),
    "scores": (SCORES, "ScoreSet"),
    "one score": (SCORES.scores[0], "Score"),
    "numbers with a point": ([1.0, 2.0], "list of float"),
    "lists": ([[1, 2], [3]], "list of list"),
    "one is missing": ([prose(1), None], "list of NoneType and str"),
    "mixed with ids": ([output("a", prose(1)), 7], "list of Output and int"),
    "sets in a list": ([OUTPUTS], "list of OutputSet"),
}


def refusal(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(kv.UsageError) as caught:
        call(*args, **kwargs)
    line = str(caught.value)
    assert line.isprintable()
    assert line.startswith(f"{call.__name__}: ")
    return line.removeprefix(f"{call.__name__}: ")


def complaint(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """Return what a measure says, which knows no assertion's name."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        call(*args, **kwargs)
    assert str(caught.value).isprintable()
    return str(caught.value)


# Outputs


@pytest.mark.parametrize(("wrong", "kind"), NO_OUTPUTS.values(), ids=NO_OUTPUTS.keys())
def test_what_is_no_output_is_refused_by_the_name_of_its_argument(wrong: Any, kind: str) -> None:
    for check in (kv.assert_not_degenerate, kv.assert_no_ngram_repetition):
        line = refusal(check, wrong)
        assert line.startswith(
            "output takes an Output, a text, token ids, an OutputSet, planned outputs, or a l"
        )
        assert line.endswith(f", not {kind}")
    assert refusal(kv.assert_degeneration_within, wrong, OUTPUTS).startswith("output takes ")
    assert refusal(kv.assert_degeneration_within, OUTPUTS, wrong).startswith("baseline takes ")


def test_a_baseline_that_is_no_output_is_refused_by_that_name() -> None:
    for wrong, kind in NO_OUTPUTS.values():
        if wrong is not None:
            line = refusal(kv.assert_not_degenerate, prose(1), baseline=wrong)
            assert (line.startswith("baseline takes "), line.endswith(kind)) == (True, True)


@pytest.mark.parametrize(
    "nothing", [replace(OUTPUTS, outputs=()), PlannedOutputs(())], ids=["set", "planned"]
)
def test_an_assertion_that_has_nothing_to_judge_does_not_pass(nothing: OutputSet | PlannedOutputs) -> None:
    for check in (kv.assert_not_degenerate, kv.assert_no_ngram_repetition):
        assert refusal(check, nothing) == "output holds no outputs"


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [(None, "None"), ([prose(1)], "list of str"), (output("a", ""), "Output"), (7, "int")],
    ids=["nothing", "texts", "one output", "number"],
)
def test_penalties_are_judged_on_outputs_of_several_prompts(wrong: Any, kind: str) -> None:
    takes = f"takes an OutputSet, planned outputs, or a list of outputs, not {kind}"
    assert refusal(kv.assert_penalties_effective, wrong, PENALISED_OUTPUTS) == f"output {takes}"
    assert refusal(kv.assert_penalties_effective, PENALISED_OUTPUTS, wrong) == f"baseline {takes}"


def test_one_output_twice_is_two_outputs_of_one_prompt() -> None:
    one = output("p", prose(1))
    for check in (kv.assert_degeneration_within, kv.assert_penalties_effective):
        assert "two outputs" in refusal(check, [one, one], [one, one])


# Prompts


@pytest.mark.parametrize("wrong", [7, {"role": "user"}, [{"role": "user", "content": "Hi"}], ["Hi", "Ho"]])
def test_what_is_no_prompt_is_refused(wrong: Any) -> None:
    line = refusal(kv.assert_not_degenerate, prose(1), prompt=wrong)
    assert line.startswith("prompt takes a Prompt, a text, or token ids, not ")
    assert complaint(kv.find_degeneration, prose(1), prompt=wrong) == line


def test_a_prompt_counts_for_every_text_of_a_list() -> None:
    greeting = "hello " * 90
    kv.assert_not_degenerate([greeting, greeting], prompt="Repeat hello 90 times.")
    with pytest.raises(kv.QualityError, match="2 of 2"):
        kv.assert_not_degenerate([greeting, greeting], prompt="Greet me.")


@pytest.mark.parametrize("several", [OUTPUTS, PlannedOutputs((OUTPUTS,)), list(OUTPUTS)], ids=type)
def test_one_prompt_for_outputs_of_several_prompts_is_refused(several: Any) -> None:
    line = refusal(kv.assert_not_degenerate, several, prompt="Repeat hello 90 times.")
    assert line.startswith("leave prompt out: output ")


# Margins and numbers


@pytest.mark.parametrize("wrong", ["0.1", None, [0.1], -0.1, float("nan"), float("inf"), 1j])
def test_a_margin_is_a_number_of_at_least_0(wrong: Any) -> None:
    calls: list[tuple[Callable[..., None], tuple[Any, ...], str]] = [
        (kv.assert_degeneration_within, (OUTPUTS, OUTPUTS), "margin"),
        (kv.assert_penalties_effective, (PENALISED_OUTPUTS, PENALISED_OUTPUTS), "margin"),
        (kv.assert_no_ngram_repetition, (OUTPUTS,), "limit"),
        (kv.assert_recall, (ANSWERS, ANSWERS), "loss"),
    ]
    for check, args, name in calls:
        says = f"the margin {name} must be a number of at least 0, not {wrong!r}"
        assert refusal(check, *args, **{name: wrong}) == says
    if wrong is not None:
        assert "the margin share" in refusal(kv.assert_recall, ANSWERS, share=wrong)
        assert "the margin kld" in refusal(kv.assert_divergence_within, SCORES, SCORES, kld=wrong)


@pytest.mark.parametrize("n", [0, -1, 2.5, "4", None])
def test_an_n_gram_has_a_whole_number_of_words(n: Any) -> None:
    says = f"n must be a whole number of at least 1, not {n!r}"
    assert refusal(kv.assert_no_ngram_repetition, prose(1), n=n) == says
    assert complaint(kv.ngram_repetition, prose(1), n) == says


# Scores


NO_SCORES = {
    "nothing": (None, "None"),
    "text": (prose(1), "list of str"),
    "outputs": (OUTPUTS, "list of Output"),
    "sets in a list": ([SCORES], "list of ScoreSet"),
    "number": (7, "int"),
}


@pytest.mark.parametrize(("wrong", "kind"), NO_SCORES.values(), ids=NO_SCORES.keys())
def test_what_is_no_score_is_refused_by_the_name_of_its_argument(wrong: Any, kind: str) -> None:
    takes = f"takes a ScoreSet, planned scores, a Score, or a list of scores, not {kind}"
    for pair, name in (((wrong, SCORES), "candidate"), ((SCORES, wrong), "baseline")):
        assert refusal(kv.assert_divergence_within, *pair) == f"{name} {takes}"
        assert complaint(kv.divergence, *pair) == f"{name} {takes}"


def test_one_score_twice_is_two_scores_of_one_prompt() -> None:
    one = SCORES.scores[0]
    says = "candidate has two scores for the prompt 'p00'"
    assert complaint(kv.divergence, [one, one], [one]) == says
    assert refusal(kv.assert_divergence_within, [one, one], [one]) == says


def test_planned_scores_are_compared_set_by_set_under_names_of_their_own() -> None:
    other = replace(SCORES, prompt_set=replace(SCORES.prompt_set, name="other"))
    planned = PlannedScores((SCORES, other))
    moved = scores(output_set(prompt_set(8), PROVENANCE), lambda _: 0.05)
    theirs = PlannedScores((moved, replace(moved, prompt_set=other.prompt_set)))
    kv.assert_divergence_within(theirs, planned)
    found = kv.divergence(planned, planned)
    assert [text.prompt_id for text in found.texts[7:9]] == ["small/p07", "other/p00"]
    assert len(found.by_kind()["chat"].texts) == 4
    assert kv.divergence(PlannedScores((SCORES,)), SCORES).texts[0].prompt_id == "p00"


@pytest.mark.parametrize("edges", [(), (5, 5), (3, 2), (-1, 4), (0.5,), None, "016"])
def test_bins_of_positions_begin_at_ascending_whole_numbers(edges: Any) -> None:
    found: Divergence = kv.divergence(SCORES, SCORES)
    says = "edges takes whole numbers, one or more, ascending from 0 or more, not "
    assert complaint(found.by_position, edges).startswith(says)
    assert len(found.by_position((0,))) == 1


@pytest.mark.parametrize("wrong", ["a text", None, 7, [1.5], SCORES])
def test_where_outputs_part_is_told_of_token_ids_alone(wrong: Any) -> None:
    assert complaint(kv.first_divergence, wrong, [1]).startswith(
        "candidate takes an Output or token ids, not"
    )
    assert complaint(kv.first_divergence, [1], wrong).startswith("baseline takes an Output or token ids, not")


def test_a_score_of_something_else_is_refused() -> None:
    says = "score takes the Score of the output, not ScoreSet"
    assert complaint(kv.find_degeneration, prose(1), score=SCORES) == says


@pytest.mark.parametrize(("wrong", "kind"), NO_OUTPUTS.values(), ids=NO_OUTPUTS.keys())
def test_measures_of_one_output_refuse_what_is_none(wrong: Any, kind: str) -> None:
    says = f"output takes an Output, a text, or token ids, not {kind}"
    assert complaint(kv.find_degeneration, wrong) == says
    assert complaint(kv.ngram_repetition, wrong, 4) == says
    if wrong is not None:
        baseline = complaint(kv.find_degeneration, prose(1), baseline=wrong)
        assert baseline == says.replace("output", "baseline", 1)


# Tasks


@pytest.mark.parametrize("wrong", [None, "12.", ["12."], list(ANSWERS), SCORES])
def test_recall_is_judged_on_sets_of_outputs(wrong: Any) -> None:
    says = "takes an OutputSet or planned outputs, not "
    assert refusal(kv.assert_recall, wrong, ANSWERS).startswith(f"output {says}")
    if wrong is not None:
        assert refusal(kv.assert_recall, ANSWERS, wrong).startswith(f"baseline {says}")


def test_an_output_of_no_task_is_refused() -> None:
    stray = replace(ANSWERS, outputs=(output("stray", "1."),))
    assert refusal(kv.assert_recall, stray, share=0.5) == "tasks has no prompt stray, to which an output is"


@pytest.mark.parametrize(
    ("check", "answer", "says"),
    [
        ("json", "{", "is not the JSON text of an object, as json needs"),
        ("json", {"a": 1}, "is not the JSON text of an object, as json needs"),
        (
            "tool-call",
            '{"name": "f"}',
            "is not the JSON text of an object with name and arguments, as tool-call",
        ),
        ("contains", "!!", "is not a text with letters or digits, as contains needs"),
        ("equals", "1", "is 'equals'; there are contains, starts, json, tool-call"),
    ],
    ids=["no json", "no text", "no call", "no words", "no check"],
)
def test_a_task_that_nothing_could_answer_is_refused(check: Any, answer: Any, says: str) -> None:
    prompts = PromptSet("tasks", (Prompt("p", "k", text="?", answer=answer, check=check),))
    tasks = output_set(prompts, QUANTIZED, lambda _: "{}")
    assert says in refusal(kv.assert_recall, tasks, share=0.5)
