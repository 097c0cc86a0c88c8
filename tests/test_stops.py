"""Whether outputs end where they were told to: at their stop string, or after so many tokens and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from verdict_samples import PROVENANCE, output_set, prompt_set

import pytest_kvcache as kv
from pytest_kvcache.errors import UsageError
from pytest_kvcache.records import OutputSet, PlannedOutputs, ReasonCode, Sampling

N = 16
SET = prompt_set(N, sampling=Sampling(max_tokens=8, stop=("\nQ:", "END")))


def ended(*unlike: kv.Output) -> OutputSet:
    """Return outputs that stopped after three tokens; those of ``unlike`` take the place of the first."""
    of = output_set(SET, PROVENANCE, lambda i: f"Answer {i}.")
    stopped = [replace(each, token_ids=(1, 2, 3), finish_reason="stop") for each in of.outputs]
    names = [prompt.id for prompt in SET.prompts]
    first = [replace(each, prompt_id=name) for name, each in zip(names, unlike, strict=False)]
    return replace(of, outputs=(*first, *stopped[len(first) :]))


def one(text: str, tokens: int, reason: str | None) -> kv.Output:
    return kv.Output("", (9,), tuple(range(tokens)), text, reason)


CUT = one("and so on", 8, "length")


def failure(*args: OutputSet | PlannedOutputs) -> kv.QualityError:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_stops_obeyed(*args)
    return caught.value


@pytest.mark.parametrize(
    "output",
    [
        one("", 0, "stop"),
        one("A", 1, "stop"),
        one("as long as may be", 8, "stop"),
        CUT,
    ],
)
def test_what_ends_by_itself_at_its_stop_or_at_its_length_obeys(output: kv.Output) -> None:
    kv.assert_stops_obeyed(ended(output), ended())


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (one("A\nQ: and?", 6, "stop"), r'its stop string "\nQ:" is passed over in "A\nQ: and?"'),
        (one("THE END", 8, "length"), 'its stop string "END" is passed over'),
        (one("more", 9, "length"), "9 tokens were written, 8 were asked for"),
        (one("more", 9, "stop"), "9 tokens were written, 8 were asked for"),
        (one("le", 2, "length"), "cut off as if too long after 2 tokens, though 8 were asked for"),
        (one("gone", 2, "abort"), "it ended for no reason of its own (finish reason abort)"),
        (one("gone", 2, None), "(finish reason None)"),
    ],
)
def test_a_single_output_that_disobeys_is_proof_whatever_the_baseline_did(
    output: kv.Output, problem: str
) -> None:
    outputs = ended(CUT, output)
    found = failure(outputs, outputs)
    assert found.codes == (ReasonCode.STOPS,)
    head, line = str(found).splitlines()
    name = SET.prompts[1].id
    assert head == f"1 of {N} outputs are not ended as asked: {name}"
    assert line.startswith(f"  {name}: ")
    assert problem in line


@pytest.mark.parametrize("lost", range(N + 1))
def test_stops_that_only_the_baseline_reaches_are_proof_from_six_of_16_on(lost: int) -> None:
    ours = ended(*[CUT] * lost)
    kv.assert_stops_obeyed(ours)
    if lost < 6:
        kv.assert_stops_obeyed(ours, ended())
    else:
        found = failure(ours, ended())
        assert found.codes == (ReasonCode.RUNAWAY,)
        assert str(found).startswith(f"{lost} of {N} outputs never reach their stop, the baseline's 0: an ")


def test_stops_that_the_baseline_does_not_reach_either_are_no_loss() -> None:
    kv.assert_stops_obeyed(ended(*[CUT] * (N - 1)), ended(*[CUT] * (N - 6)))
    kv.assert_stops_obeyed(ended(), ended(*[CUT] * (N - 6)))


@pytest.mark.parametrize("reached", range(6))
def test_where_the_baseline_reaches_five_stops_no_loss_could_be_proven(reached: int) -> None:
    cut = ended(*[CUT] * (N - reached))
    with pytest.raises(UsageError, match=rf"^assert_stops_obeyed: {N - reached} of the baseline's {N} out"):
        kv.assert_stops_obeyed(cut, cut)
    without = replace(cut, prompt_set=replace(SET, sampling=Sampling(max_tokens=8)))
    kv.assert_stops_obeyed(without, without)


def test_of_planned_outputs_every_set_has_limits_of_its_own() -> None:
    longer = replace(SET, name="longer", sampling=Sampling(max_tokens=9))
    nine = replace(ended(one("END", 9, "length")), prompt_set=longer)
    kv.assert_stops_obeyed(PlannedOutputs((ended(CUT), nine)))
    found = failure(PlannedOutputs((ended(CUT), replace(nine, prompt_set=replace(SET, name="shorter")))))
    assert f"shorter/{SET.prompts[0].id}" in str(found)


def test_no_model_text_reaches_a_terminal_as_it_is() -> None:
    assert r"\x1b[31m" in str(failure(ended(one("\x1b[31m END", 3, "stop"))))


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("a text",), "output takes an OutputSet or planned outputs"),
        ((ended(), "a text"), "baseline takes an OutputSet or planned outputs"),
        ((replace(ended(), outputs=()),), "output holds no outputs"),
        ((ended(), replace(ended(), outputs=ended().outputs[1:])), "not of the same prompts"),
        ((replace(ended(), outputs=ended().outputs[:1]),) * 2, "at least two outputs"),
    ],
)
def test_misuse_is_one_line(args: tuple[OutputSet, ...], problem: str) -> None:
    with pytest.raises(UsageError, match=f"^assert_stops_obeyed: .*{problem}"):
        kv.assert_stops_obeyed(*args)
