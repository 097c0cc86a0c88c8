"""Faults that more of a candidate's outputs have than of its baseline's fail an assertion of their own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from verdict_samples import KINDS, PENALISED, PROVENANCE, QUANTIZED, WORDS, output, output_set, prose

import pytest_kvcache as kv
from pytest_kvcache.measures.lengths import cut_short
from pytest_kvcache.measures.penalties import is_unpenalised
from pytest_kvcache.records import OutputSet, PlannedOutputs, Prompt, PromptSet, ReasonCode, Sampling

PROMPTS = PromptSet(
    "small",
    tuple(
        Prompt(f"p{i:02}", KINDS[i % 4], text=f"Tell me how glaciers carve valleys in mountains, part {i}.")
        for i in range(32)
    ),
    Sampling(max_tokens=120),
)
TASKS = PromptSet("tasks", tuple(Prompt(f"t{i}", "sum", text=f"{i} is", answer=str(i)) for i in range(8)))
ON_TOPIC = "Glaciers carve the mountain "
FRENCH = "d’accord c’est très bien voilà garçon école déjà où fenêtre hôtel élève père été naïf"
SCRIPTS = ("bcdeilnorstu", "бвгдежзилно", "αβγδεζηθλμν", "אבגדהוזחטיכ", "ابتثجحخدذرز", "あかさたなはまや")

Text = Callable[[int], str]


def about(i: int) -> str:
    return ON_TOPIC + prose(i, 100)


def mojibake(i: int) -> str:
    rng = random.Random(i)
    text = " ".join(rng.choice([*FRENCH.split(), *WORDS]) for _ in range(100))
    return text.encode().decode("cp1252", "replace")


def mixed_scripts(i: int) -> str:
    rng = random.Random(i)
    return " ".join("".join(rng.choices(rng.choice(SCRIPTS), k=5)) for _ in range(60))


def both(text: Text, beside: Text = about, *, prompts: PromptSet = PROMPTS) -> tuple[OutputSet, OutputSet]:
    return output_set(prompts, QUANTIZED, text, "fp8_e4m3"), output_set(prompts, PROVENANCE, beside)


def code_of(check: Callable[..., None], *args: object, **margins: float) -> tuple[tuple[str, ...], str]:
    with pytest.raises(kv.QualityError) as caught:
        check(*args, **margins)
    return caught.value.codes, str(caught.value)


CHECKS = (kv.assert_nonsense_within, kv.assert_lengths_within, kv.assert_topic_kept, kv.assert_language_kept)


@pytest.mark.parametrize("check", CHECKS)
def test_other_words_of_the_same_sort_pass(check: Callable[..., None]) -> None:
    check(*both(lambda i: ON_TOPIC + prose(100 + i, 100)))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("text", [about, lambda _: "a gentle soul, " * 40], ids=["healthy", "loops"])
def test_four_outputs_prove_nothing_and_do_not_pass(check: Callable[..., None], text: Text) -> None:
    four = replace(PROMPTS, prompts=PROMPTS.prompts[:4])
    codes, message = code_of(check, *both(text, prompts=four))
    assert codes == (ReasonCode.TOO_LITTLE_EVIDENCE,)
    assert "_excess: of 4 outputs " in message
    assert "\n" not in message


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_no_pair_of_sets_is_refused(check: Callable[..., None]) -> None:
    ours, theirs = both(about)
    with pytest.raises(kv.UsageError, match="output takes an OutputSet"):
        check("text", theirs)
    with pytest.raises(kv.UsageError, match="not of the same prompt sets"):
        check(ours, both(about, prompts=TASKS)[1])
    with pytest.raises(kv.UsageError, match="not of the same prompt sets"):
        check(PlannedOutputs((ours, ours)), theirs)
    with pytest.raises(kv.UsageError, match="at least two outputs"):
        check(*both(about, prompts=TASKS))
    with pytest.raises(kv.UsageError, match="answered different prompts"):
        check(ours, replace(theirs, outputs=theirs.outputs[1:]))


@pytest.mark.parametrize("nonsense", [mixed_scripts, mojibake])
def test_nonsense_that_only_the_candidate_writes_fails(nonsense: Text) -> None:
    codes, message = code_of(kv.assert_nonsense_within, *both(nonsense))
    assert codes == (ReasonCode.NONSENSE,)
    assert "excess of nonsense is 1.000" in message
    assert "small/p00: " in message
    assert message.count("\n") == 4


def test_nonsense_of_the_baseline_too_is_no_loss() -> None:
    kv.assert_nonsense_within(*both(mojibake, mojibake))


def test_nonsense_now_and_then_is_not_proven_to_be_beyond_the_margin() -> None:
    kv.assert_nonsense_within(*both(lambda i: mojibake(i) if i < 4 else about(i)))


def test_a_loop_is_no_nonsense() -> None:
    kv.assert_nonsense_within(*both(lambda _: ON_TOPIC + "a gentle soul, " * 40))


def lengths(tokens: int, reason: str, others: int, others_reason: str) -> tuple[OutputSet, ...]:
    def of(provenance: kv.Provenance, tokens: int, reason: str) -> OutputSet:
        made = output_set(PROMPTS, provenance)
        outputs = (output(p.id, prose(i, tokens), reason) for i, p in enumerate(PROMPTS.prompts))
        return replace(made, outputs=tuple(outputs))

    return of(QUANTIZED, tokens, reason), of(PROVENANCE, others, others_reason)


@pytest.mark.parametrize(
    ("tokens", "reason", "others", "others_reason", "code"),
    [
        (0, "stop", 120, "length", ReasonCode.EMPTY),
        (12, "stop", 120, "length", ReasonCode.EARLY_END),
        (60, "length", 120, "length", ReasonCode.EARLY_END),
        (60, "abort", 90, "stop", ReasonCode.EARLY_END),
        (120, "length", 40, "stop", ReasonCode.RUNAWAY),
    ],
    ids=["empty", "early", "cut off", "aborted", "run away"],
)
def test_each_wrong_length_fails_with_its_own_code(
    tokens: int, reason: str, others: int, others_reason: str, code: ReasonCode
) -> None:
    codes, message = code_of(kv.assert_lengths_within, *lengths(tokens, reason, others, others_reason))
    assert codes == (code,)
    assert f"small/p00: {tokens} tokens, the baseline's {others}" in message


@pytest.mark.parametrize(
    ("tokens", "reason", "others", "others_reason"),
    [(40, "stop", 120, "length"), (120, "length", 90, "stop"), (3, "stop", 20, "stop")],
)
def test_lengths_that_another_wording_explains_pass(
    tokens: int, reason: str, others: int, others_reason: str
) -> None:
    kv.assert_lengths_within(*lengths(tokens, reason, others, others_reason))


def test_each_length_has_a_margin_of_its_own() -> None:
    kv.assert_lengths_within(*lengths(120, "length", 40, "stop"), runaway=1)
    kv.assert_lengths_within(*lengths(12, "stop", 120, "length"), early_end=1)
    kv.assert_lengths_within(*lengths(0, "stop", 120, "length"), empty=1)


def test_an_empty_output_is_not_also_cut_short() -> None:
    assert not cut_short(output("p", "", "abort"), beside=prose(1), max_tokens=120)


def test_answers_that_share_no_word_with_their_prompts_fail() -> None:
    codes, message = code_of(kv.assert_topic_kept, *both(prose))
    assert codes == (ReasonCode.TOPIC,)
    assert "excess of answers that leave their topic is 1.000" in message


@pytest.mark.parametrize(("on_topic", "passes"), [(0, False), (7, False), (8, True)])
def test_a_baseline_that_keeps_the_topic_in_seven_of_32_cannot_show_that_it_is_lost(
    on_topic: int, passes: bool
) -> None:
    def some(i: int) -> str:
        return about(i) if i < on_topic else prose(i)

    if passes:
        kv.assert_topic_kept(*both(some, some))
    else:
        codes, message = code_of(kv.assert_topic_kept, *both(some, some))
        assert codes == (ReasonCode.TOO_LITTLE_EVIDENCE,)
        assert message.startswith(f"topic_drift_excess: of 32 outputs {on_topic} are free of this fault in")


def test_scripts_without_blanks_keep_the_topic_by_pairs_of_characters() -> None:
    asked = "请介绍一下北京的天气情况"
    prompts = PromptSet("zh", tuple(Prompt(f"p{i:02}", "zh", text=asked) for i in range(16)))
    kept, left = "今天北京的风很大" * 8, "猫在睡觉" * 12
    kv.assert_topic_kept(*both(lambda _: kept, lambda _: kept, prompts=prompts))
    codes, _ = code_of(kv.assert_topic_kept, *both(lambda _: left, lambda _: kept, prompts=prompts))
    assert codes == (ReasonCode.TOPIC,)


def penalised(text: Text, plain: Text) -> PlannedOutputs:
    few = PromptSet("small-penalised", PROMPTS.prompts[:16], PENALISED)
    return PlannedOutputs((output_set(PROMPTS, QUANTIZED, plain), output_set(few, QUANTIZED, text)))


def other(i: int) -> str:
    return prose(1000 + i)


def test_penalised_texts_that_are_the_plain_ones_fail() -> None:
    codes, message = code_of(kv.assert_penalties_heeded, penalised(prose, prose), penalised(other, prose))
    assert codes == (ReasonCode.PENALTIES,)
    assert "excess of penalised texts that begin as without a penalty is 1.000" in message
    assert "small-penalised/p00" in message


def test_penalties_that_change_the_texts_pass() -> None:
    kv.assert_penalties_heeded(penalised(other, prose), penalised(other, prose))


@pytest.mark.parametrize("heeded", [0, 5, 6, 16])
def test_a_baseline_whose_penalties_change_five_of_16_texts_cannot_show_that_they_are_ignored(
    heeded: int,
) -> None:
    def some(i: int) -> str:
        return other(i) if i < heeded else prose(i)

    if heeded < 6:
        with pytest.raises(kv.UsageError, match=rf"of 16 .* begin {16 - heeded} as without penalties, so th"):
            kv.assert_penalties_heeded(penalised(some, prose), penalised(some, prose))
    else:
        kv.assert_penalties_heeded(penalised(some, prose), penalised(some, prose))


def test_answers_shorter_than_penalties_take_to_show_are_refused_and_not_passed() -> None:
    def brief(i: int) -> str:
        return prose(i, 12)

    with pytest.raises(kv.UsageError, match=r"writes 32 tokens, .*, to 0 of 16 prompts: give more tokens"):
        kv.assert_penalties_heeded(penalised(brief, brief), penalised(brief, brief))


def test_a_candidate_that_says_nothing_ignores_no_penalty() -> None:
    kv.assert_penalties_heeded(penalised(lambda _: "", lambda _: ""), penalised(other, prose))


def test_penalised_outputs_without_plain_ones_are_refused() -> None:
    alone = PlannedOutputs(penalised(other, prose).sets[1:])
    with pytest.raises(kv.UsageError, match="has its prompts in another set without penalties"):
        kv.assert_penalties_heeded(alone, alone)


def test_only_the_beginnings_of_two_texts_count() -> None:
    one, late = output("p", prose(1, 120)), output("p", prose(1, 60) + " " + prose(2, 60))
    assert is_unpenalised(late, one)
    assert not is_unpenalised(output("p", prose(2)), one)


@pytest.mark.parametrize("words", [0, 3, 20])
def test_answers_too_short_for_penalties_to_change_are_not_held_against_them(words: int) -> None:
    assert not is_unpenalised(output("p", prose(1, words)), output("p", prose(1, words)))
