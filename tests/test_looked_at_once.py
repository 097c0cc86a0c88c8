"""What is measured once for several questions gives each of them the answer that it gets by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from unittest.mock import Mock

import pytest
from verdict_samples import evidence, output, prompt_set, prose, verdict_on

from pytest_kvcache.excerpts import choose_excerpts
from pytest_kvcache.measures.degeneration import Findings, find_degeneration, find_in_pair
from pytest_kvcache.measures.near_loops import find_near_loops
from pytest_kvcache.records import Output, Prompt, PromptSet, Score, VerdictKind, content_key

LOOP = prose(1, 10) + " a gentle soul," * 60
WRITTEN = [
    output("p", text) for text in (prose(1), prose(2, 400), LOOP, f"{prose(3)} \ufffd\ufffd {prose(4)}", "")
]
PROMPTS = [Prompt("p", "chat", text="Write."), Prompt("p", "chat", text="Repeat 'a gentle soul,' 60 times.")]


@pytest.mark.parametrize(("one", "other", "prompt"), [*product(WRITTEN, WRITTEN, PROMPTS)])
def test_a_pair_is_found_what_its_outputs_are_found_each(one: Output, other: Output, prompt: Prompt) -> None:
    assert find_in_pair(one, other, prompt=prompt) == (
        Findings(
            find_degeneration(one, prompt=prompt), find_degeneration(one, prompt=prompt, baseline=other)
        ),
        Findings(
            find_degeneration(other, prompt=prompt), find_degeneration(other, prompt=prompt, baseline=one)
        ),
    )


def test_each_output_of_a_pair_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    search = Mock(side_effect=find_near_loops)
    monkeypatch.setattr("pytest_kvcache.measures.degeneration.find_near_loops", search)
    find_in_pair(WRITTEN[0], WRITTEN[1], prompt=PROMPTS[0])
    assert search.call_count == 2


def test_a_verdict_and_its_excerpts_read_each_score_once() -> None:
    read: Counter[str] = Counter()

    class Counted(tuple[Score, ...]):
        def __iter__(self) -> Iterator[Score]:
            for score in super().__iter__():
                read[score.prompt_id] += 1
                yield score

    of = evidence(text=lambda _: LOOP)
    assert of.candidate_scores
    of = replace(
        of, candidate_scores=replace(of.candidate_scores, scores=Counted(of.candidate_scores.scores))
    )
    verdict = verdict_on(of)
    assert verdict.verdict is VerdictKind.FAIL
    assert choose_excerpts(verdict, [of])
    assert set(read.values()) == {1}


def test_the_order_in_which_scores_are_kept_does_not_matter() -> None:
    of = evidence()
    assert of.candidate_scores
    assert of.baseline_scores
    turned = replace(
        of,
        candidate_scores=replace(of.candidate_scores, scores=of.candidate_scores.scores[::-1]),
        baseline_scores=replace(
            of.baseline_scores, scores=[*of.baseline_scores.scores[5:], *of.baseline_scores.scores[:5]]
        ),
    )
    assert list(turned.scored()) == list(of.scored())
    assert verdict_on(turned) == verdict_on(of)


def test_a_prompt_set_reckons_its_key_once_and_is_no_other_set_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reckon = Mock(side_effect=content_key)
    monkeypatch.setattr("pytest_kvcache.records.asked.content_key", reckon)
    asked, unasked = prompt_set(), prompt_set()
    assert asked.key == asked.key
    assert reckon.call_count == 1
    assert asked == unasked
    assert hash(asked) == hash(unasked)
    assert PromptSet("another", asked.prompts[1:]).key != asked.key
