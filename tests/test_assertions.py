"""Assertions fail with a message that is short, complete and harmless, and with the codes that apply."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from verdict_samples import PENALISED, PROVENANCE, QUANTIZED, ids_of, output, output_set, prompt_set, prose

import pytest_kvcache as kv
from pytest_kvcache.records import OutputSet, PlannedOutputs, ReasonCode

LOOP = prose(1, 10) + " a gentle soul," * 60


def outputs(text: Callable[[int], str] = prose, *, penalised: bool = False, n: int = 24) -> OutputSet:
    return output_set(prompt_set(n, sampling=PENALISED if penalised else None), QUANTIZED, text)


@pytest.mark.parametrize(
    "healthy",
    [
        prose(1),
        output("p", prose(1)),
        ids_of(prose(1)),
        outputs(),
        [output("a", prose(1))],
        [prose(1), prose(2)],
    ],
    ids=["text", "output", "ids", "set", "outputs", "texts"],
)
def test_healthy_outputs_of_any_shape_pass(healthy: str) -> None:
    kv.assert_not_degenerate(healthy)
    kv.assert_no_ngram_repetition(healthy)


@pytest.mark.parametrize(
    "sick",
    [LOOP, output("p", LOOP), [7, 8] * 90, outputs(lambda _: LOOP), [output("a", LOOP)], [prose(1), LOOP]],
    ids=["text", "output", "ids", "set", "outputs", "texts"],
)
def test_degenerate_outputs_of_any_shape_fail(sick: str) -> None:
    with pytest.raises(kv.QualityError) as degenerate:
        kv.assert_not_degenerate(sick)
    assert degenerate.value.codes == (ReasonCode.DEGENERATE,)
    with pytest.raises(kv.QualityError) as repetitive:
        kv.assert_no_ngram_repetition(sick)
    assert repetitive.value.codes == (ReasonCode.REPETITION,)


def test_the_message_says_what_was_found_where_and_shows_it() -> None:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_not_degenerate("He said: " + "a gentle soul, " * 14)
    message = str(caught.value)
    assert message.startswith(
        'the output is degenerate: loop, " a gentle soul," 14 times (characters 8 to 219)'
    )
    assert 'in "He said: a gentle soul, a gentle' in message


def test_all_failing_prompts_are_named_and_the_first_three_shown() -> None:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_not_degenerate(outputs(lambda i: LOOP if i % 5 == 0 else prose(i)))
    first, *lines = str(caught.value).splitlines()
    assert first == "5 of 24 outputs are degenerate: p00, p05, p10, p15, p20"
    assert [line.split(":")[0] for line in lines] == ["  p00", "  p05", "  p10"]


def test_a_very_long_list_of_names_is_cut() -> None:
    with pytest.raises(kv.QualityError, match=r"60 of 60 outputs are degenerate: .* and 40 more"):
        kv.assert_not_degenerate(outputs(lambda _: LOOP, n=60))


def test_hostile_text_does_not_reach_the_message() -> None:
    hostile = "\x1b[2J::error::\u202e\n" * 40
    for check in (kv.assert_not_degenerate, kv.assert_no_ngram_repetition):
        with pytest.raises(kv.QualityError) as caught:
            check([output("::p\x1b", hostile), output("q", hostile)])
        for line in str(caught.value).splitlines():
            assert line.isprintable()
            assert not line.strip().startswith("::")


def test_empty_and_degenerate_outputs_give_both_codes() -> None:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_not_degenerate(["", LOOP])
    assert caught.value.codes == (ReasonCode.DEGENERATE, ReasonCode.EMPTY)
    assert "output 0: empty, no text" in str(caught.value)


def test_what_the_baseline_does_as_well_is_no_finding() -> None:
    kv.assert_not_degenerate(LOOP, baseline=LOOP)
    kv.assert_not_degenerate(outputs(lambda _: LOOP), baseline=outputs(lambda _: LOOP))
    with pytest.raises(kv.QualityError, match="24 of 24"):
        kv.assert_not_degenerate(outputs(lambda _: LOOP), baseline=outputs())


def test_warnings_beside_the_baseline_do_not_fail() -> None:
    kv.assert_not_degenerate("Yes.", baseline=prose(1))


def test_a_baseline_for_other_prompts_is_used_wrongly() -> None:
    with pytest.raises(kv.UsageError, match="not of the same prompts"):
        kv.assert_not_degenerate(outputs(n=8), baseline=outputs(n=9))


def test_what_the_prompt_asks_for_is_no_finding() -> None:
    kv.assert_not_degenerate("hello " * 90, prompt="Repeat hello 90 times.")


def test_planned_outputs_are_judged_set_by_set() -> None:
    planned = PlannedOutputs((outputs(), outputs(lambda i: LOOP if i == 3 else prose(i), penalised=True)))
    kv.assert_not_degenerate(planned, baseline=planned)
    with pytest.raises(kv.QualityError, match="1 of 48 outputs are degenerate: penalised/p03"):
        kv.assert_not_degenerate(planned)


def looping(share: float) -> Callable[[int], str]:
    return lambda i: LOOP if i < share * 24 else prose(i)


def test_more_degenerate_outputs_than_the_baselines_fail_and_are_named() -> None:
    with pytest.raises(kv.QualityError, match=r"exceed the baseline's by 0\.50") as caught:
        kv.assert_degeneration_within(outputs(looping(0.75)), outputs(looping(0.25)))
    assert caught.value.codes == (ReasonCode.DEGENERATE,)
    assert "12 of 24 outputs are degenerate where the baseline's is not" in str(caught.value)


def test_a_few_more_degenerate_outputs_are_chance() -> None:
    kv.assert_degeneration_within(outputs(looping(0.25)), outputs(looping(0.125)))
    kv.assert_degeneration_within(outputs(looping(0.25)), outputs(looping(0.5)))


def test_shares_say_whether_outputs_are_empty_or_degenerate() -> None:
    def fails_with(sick: Callable[[int], str]) -> tuple[str, ...]:
        with pytest.raises(kv.QualityError) as caught:
            kv.assert_degeneration_within(outputs(sick), outputs())
        return caught.value.codes

    assert fails_with(lambda _: "") == (ReasonCode.EMPTY,)
    assert fails_with(lambda _: LOOP) == (ReasonCode.DEGENERATE,)
    assert fails_with(lambda i: LOOP if i % 2 else "") == (ReasonCode.DEGENERATE, ReasonCode.EMPTY)
    assert fails_with(lambda i: LOOP if i > 2 else "") == (ReasonCode.DEGENERATE,), "3 empty ones are chance"


def test_empty_outputs_have_a_margin_of_their_own_and_a_stricter_one() -> None:
    six_empty = outputs(lambda i: "" if i < 6 else prose(i))
    six_loops = outputs(lambda i: LOOP if i < 6 else prose(i))
    with pytest.raises(kv.QualityError, match=r"beyond the margin 0\.05") as caught:
        kv.assert_degeneration_within(six_empty, outputs())
    assert caught.value.codes == (ReasonCode.EMPTY,)
    kv.assert_degeneration_within(six_empty, outputs(), empty=0.1)
    kv.assert_degeneration_within(six_loops, outputs())
    with pytest.raises(kv.QualityError, match=r"beyond the margin 0\.05"):
        kv.assert_degeneration_within(six_empty, outputs(), margin=1.0)


def codes_of_share(ours: OutputSet, theirs: OutputSet, **margins: float) -> tuple[str, ...]:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_degeneration_within(ours, theirs, **margins)
    return caught.value.codes


def test_fewer_than_five_outputs_are_too_few_for_a_share_whatever_they_are() -> None:
    for n in (2, 4):
        for ours in (outputs(n=n), outputs(lambda _: LOOP, n=n)):
            assert codes_of_share(ours, outputs(n=n)) == (ReasonCode.TOO_LITTLE_EVIDENCE,)
    kv.assert_degeneration_within(outputs(n=5), outputs(n=5))
    assert codes_of_share(outputs(lambda _: LOOP, n=5), outputs(n=5)) == (ReasonCode.DEGENERATE,)


def test_a_baseline_that_loops_nearly_always_cannot_show_further_loops() -> None:
    kv.assert_degeneration_within(outputs(looping(17 / 24)), outputs(looping(17 / 24)))
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_degeneration_within(outputs(looping(18 / 24)), outputs(looping(18 / 24)))
    assert str(caught.value) == (
        "degenerate_excess: of 24 outputs 6 are free of this fault in the baseline, and not even the fault "
        "of all would be proven beyond the margin 0.10: give more prompts, or ones that the baseline answers "
        "without it"
    )


def test_a_margin_of_one_leaves_its_fault_unjudged() -> None:
    kv.assert_degeneration_within(outputs(lambda _: LOOP, n=4), outputs(n=4), margin=1, empty=1)
    margins = {"margin": 1.0, "empty": 0.05}
    assert codes_of_share(outputs(n=4), outputs(n=4), **margins) == (ReasonCode.TOO_LITTLE_EVIDENCE,)


def test_one_output_has_no_share() -> None:
    with pytest.raises(kv.UsageError, match="at least two outputs"):
        kv.assert_degeneration_within(LOOP, prose(1))


def test_outputs_of_two_sets_in_one_list_are_used_wrongly() -> None:
    both = list(PlannedOutputs((outputs(lambda _: LOOP), outputs(penalised=True))))
    checks: list[Callable[[], None]] = [
        lambda: kv.assert_not_degenerate(both, baseline=both),
        lambda: kv.assert_degeneration_within(both, both),
        lambda: kv.assert_penalties_effective(both, both),
    ]
    for check in checks:
        with pytest.raises(kv.UsageError, match=r"two outputs .* the prompt '?p00") as caught:
            check()
        assert "\n" not in str(caught.value)


def test_generators_lose_no_output() -> None:
    kv.assert_not_degenerate(prose(i) for i in range(3))
    with pytest.raises(kv.QualityError, match="1 of 3 outputs are degenerate: output 0"):
        kv.assert_not_degenerate(text for text in (LOOP, prose(1), prose(2)))
    with pytest.raises(kv.QualityError, match="2 of 3 outputs are repetitive: p00, p01"):
        kv.assert_no_ngram_repetition(output(f"p0{i}", LOOP if i < 2 else prose(i)) for i in range(3))
    with pytest.raises(kv.QualityError, match=r"\(24 outputs\)"):
        kv.assert_degeneration_within(iter(outputs(lambda _: LOOP)), iter(outputs()))
    with pytest.raises(kv.QualityError, match=r"\(24 outputs\)"):
        kv.assert_penalties_effective(iter(outputs(variants, penalised=True)), iter(outputs(penalised=True)))


def test_penalties_of_other_prompts_cannot_be_compared() -> None:
    with pytest.raises(kv.UsageError, match="different prompts: p23"):
        kv.assert_penalties_effective(outputs(n=24, penalised=True), outputs(n=23, penalised=True))
    with pytest.raises(kv.UsageError, match="not of the same prompt sets"):
        kv.assert_penalties_effective(PlannedOutputs((outputs(penalised=True),) * 2), outputs(penalised=True))


def test_shares_of_other_prompts_cannot_be_compared() -> None:
    with pytest.raises(kv.UsageError, match="not of the same prompts"):
        kv.assert_degeneration_within(outputs(n=24), outputs(n=23))


def test_the_limit_of_ngram_repetition_is_inclusive() -> None:
    half = [1, 2, 1, 2, 1]
    kv.assert_no_ngram_repetition(half, n=2, limit=0.5)
    with pytest.raises(kv.QualityError, match=r"0\.50 of all 2-grams occurred before \(limit 0\.49\)"):
        kv.assert_no_ngram_repetition(half, n=2, limit=0.49)


def variants(i: int) -> str:
    return " ".join(f"a very gentle soul, {prose(50 * i + k, 1)}" for k in range(30))


def test_penalties_without_effect_fail() -> None:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_penalties_effective(outputs(variants, penalised=True), outputs(penalised=True))
    assert caught.value.codes == (ReasonCode.PENALTIES,)
    assert "beyond the margin 0.10 (24 outputs)" in str(caught.value)


def test_penalties_that_work_as_for_the_baseline_pass() -> None:
    other = outputs(lambda i: prose(900 + i), penalised=True)
    kv.assert_penalties_effective(other, outputs(penalised=True))
    kv.assert_penalties_effective(outputs(variants, penalised=True), outputs(variants, penalised=True))


def test_a_few_repetitive_outputs_under_penalties_are_chance() -> None:
    few = outputs(lambda i: variants(i) if i < 2 else prose(i), penalised=True)
    kv.assert_penalties_effective(few, outputs(penalised=True))


def test_of_planned_outputs_only_the_penalised_count() -> None:
    ours = PlannedOutputs((outputs(variants), outputs(penalised=True)))
    theirs = PlannedOutputs((outputs(), outputs(penalised=True)))
    kv.assert_penalties_effective(ours, theirs)


def test_penalties_need_penalised_outputs_and_more_than_one() -> None:
    with pytest.raises(kv.UsageError, match="no penalty was set for small"):
        kv.assert_penalties_effective(outputs(), outputs())
    one = [output("p", LOOP)]
    with pytest.raises(kv.UsageError, match="at least two outputs"):
        kv.assert_penalties_effective(one, one)


def test_a_quality_error_is_an_assertion_error() -> None:
    assert issubclass(kv.QualityError, AssertionError)
    assert PROVENANCE is not QUANTIZED
