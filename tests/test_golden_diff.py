"""What changed in a golden is told in a minute's reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from golden_samples import AWKWARD_TEXTS, FULL_PROVENANCE, awkward, golden, penalised
from verdict_samples import ids_of, output, prompt_set, prose, scores

from pytest_kvcache.evidence import Evidence
from pytest_kvcache.findings import parting
from pytest_kvcache.golden import as_kept
from pytest_kvcache.golden_diff import (
    GoldenChange,
    compare_goldens,
    differences,
    same_provenance,
    told_provenance,
)
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Counts, Golden, Output, OutputSet, Prompt, PromptSet, Provenance, Sampling

LOOP = prose(1, 10) + " a gentle soul," * 60
TASKS = PromptSet(
    "tasks", tuple(Prompt(f"t{i}", "copy", text=f"Copy {i}.", answer=str(i)) for i in range(4)), Sampling()
)


def looping(i: int) -> str:
    return LOOP if i == 3 else prose(i)


def changed(**provenance: Any) -> Golden:
    return golden(provenance=replace(FULL_PROVENANCE, **provenance))


def with_outputs(of: Golden, change: Callable[[Output], Output]) -> Golden:
    return replace(of, outputs=replace(of.outputs, outputs=tuple(map(change, of.outputs))))


def told(change: GoldenChange) -> str:
    return "\n".join(change.lines)


# Changes


def test_a_golden_where_there_was_none_is_new_and_says_how_it_stands() -> None:
    change = compare_goldens(None, golden(text=looping))
    assert (change.kind, change.worse) == ("new", False)
    assert change.lines == ("ref-gqa auto small (256 tokens, cpu): new, degenerate 1 of 8 outputs",)


def test_what_comes_again_is_unchanged() -> None:
    for each in (golden(), penalised(), golden(logprobs=False), awkward()):
        change = compare_goldens(each, each)
        assert (change.kind, change.worse, len(change.lines)) == ("unchanged", False, 1)


def test_what_differs_between_any_two_runs_is_no_change() -> None:
    again = changed(device_ids=(3,), seconds_to_load=9.0, model_path="/elsewhere", kv_capacity_tokens=1)
    again = replace(again, outputs=replace(again.outputs, seconds=99.0))
    assert compare_goldens(golden(), again).kind == "unchanged"
    assert compare_goldens(as_kept(golden()), again).kind == "unchanged"


def test_another_provenance_alone_is_told_fact_by_fact() -> None:
    versions = (("python", "3.12.1"), ("torch", "2.13.0"), ("vllm", "0.33.0"))
    change = compare_goldens(golden(), changed(versions=versions, threads=4, cpu_flags=("avx2",)))
    assert change.kind == "provenance"
    assert change.lines[1] == (
        "  provenance: threads 1 -> 4, python 3.11.7 -> 3.12.1, vllm 0.32.0 -> 0.33.0, "
        "cpu_flags.avx512f yes -> none"
    )


def test_other_engine_arguments_are_told_without_their_secrets() -> None:
    change = compare_goldens(golden(), golden(hf_token='"hf_abcdefghijklmnopqrstuvwx"', seed="1"))
    assert change.kind == "provenance"
    assert change.lines[1] == '  provenance: engine_args.hf_token none -> "***", engine_args.seed none -> 1'
    assert "abcdef" not in told(change)


def test_some_texts_that_changed_are_named() -> None:
    change = compare_goldens(golden(), golden(text=lambda i: prose(i + 9 * (i % 2))))
    assert change.lines[1] == "  4 of 8 outputs: p01, p03, p05, p07"


def test_other_texts_are_counted_and_shown_where_they_part() -> None:
    change = compare_goldens(
        golden(), golden(text=lambda i: f"{prose(i)[:-30]} of France" * (1 + 9 * (i == 3)))
    )
    assert change.kind == "text"
    assert change.lines[1] == "  8 of 8 outputs"
    assert "they part at token 112 (median)" in change.lines[2]
    assert sum(" differs from token " in line for line in change.lines) == 3


def test_a_golden_that_got_worse_says_so_in_its_headline() -> None:
    change = compare_goldens(golden(), golden(text=looping))
    assert change.worse
    assert change.lines[0] == "ref-gqa auto small (256 tokens, cpu): other texts, and it got worse"
    assert "degenerate 0 -> 1 of 8 outputs" in change.lines[2]
    assert '      loop: " a gentle soul," 60 times' in change.lines
    assert not compare_goldens(golden(text=looping), golden()).worse


def test_lost_answers_make_a_golden_of_tasks_worse_and_loops_do_not() -> None:
    right, lost = (golden(TASKS, text=text, logprobs=False) for text in (str, lambda i: str(i % 3)))
    change = compare_goldens(right, lost)
    assert change.worse
    assert "right 4 -> 3 of 4 answers" in told(change)
    assert 'lost: the right answer "3"' in told(change)
    repeated = golden(TASKS, text=lambda i: f"{i} " + "and so on " * 99, logprobs=False)
    assert not compare_goldens(right, repeated).worse


def test_an_empty_output_where_there_was_text_is_worse() -> None:
    assert compare_goldens(golden(), golden(text=lambda i: "" if i == 1 else prose(i))).worse


def test_changed_new_and_lost_prompts_are_named() -> None:
    old, new = prompt_set(8), prompt_set(9)
    prompts = (replace(new.prompts[0], text="Write."), *new.prompts[2:])
    change = compare_goldens(golden(old), golden(replace(new, prompts=prompts)))
    assert change.kind == "prompts"
    assert change.lines[1:4] == ("  prompts changed: p00", "  prompts new: p08", "  prompts gone: p01")
    assert change.lines[4] == "  without an old output beside them: degenerate 0 of 2 outputs"


def test_texts_are_compared_only_for_prompts_that_stay() -> None:
    prompts = prompt_set(8)
    other = replace(prompts, prompts=(replace(prompts.prompts[3], text="Go on."), *prompts.prompts[4:]))
    change = compare_goldens(golden(prompts), golden(other, text=lambda i: looping(i + 3)))
    assert (change.kind, change.worse) == ("prompts", False)
    assert change.lines[3] == "  without an old output beside them: degenerate 1 of 1 outputs"
    assert "outputs:" not in told(change)


def test_another_order_or_sampling_of_the_same_prompts_is_told() -> None:
    prompts = prompt_set(8)
    turned = replace(prompts, prompts=prompts.prompts[::-1])
    assert "the order of the prompts changed" in compare_goldens(golden(prompts), golden(turned)).lines[1]
    cooler = replace(prompts, sampling=Sampling(temperature=0.5, stop=("\n",)))
    line = compare_goldens(golden(prompts), golden(cooler)).lines[1]
    assert line == "  sampling: temperature 0.0 -> 0.5, stop () -> ('\\n',)"


def test_other_tokens_of_the_same_prompts_are_a_change_of_the_prompts() -> None:
    other = with_outputs(golden(), lambda each: replace(each, prompt_token_ids=(1, 2, 4)))
    change = compare_goldens(golden(), other)
    assert change.kind == "prompts"
    assert "tokenizer or chat template" in change.lines[1]


def test_other_log_probabilities_of_the_same_texts_are_measured() -> None:
    old = golden()
    change = compare_goldens(old, replace(old, scores=scores(old.outputs, lambda i: 0.02 + 0.001 * i)))
    assert change.kind == "scores"
    assert "of the 8 texts that stay the same: delta NLL 0.02" in change.lines[1]


def test_log_probabilities_that_come_or_go_are_told() -> None:
    with_them, without = golden(), golden(logprobs=False)
    assert compare_goldens(with_them, without).lines[1] == "  log-probabilities: stored -> none"
    assert compare_goldens(without, with_them).lines[1] == "  log-probabilities: none -> stored"
    assert compare_goldens(with_them, replace(with_them, floor=None)).kind == "scores"


def parted_at(token: int) -> Callable[[int], str]:
    """Return texts that begin as usual and go on otherwise."""
    return lambda i: " ".join([*prose(i).split()[:token], "elsewhere", *prose(i + 50).split()[token + 1 :]])


def test_log_probabilities_of_other_texts_are_compared_as_far_as_both_had_read_the_same() -> None:
    new = golden(text=parted_at(30))
    new = replace(new, scores=scores(new.outputs, lambda i: 0.02 + 0.001 * i))
    change = compare_goldens(golden(), new)
    assert (change.kind, change.worse) == ("text", False)
    assert "log-probabilities where both had read the same, at 248 positions of 8 prompts: " in told(change)
    assert "delta NLL 0.02" in told(change)
    assert "same-top 0.968 [0.968, 0.968]" in told(change)


def test_texts_that_part_at_once_are_compared_at_that_position_alone() -> None:
    change = compare_goldens(golden(), golden(text=parted_at(0)))
    assert "at 8 positions of 8 prompts: KLD " in told(change)
    assert "delta NLL" not in told(change)


def test_a_figure_of_fewer_prompts_says_so() -> None:
    new = golden(text=lambda i: parted_at(5 * (i < 3))(i))
    assert "at 23 positions of 8 prompts: delta NLL 0.000 [0.000, 0.000] of 3 prompts, KLD" in told(
        compare_goldens(golden(), new)
    )


def test_one_prompt_has_no_interval() -> None:
    old = golden(prompt_set(1))
    new = golden(prompt_set(1), text=lambda i: prose(i + 50))
    assert "log-probabilities changed" in told(compare_goldens(old, new))


def test_log_probabilities_after_other_tokens_of_the_prompts_are_not_compared() -> None:
    new = golden()
    new = replace(new, scores=scores(new.outputs, lambda _: 0.7))
    new = with_outputs(new, lambda each: replace(each, prompt_token_ids=(1, 2, 4)))
    change = compare_goldens(golden(), new)
    assert "  log-probabilities: none can be compared, for the prompts are other tokens" in change.lines
    assert not change.worse


@pytest.mark.parametrize("text", [prose, parted_at(30)], ids=["same texts", "other texts"])
def test_harm_beyond_the_limit_of_the_policy_makes_a_golden_worse(text: Callable[[int], str]) -> None:
    new = golden(text=text)
    new = replace(new, scores=scores(new.outputs, lambda i: 0.7 + 0.01 * i))
    change = compare_goldens(golden(), new)
    assert change.worse
    assert change.lines[0].endswith(", and it got worse")
    assert " (beyond the limit 0.100), KLD " in told(change)
    assert not compare_goldens(golden(), new, Limits(delta_nll=1.0, kld=1.0)).worse
    assert not compare_goldens(new, golden(text=text), Limits(kld=1.0)).worse


def test_more_repetition_under_penalties_makes_a_golden_worse() -> None:
    repeated = penalised(text=lambda i: prose(i, 60) + " " + prose(i, 20) * (i == 2))
    change = compare_goldens(penalised(), repeated)
    assert change.worse
    assert "degenerate 0 -> 0 of 4 outputs, repeating under penalties 0 -> 1" in told(change)
    assert not compare_goldens(repeated, penalised()).worse
    assert not compare_goldens(golden(), golden(text=lambda i: prose(i, 60) + " " + prose(i, 20))).worse


def test_what_a_hostile_model_wrote_reaches_no_terminal() -> None:
    prompts = PromptSet("\x1b[2J", tuple(Prompt(f"::error::{i}\u202e", "k", text="?") for i in range(8)))
    wild = golden(prompts, text=lambda i: AWKWARD_TEXTS[i] * 9, model="::m\n")
    tame = golden(prompts, model="::m\n")
    evidence = Evidence(prompts, tame.outputs, wild.outputs)
    lines = [*compare_goldens(tame, wild).lines, *compare_goldens(wild, tame).lines]
    lines += [*compare_goldens(None, wild).lines, *differences([evidence]).split("\n")]
    for line in lines:
        assert line.isprintable()
        assert not line.strip().startswith("::")


# Where two texts part


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("the capital of France is Paris", "the capital of France of France", "the capital of France"),
        ("the capital is Paris", "the capital is Parma", "the capital is"),
        ("the capital is Paris", "the capital is Parisian", "the capital is"),
        ("the capital of France's", "the capital of France is", "the capital of France"),
        ("same", "same", "same"),
        ("", "text", ""),
        ("text", "text goes on", "text"),
        ("法国的首都是巴黎。", "法国的首都是法国。", "法国的首都是"),
        ("x" * 40 + "a", "x" * 40 + "b", "x" * 40),
        ("a\n\nb", "a\n\nc", "a\n\n"),
    ],
)
def test_texts_part_where_a_word_begins(one: str, other: str, common: str) -> None:
    assert parting(one, other) == parting(other, one) == len(common)


def test_a_place_is_never_beyond_the_first_difference() -> None:
    texts = [prose(i % 3, 9)[: 5 * i] + mark for i in range(9) for mark in ("", " ", "x", "\u0301", "中")]
    for one, other in pairwise(texts):
        at = parting(one, other)
        assert one[:at] == other[:at]


# Differences from a golden


def beside(old: str, new: str, ids: tuple[int, ...] | None = None, **how: Any) -> list[str]:
    """Return the lines that show one output beside the golden's."""
    of = golden(prompt_set(1), text=lambda _: old, logprobs=False)
    now = output("p00", new)
    now = replace(now, token_ids=now.token_ids if ids is None else ids, **how)
    ours = replace(of.outputs, outputs=(now,))
    return differences([Evidence(of.prompt_set, of.outputs, ours)]).split("\n")[2:]


def test_the_first_differing_token_is_shown_in_its_context() -> None:
    opening = "As is known, the capital of France"
    assert beside(f"{opening} is Paris, and", opening + " of France" * 40) == [
        "  small/p00 differs from token 7 on:",
        "    golden …s known, the capital of France| is Paris, and",
        f"    now    …s known, the capital of France|{' of France' * 5} of Franc…",
        '    loop: " of France" 41 times',
    ]


def test_the_same_text_in_other_tokens_is_shown_by_its_tokens() -> None:
    text = "one two three"
    first, *_ = ids_of(text)
    assert beside(text, text, (first, 7, 8, 9)) == [
        "  small/p00 has the same text, in other tokens from token 1 on:",
        f"    golden tokens {first}| {' '.join(map(str, ids_of(text)[1:]))}",
        f"    now    tokens {first}| 7 8 9",
    ]


def test_the_same_tokens_that_read_otherwise_are_shown_by_their_text() -> None:
    head, *_ = beside("one two", "one too", ids_of("one two"))
    assert head == "  small/p00 has the same tokens, but another text:"


def test_a_text_that_ends_where_the_other_goes_on_ends_visibly() -> None:
    whole = prose(3, 20)
    begun = whole[: whole.index(" ", 40)]
    assert beside(whole, begun)[2].endswith("| (ends)")
    assert beside(begun, whole)[1].endswith("| (ends)")


def test_equal_outputs_that_ended_otherwise_say_so() -> None:
    assert beside("one two", "one two", finish_reason="stop") == ["  small/p00 ended by length, now by stop:"]


def test_the_worst_three_prompts_are_shown_first() -> None:
    of = golden(prompt_set(24))
    ours = golden(prompt_set(24), text=lambda i: LOOP if i in (11, 17) else prose(i + 40))
    text = differences([Evidence(of.prompt_set, of.outputs, ours.outputs)])
    shown = [line.split()[0] for line in text.split("\n") if " differs from token " in line]
    assert len(shown) == 3
    assert set(shown[:2]) == {"small/p11", "small/p17"}


def test_texts_that_became_less_probable_are_shown_before_others() -> None:
    of = golden(prompt_set(24))
    ours = golden(prompt_set(24), text=lambda i: prose(i + 40))
    now = scores(of.outputs, lambda i: 0.01 * ((5 * i) % 24))
    text = differences([Evidence(of.prompt_set, of.outputs, ours.outputs, of.scores, now)])
    shown = [line.split()[0] for line in text.split("\n") if " differs from token " in line]
    assert shown == ["small/p19", "small/p14", "small/p09"]


# Provenance


@pytest.mark.parametrize(
    ("fact", "value", "name"),
    [
        ("kv_cache_dtype", "fp8_e4m3", "kv_cache_dtype"),
        ("attention_backend", "OTHER", "attention_backend"),
        ("device", "another processor", "device"),
        ("threads", 2, "threads"),
        ("cpu_flags", ("avx2", "avx512f", "amx"), "cpu_flags.amx"),
        ("versions", (("python", "3.11.7"), ("torch", "2.14.0"), ("vllm", "0.32.0")), "versions.torch"),
        ("environment", (), "environment.VLLM_NO_USAGE_STATS"),
        ("max_num_seqs", 8, "max_num_seqs"),
        ("model_id", "sha256:bb", "model_id"),
        ("block_size", 16, "block_size"),
        ("prefix_caching", False, "prefix_caching"),
        ("enforce_eager", True, "enforce_eager"),
        ("chunked_prefill", False, "chunked_prefill"),
        ("scales_differ", "layer 3 has others", "scales_differ"),
    ],
)
def test_what_can_change_an_output_is_no_equal_provenance(fact: str, value: object, name: str) -> None:
    other = replace(FULL_PROVENANCE, **{fact: value})  # type: ignore[arg-type]
    assert name in same_provenance(made(), made(other))
    assert same_provenance(made(), made(other)) == same_provenance(made(other), made())


def test_another_number_of_preemptions_is_no_equal_provenance() -> None:
    one, other = (replace(made(), counts=Counts(cached_tokens=n, preemptions=n)) for n in (0, 3))
    assert same_provenance(one, other) == ("preemptions",)
    assert told_provenance(one, other) == "preemptions 0 -> 3"


@pytest.mark.parametrize(
    "known", [{"chunked_prefill": False, "checkpoint_scales": 2}, {"enforce_eager": True}]
)
def test_what_one_side_does_not_know_is_no_difference(known: dict[str, Any]) -> None:
    unknown = dict.fromkeys(("enforce_eager", "chunked_prefill", "checkpoint_scales", "scales_differ"))
    one = made(replace(FULL_PROVENANCE, **unknown))  # type: ignore[arg-type]
    other = replace(made(replace(FULL_PROVENANCE, **known)), counts=Counts(preemptions=3))
    assert same_provenance(one, other) == same_provenance(other, one) == ()
    assert told_provenance(one, other) == ""


def test_other_engine_arguments_or_another_revision_are_no_equal_provenance() -> None:
    changes = {"revision": "0123abc", "engine_args": (("enforce_eager", "true"),)}
    other = replace(made(), spec=replace(made().spec, **changes))  # type: ignore[arg-type]
    assert same_provenance(made(), other) == ("revision", "engine_args.enforce_eager")


def test_what_changes_no_output_leaves_provenance_equal() -> None:
    other = replace(
        FULL_PROVENANCE,
        model="/a/copy",
        model_path="/a/copy",
        device_ids=(5,),
        environment=(("VLLM_CPU_OMP_THREADS_BIND", "5"), ("VLLM_NO_USAGE_STATS", "1")),
        seconds_to_load=77.0,
        kv_capacity_tokens=3,
        scoring="decode",
        scoring_difference=None,
        versions=(("python", "3.13.0"), ("pytest_kvcache", "9"), ("torch", "2.13.0"), ("vllm", "0.32.0")),
    )
    assert same_provenance(made(), made(other)) == ()


def made(provenance: Provenance = FULL_PROVENANCE) -> OutputSet:
    return replace(golden().outputs, provenance=provenance)
