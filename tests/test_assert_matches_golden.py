"""assert_matches_golden holds outputs to what was written once: exactly, within the limits, or safely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from golden_samples import AWKWARD_TEXTS, FULL_PROVENANCE, golden
from verdict_samples import PENALISED, prompt_set, prose, scores

import pytest_kvcache as kv
from pytest_kvcache.assertions.goldens import Match
from pytest_kvcache.golden import as_kept
from pytest_kvcache.records import (
    Golden,
    Message,
    OutputSet,
    PlannedGoldens,
    PlannedOutputs,
    Prompt,
    PromptSet,
    ReasonCode,
    ScoreSet,
)

LOOP = prose(1, 10) + " a gentle soul," * 60
PROMPTS = prompt_set(16)
PENALISED_PROMPTS = prompt_set(16, sampling=PENALISED)
TASKS = PromptSet(
    "tasks", tuple(Prompt(f"t{i}", "copy", text=f"Copy {i}.", answer=str(i)) for i in range(32))
)
NEWER = replace(FULL_PROVENANCE, versions=(("python", "3.11.7"), ("torch", "2.13.0"), ("vllm", "0.33.0")))

GOLDEN = golden(PROMPTS)
WAYS: tuple[Match, ...] = ("exact", "divergence", "safe")


def outputs(
    text: Callable[[int], str] = prose, prompts: PromptSet = PROMPTS, provenance: Any = FULL_PROVENANCE
) -> OutputSet:
    """Return what an engine writes now, on a core of its own."""
    live = replace(provenance, device_ids=(7,), environment=(("VLLM_CPU_OMP_THREADS_BIND", "7"),))
    environment = tuple(pair for pair in provenance.environment if pair[0] != "VLLM_CPU_OMP_THREADS_BIND")
    live = replace(live, environment=(*live.environment, *environment), model_path="/here")
    return golden(prompts, text=text, provenance=live).outputs


def slightly(i: int) -> str:
    """Return what a healthy engine that rounds otherwise writes."""
    return prose(i + 500) if i % 3 == 0 else prose(i)


def looping(i: int) -> str:
    return LOOP if i % 4 else prose(i)


def healthy(of: Golden = GOLDEN) -> ScoreSet:
    return scores(of.outputs, lambda i: 0.02 + 0.01 * (i % 3), lambda i: 0.02 * (i % 3))


def harmful(of: Golden = GOLDEN) -> ScoreSet:
    return scores(of.outputs, lambda i: 0.5 + 0.01 * i)


def failure(*arguments: Any, **how: Any) -> kv.QualityError:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_matches_golden(*arguments, **how)
    for line in str(caught.value).split("\n"):
        assert line.isprintable()
    return caught.value


def misuse(*arguments: Any, **how: Any) -> str:
    with pytest.raises(kv.UsageError) as caught:
        kv.assert_matches_golden(*arguments, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What matches


@pytest.mark.parametrize("match", WAYS)
@pytest.mark.parametrize("prompts", [PROMPTS, PENALISED_PROMPTS], ids=["plain", "penalised"])
@pytest.mark.parametrize("logprobs", [True, False], ids=["with", "without"])
def test_equal_outputs_of_an_equal_engine_match_in_any_way(
    match: Match, prompts: PromptSet, logprobs: bool
) -> None:
    kv.assert_matches_golden(outputs(prompts=prompts), golden(prompts, logprobs=logprobs), match=match)


def test_a_golden_that_was_read_back_is_of_the_same_engine() -> None:
    kv.assert_matches_golden(outputs(), as_kept(GOLDEN), match="exact")


def test_other_outputs_match_within_the_limits_of_divergence_but_not_exactly() -> None:
    kv.assert_matches_golden(outputs(slightly), GOLDEN, scores=healthy())
    kv.assert_matches_golden(outputs(slightly), GOLDEN, match="safe")
    failure(outputs(slightly), GOLDEN, match="exact", scores=healthy())


def test_divergence_is_the_default() -> None:
    assert failure(outputs(slightly), GOLDEN, scores=harmful()).codes == (
        ReasonCode.DELTA_NLL,
        ReasonCode.KLD,
    )


def test_an_exact_match_is_asked_for_only_of_an_engine_that_is_alike() -> None:
    newer = outputs(slightly, provenance=NEWER)
    kv.assert_matches_golden(newer, GOLDEN, match="exact", scores=healthy())
    error = failure(newer, GOLDEN, match="exact", scores=harmful())
    assert error.codes == (ReasonCode.DELTA_NLL, ReasonCode.KLD)
    assert "; made otherwise: vllm 0.32.0 -> 0.33.0" in str(error)


def test_equal_outputs_do_not_vouch_for_another_engine() -> None:
    failure(outputs(provenance=NEWER), GOLDEN, match="exact", scores=harmful())
    kv.assert_matches_golden(outputs(provenance=NEWER), GOLDEN, match="exact", scores=healthy())
    kv.assert_matches_golden(outputs(provenance=NEWER), GOLDEN, match="safe")


def test_an_exact_mismatch_is_excused_by_no_declaration() -> None:
    error = failure(outputs(slightly), GOLDEN, match="exact", scores=harmful())
    assert error.codes == ()
    assert failure(outputs(slightly), golden(PROMPTS, logprobs=False), match="exact").codes == ()


def test_one_token_that_differs_is_an_exact_mismatch() -> None:
    now = outputs()
    last = now.outputs[-1]
    turned = replace(last, token_ids=(*last.token_ids[:-1], 99_999))
    error = failure(replace(now, outputs=(*now.outputs[:-1], turned)), GOLDEN, match="exact")
    assert "1 of 16 of small" in str(error)
    assert "has the same text, in other tokens from token 119 on" in str(error)


# What is not safe


@pytest.mark.parametrize("match", ["divergence", "safe"])
def test_new_degeneration_fails_whatever_the_divergence(match: Match) -> None:
    error = failure(outputs(looping), GOLDEN, match=match, scores=healthy())
    assert error.codes == (ReasonCode.DEGENERATE,)
    assert "degenerate 0 -> 12 of 16 outputs" in str(error)
    assert '    loop: " a gentle soul," 60 times' in str(error).split("\n")


def test_empty_outputs_fail() -> None:
    error = failure(outputs(lambda i: "" if i % 2 else prose(i)), GOLDEN, match="safe")
    assert error.codes == (ReasonCode.EMPTY,)


def test_degeneration_that_the_golden_shows_as_well_is_not_new() -> None:
    some = golden(PROMPTS, text=lambda i: LOOP if i % 4 == 1 else prose(i))
    now = outputs(lambda i: LOOP if i % 4 == 3 else prose(i), provenance=NEWER)
    kv.assert_matches_golden(now, some, match="safe")


def test_a_degenerate_golden_vouches_for_nothing() -> None:
    error = failure(outputs(provenance=NEWER), golden(PROMPTS, text=lambda _: LOOP), match="safe")
    assert error.codes == (ReasonCode.BASELINE_DEGENERATE,)


@pytest.mark.parametrize("match", WAYS)
def test_a_golden_that_is_no_good_does_not_match_itself_either(match: Match) -> None:
    looped = golden(PROMPTS, text=lambda _: LOOP)
    unknowing = golden(TASKS, text=lambda _: "! ! !", logprobs=False)
    for of in (looped, unknowing):
        error = failure(of.outputs, of, match=match)
        assert error.codes == (ReasonCode.BASELINE_DEGENERATE,)
        name = f"ref-gqa/{of.prompt_set.name}-256.auto.cpu.json"
        assert str(error).endswith(f"only a better one can replace it: {name}")


def test_a_golden_of_hardly_any_right_answer_vouches_for_nothing() -> None:
    of = golden(TASKS, text=lambda i: str(i) if i < 4 else "no idea", logprobs=False)
    now = outputs(lambda i: str(i) if i < 4 else "none", TASKS)
    error = failure(now, of, match="safe")
    assert error.codes == (ReasonCode.BASELINE_DEGENERATE,)
    assert "give tasks that the model can do" in str(error)
    kv.assert_matches_golden(now, of, match="safe", limits=kv.Limits(baseline_recall=0.1))


def test_penalised_sets_are_held_to_safe_when_divergence_decides() -> None:
    of = golden(PENALISED_PROMPTS)
    kv.assert_matches_golden(outputs(slightly, PENALISED_PROMPTS), of)
    assert ReasonCode.DEGENERATE in failure(outputs(looping, PENALISED_PROMPTS), of).codes
    repeated = failure(
        outputs(
            lambda i: " ".join(f"a very gentle soul, {prose(50 * i + k, 1)}" for k in range(30)),
            of.prompt_set,
        ),
        of,
    )
    assert ReasonCode.PENALTIES in repeated.codes


def test_lost_answers_fail_and_are_named() -> None:
    of = golden(TASKS, text=str, logprobs=False)
    kv.assert_matches_golden(outputs(lambda i: f"It is {i}.", TASKS), of)
    error = failure(outputs(lambda i: str(i % 16), TASKS), of)
    assert error.codes == (ReasonCode.RECALL,)
    assert "right 32 -> 16 of 32 answers" in str(error)
    assert '    lost: the right answer "16"' in str(error).split("\n")


def test_the_limits_are_the_teams() -> None:
    limits = kv.Limits(degenerate_excess=0.9)
    kv.assert_matches_golden(outputs(looping), GOLDEN, match="safe", limits=limits)
    strict = kv.Limits(delta_nll=0.001, kld=0.0001)
    failure(outputs(slightly), GOLDEN, scores=healthy(), limits=strict)


def test_what_too_few_prompts_leave_open_does_not_match() -> None:
    near = scores(GOLDEN.outputs, lambda i: 0.09 + 0.03 * (-1) ** i)
    error = failure(outputs(slightly), GOLDEN, scores=near)
    assert error.codes == (ReasonCode.UNDECIDED,)
    assert "more prompts like these would decide" in str(error)


def test_log_probabilities_that_are_not_finite_do_not_match() -> None:
    sick = scores(GOLDEN.outputs, lambda i: float("nan") if i == 2 else 0.0)
    assert ReasonCode.NOT_FINITE in failure(outputs(slightly), GOLDEN, scores=sick).codes
    broken = replace(GOLDEN, scores=sick)
    assert ReasonCode.BASELINE_DEGENERATE in failure(outputs(slightly), broken, scores=healthy()).codes


# The message


def test_the_message_is_short_and_ends_in_the_file_to_accept_it_in() -> None:
    message = str(failure(outputs(looping, provenance=NEWER), GOLDEN, scores=harmful()))
    head, *lines, last = message.split("\n")
    assert head == (
        "outputs that differ from the golden: 12 of 16 of small; made otherwise: vllm 0.32.0 -> 0.33.0"
    )
    assert lines[0].startswith("  delta NLL, in nats per token, is 0.575 [0.5")
    assert sum(" differs from token " in line for line in lines) == 3
    assert len(lines) < 20
    assert last == "to accept what it writes now, write anew: ref-gqa/small-256.auto.cpu.json"


def test_figures_that_are_fine_stand_beside_those_that_are_not() -> None:
    message = str(failure(outputs(slightly), GOLDEN, match="exact", scores=healthy()))
    assert "  within the limits: delta_nll 0.0" in message
    assert "(margin 0.100), kld 0.0" in message


def test_hostile_texts_and_names_reach_no_terminal() -> None:
    wild = PromptSet("::error::\n", tuple(replace(p, id=f"::{p.id}\x1b[2J") for p in PROMPTS.prompts[:8]))
    of = golden(wild, model="x; rm -rf ~\u202e", text=lambda i: AWKWARD_TEXTS[i])
    now = golden(wild, model="x; rm -rf ~\u202e", text=lambda i: AWKWARD_TEXTS[(i + 1) % 8] * 30)
    for match in WAYS:
        message = str(failure(now.outputs, of, match=match, scores=of.scores))
        assert all(line.isprintable() and not line.strip().startswith("::") for line in message.split("\n"))
        assert message.endswith(", write anew: x-rm--rf/error-256.auto.cpu.json")


# Several sets


def planned(*goldens: Golden, score: Callable[[Golden], ScoreSet] = healthy) -> PlannedGoldens:
    return PlannedGoldens(goldens, tuple(None if each.scores is None else score(each) for each in goldens))


def test_planned_outputs_are_held_to_planned_goldens_set_by_set() -> None:
    three = planned(GOLDEN, golden(PENALISED_PROMPTS), golden(TASKS, text=str, logprobs=False))
    sets = (outputs(str, TASKS), outputs(slightly), outputs(slightly, PENALISED_PROMPTS))
    kv.assert_matches_golden(PlannedOutputs(sets), three)
    kv.assert_matches_golden(sets[1], three)
    message = str(failure(PlannedOutputs(sets), three, match="exact"))
    assert message.startswith("outputs that differ from the golden: 6 of 16 of small, 6 of 16 of penalised\n")


def test_one_set_that_does_not_match_is_enough() -> None:
    both = planned(GOLDEN, golden(PENALISED_PROMPTS))
    bad = PlannedOutputs((outputs(), outputs(looping, PENALISED_PROMPTS)))
    assert ReasonCode.DEGENERATE in failure(bad, both).codes
    assert failure(PlannedOutputs((outputs(slightly), outputs(looping, PENALISED_PROMPTS))), both).codes


# What cannot be compared


@pytest.mark.parametrize("match", WAYS)
def test_another_model_is_one_line_with_advice(match: Match) -> None:
    other = outputs(slightly, provenance=replace(FULL_PROVENANCE, model_id="sha256:bb"))
    error = failure(other, GOLDEN, match=match, scores=healthy())
    assert error.codes == (ReasonCode.MODEL_CHANGED,)
    assert str(error) == (
        "small: the golden is of another model (sha256:aa, now sha256:bb), so nothing can be compared: pin "
        "the revision, or refresh the golden"
    )


@pytest.mark.parametrize("match", WAYS)
def test_other_tokens_of_a_prompt_are_one_line_with_advice(match: Match) -> None:
    now = outputs()
    asked = (replace(now.outputs[0], prompt_token_ids=(9, 9)), *now.outputs[1:])
    error = failure(replace(now, outputs=asked), GOLDEN, match=match, scores=healthy())
    assert error.codes == (ReasonCode.MODEL_CHANGED,)
    assert str(error).startswith(
        "small: the golden was asked otherwise: the tokens of 1 prompts changed (p00)"
    )
    assert "\n" not in str(error)


def test_a_conversation_in_which_the_engine_answered_otherwise_is_the_same_question() -> None:
    said = (Message("user", "Who is there?"), Message("assistant", None), Message("user", "Go on."))
    talks = replace(PROMPTS, prompts=tuple(Prompt(p.id, p.kind, messages=said) for p in PROMPTS.prompts))
    now = outputs(prompts=talks)
    asked = (replace(now.outputs[0], prompt_token_ids=(9, 9)), *now.outputs[1:])
    kv.assert_matches_golden(replace(now, outputs=asked), golden(talks), match="safe")


@pytest.mark.parametrize("match", ["exact", "divergence"])
def test_a_golden_without_log_probabilities_cannot_tell_how_far_another_engine_is(match: Match) -> None:
    error = failure(outputs(provenance=NEWER), golden(PROMPTS, logprobs=False), match=match)
    assert error.codes == (ReasonCode.TOO_LITTLE_EVIDENCE,)
    assert str(error) == (
        "small: the golden holds no log-probabilities and was made otherwise (vllm 0.32.0 -> 0.33.0), so "
        'nothing can be compared: refresh it with them (pytest --kv-golden-update=all), or use match="safe"'
    )


def test_scores_of_other_texts_are_no_scores_of_the_golden() -> None:
    other = scores(golden(PROMPTS, text=lambda i: prose(i + 9)).outputs)
    for match in WAYS:
        line = misuse(outputs(slightly, provenance=NEWER), GOLDEN, match=match, scores=other)
        assert "scores of different texts" in line
    few = replace(healthy(), scores=healthy().scores[:-1])
    assert misuse(outputs(slightly), GOLDEN, scores=few)


def test_scores_by_another_engine_than_the_outputs_are_no_scores_of_it() -> None:
    now = outputs(slightly)
    now = replace(now, spec=replace(now.spec, golden=None))
    assert "are by the golden's own engine" in misuse(now, GOLDEN, scores=GOLDEN.scores)
    assert "are by the golden's own engine" in misuse(now, planned(GOLDEN))
    theirs = replace(healthy(), spec=replace(now.spec, kv_cache_dtype="fp8_e5m2"))
    assert "are by another engine" in misuse(now, GOLDEN, scores=theirs)
    ours = replace(healthy(), spec=now.spec)
    kv.assert_matches_golden(now, GOLDEN, scores=ours)
    assert "are of another engine's texts" in misuse(now, GOLDEN, scores=replace(ours, text_of=now.spec.key))


def test_the_planned_scores_of_a_golden_that_was_made_otherwise_are_the_engines() -> None:
    now = outputs(slightly)
    now = replace(now, spec=replace(now.spec, golden=None, engine_args=(("max_model_len", "512"),)))
    seeded = replace(now.spec, golden=GOLDEN.variant).key
    kv.assert_matches_golden(now, GOLDEN, scores=replace(healthy(), spec=now.spec, text_of=seeded))
    error = failure(now, GOLDEN, match="exact", scores=replace(harmful(), spec=now.spec, text_of=seeded))
    assert "made otherwise: engine_args.max_model_len none -> 512" in str(error)


def test_outputs_that_differ_need_the_engines_scores() -> None:
    assert "so give scores" in misuse(outputs(slightly), GOLDEN)
    assert "so give scores" in misuse(outputs(slightly), PlannedGoldens((GOLDEN,), (None,)))


def test_a_set_without_its_golden_is_used_wrongly() -> None:
    both = PlannedOutputs((outputs(), outputs(prompts=PENALISED_PROMPTS)))
    assert "no golden of the prompt set penalised was given, but of small" in misuse(both, GOLDEN)
    assert "no golden of the prompt set small" in misuse(outputs(), PlannedGoldens((), ()))


def test_a_golden_of_other_prompts_is_to_be_refreshed() -> None:
    other = golden(replace(PROMPTS, prompts=PROMPTS.prompts[1:]))
    assert "of other prompts or another sampling" in misuse(outputs(), other)
    shorter = golden(replace(PROMPTS, sampling=replace(PROMPTS.sampling, max_tokens=9)))
    assert "of other prompts or another sampling" in misuse(outputs(), shorter)


def test_outputs_that_are_missing_are_used_wrongly() -> None:
    now = outputs()
    assert "cannot be paired" in misuse(replace(now, outputs=now.outputs[1:]), GOLDEN)
    assert "output holds no outputs" in misuse(PlannedOutputs(()), GOLDEN)
    assert "output holds no outputs" in misuse(replace(now, outputs=()), replace(GOLDEN, outputs=now))


def test_one_output_proves_nothing() -> None:
    one = prompt_set(1)
    of, now = golden(one), outputs(lambda _: prose(9), one)
    assert "at least two outputs" in misuse(now, of, match="safe")
    assert "at least two outputs" in misuse(now, of, scores=healthy(of))


def test_one_scored_text_has_no_interval() -> None:
    of = golden(PROMPTS, text=lambda i: "" if i else prose(0))
    loose = kv.Limits(baseline_degenerate=1.0)
    now = outputs(lambda i: "" if i else prose(9))
    assert "scores of at least two texts" in misuse(now, of, scores=healthy(of), limits=loose)


@pytest.mark.parametrize(
    ("arguments", "how", "line"),
    [
        ((["text"], GOLDEN), {}, "output takes an OutputSet or planned outputs, not list of str"),
        ((outputs(), outputs()), {}, "golden takes a Golden or planned goldens, not OutputSet"),
        ((outputs(), GOLDEN), {"limits": None}, "limits takes Limits, not None"),
        ((outputs(), GOLDEN), {"scores": [1]}, "scores takes a ScoreSet, not list of int"),
        (
            (outputs(), GOLDEN),
            {"match": "same\n"},
            "match is one of exact, divergence, safe, not 'same\\n'",
        ),
        (
            (outputs(), GOLDEN),
            {"match": ["exact"]},
            "match is one of exact, divergence, safe, not ['exact']",
        ),
        (
            (outputs(), planned(GOLDEN)),
            {"scores": healthy()},
            "leave scores out: planned goldens bring their own",
        ),
    ],
)
def test_arguments_of_other_types_are_named(arguments: Any, how: Any, line: str) -> None:
    assert misuse(*arguments, **how) == f"assert_matches_golden: {line}"


def test_the_prompt_whose_text_became_least_probable_is_shown_first() -> None:
    now = healthy()
    values = np.frombuffer(now.scores[6].logprobs, "<f4") - 9
    worse = (
        *now.scores[:6],
        replace(now.scores[6], logprobs=values.astype("<f4").tobytes()),
        *now.scores[7:],
    )
    message = str(failure(outputs(slightly), GOLDEN, scores=replace(now, scores=worse)))
    shown = [line for line in message.split("\n") if " differs from token " in line]
    assert shown[0] == "  small/p06 differs from token 0 on:"
