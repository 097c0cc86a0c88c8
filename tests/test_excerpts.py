"""Excerpts show the worst prompts behind a red verdict, each once, with the set they came from."""

from __future__ import annotations

from dataclasses import replace

from verdict_samples import PENALISED, evidence, prompt_set, prose, verdict_on

from pytest_kvcache.excerpts import COUNT, choose_excerpts

LOOP = prose(1, 10) + " a gentle soul," * 60


def test_an_excerpt_says_of_which_prompt_set_it_is() -> None:
    penalised = prompt_set(sampling=PENALISED)
    other = replace(penalised, prompts=tuple(replace(p, text=f"{p.text}!") for p in penalised.prompts))
    sets = [evidence(), evidence(other, text=lambda _: LOOP)]
    chosen = choose_excerpts(verdict_on(*sets), sets)
    assert [excerpt.prompt_set for excerpt in chosen] == ["penalised"] * COUNT
    assert len({excerpt.prompt_text for excerpt in chosen}) == COUNT
    assert all(excerpt.candidate_text == LOOP and excerpt.signals for excerpt in chosen)


def test_a_prompt_of_several_sets_is_shown_once() -> None:
    sets = [evidence(text=lambda i: LOOP if i == 3 else prose(i), delta=lambda _: 1.0)]
    sets.append(evidence(replace(prompt_set(), name="again"), text=lambda i: LOOP if i == 3 else prose(i)))
    chosen = choose_excerpts(verdict_on(*sets), sets)
    assert [excerpt.prompt_id for excerpt in chosen].count("p03") == 1
    assert chosen[0].prompt_id == "p03"


def test_a_lost_answer_is_shown_and_one_that_the_baseline_does_not_know_is_not() -> None:
    plain = prompt_set()
    asked = tuple(replace(p, text=f"{p.text}?", answer="yes") for p in plain.prompts)
    lost = evidence(
        replace(plain, name="tasks", prompts=asked),
        text=lambda i: "no" if i % 2 else "yes",
        baseline_text=lambda i: "no" if i == 1 else "yes",
    )
    sets = [evidence(), replace(lost, baseline_scores=None, candidate_scores=None)]
    chosen = choose_excerpts(verdict_on(*sets), sets)
    assert [(excerpt.prompt_set, excerpt.prompt_id) for excerpt in chosen] == [
        ("tasks", "p03"),
        ("tasks", "p05"),
        ("tasks", "p07"),
    ]
    assert {(excerpt.baseline_text, excerpt.candidate_text) for excerpt in chosen} == {("yes", "no")}


def test_a_pass_needs_no_excerpts() -> None:
    assert choose_excerpts(verdict_on(evidence()), [evidence()]) == ()
