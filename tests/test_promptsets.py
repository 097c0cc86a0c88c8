"""Options change what a run takes from its prompt sets, and leave tasks what makes them tasks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from verdict_samples import prompt_set

from pytest_kvcache.errors import UsageError
from pytest_kvcache.prompts.needles import LONGEST, SHORTEST_LIMIT, long_prompts
from pytest_kvcache.promptsets import OwnPrompts, PromptSource, own_sets
from pytest_kvcache.records import Prompt, PromptSet, Sampling

TASKS = PromptSet("tasks", tuple(Prompt(f"t{i:02}", "sum", text=f"{i} is", answer=str(i)) for i in range(4)))


@pytest.mark.parametrize(("name", "replaced"), [("smoke", False), ("smoke-tasks", True)])
def test_a_teams_tasks_take_the_place_of_tasks_alone(name: str, replaced: bool) -> None:
    loaded = PromptSource(own=(OwnPrompts(TASKS),)).load(name, Path(), None)
    assert (loaded.prompts == TASKS.prompts) is replaced


@pytest.mark.parametrize(
    ("name", "replaced"),
    [("smoke", True), ("smoke-tasks", False), ("smoke-conditions", False), ("full-continued", False)],
)
def test_a_teams_other_prompts_leave_tasks_and_what_is_made_for_a_purpose_alone(
    name: str, replaced: bool
) -> None:
    own = prompt_set(4)
    assert (PromptSource(own=(OwnPrompts(own),)).load(name, Path(), None).prompts == own.prompts) is replaced


def test_a_teams_tasks_and_other_prompts_each_take_their_place_in_one_run(tmp_path: Path) -> None:
    files = [tmp_path / "plain.jsonl", tmp_path / "tasks.jsonl"]
    files[0].write_text('{"text": "One"}\n')
    files[1].write_text('{"text": "Two", "answer": "2"}\n')
    for order in (files, files[::-1]):
        source = PromptSource(own=own_sets(order))
        loaded = {name: source.load(name, Path(), None).prompts for name in ("smoke", "smoke-tasks")}
        assert {name: [p.text for p in found] for name, found in loaded.items()} == {
            "smoke": ["One"],
            "smoke-tasks": ["Two"],
        }


@pytest.mark.parametrize(("answer", "kind"), [("", "without"), (', "answer": "2"', "with")])
def test_two_files_of_a_kind_are_refused(tmp_path: Path, answer: str, kind: str) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        file.write_text(f'{{"text": "One"{answer}}}\n')
    with pytest.raises(UsageError) as caught:
        own_sets(files)
    assert str(caught.value) == (
        f"--kv-prompts: {files[0]} and {files[1]} both hold prompts {kind} answers: put them into one file"
    )


def own_source(folder: Path, header: str, answer: str = "", max_tokens: int | None = None) -> PromptSource:
    """Return where a run takes its sets from that was given one prompt below this header."""
    file = folder / "own.jsonl"
    file.write_text(f'{{"sampling": {header}}}\n{{"text": "Two"{answer}}}\n')
    return PromptSource(own=own_sets([file]), max_tokens=max_tokens)


@pytest.mark.parametrize("name", ["smoke-tasks", "full-tasks"])
def test_what_the_header_of_own_tasks_says_about_sampling_holds_for_them(tmp_path: Path, name: str) -> None:
    source = own_source(tmp_path, '{"max_tokens": 200, "stop": ["###"]}', ', "answer": "2"', max_tokens=400)
    assert source.load(name, Path(), None).sampling == Sampling(max_tokens=200, stop=("###",))


def test_what_the_header_of_own_prompts_leaves_open_stays_as_each_shipped_set_has_it(tmp_path: Path) -> None:
    source = own_source(tmp_path, '{"stop": ["###"]}')
    assert source.load("smoke", Path(), None).sampling == Sampling(max_tokens=160, stop=("###",))
    assert source.load("smoke-penalised", Path(), None).sampling == Sampling(
        max_tokens=128, repetition_penalty=1.1, stop=("###",)
    )


@pytest.mark.parametrize(("option", "marker", "tokens"), [(None, None, 40), (None, 8, 8), (400, 8, 400)])
def test_a_marker_wins_over_the_header_of_own_prompts_and_the_option_over_both(
    tmp_path: Path, option: int | None, marker: int | None, tokens: int
) -> None:
    source = own_source(tmp_path, '{"max_tokens": 40}', max_tokens=option)
    assert source.load("smoke", Path(), marker).sampling.max_tokens == tokens


def test_own_prompts_with_other_sampling_are_another_set(tmp_path: Path) -> None:
    keys = {
        own_source(tmp_path, header, ', "answer": "2"').load("smoke-tasks", Path(), None).key
        for header in ("{}", '{"stop": ["###"]}', '{"max_tokens": 200}')
    }
    assert len(keys) == 3


def test_the_header_of_own_prompts_changes_nothing_of_sets_whose_place_they_do_not_take(
    tmp_path: Path,
) -> None:
    source = own_source(tmp_path, '{"max_tokens": 200}', ', "answer": "2"')
    for name in ("smoke", "smoke-stops", "smoke-turns"):
        assert source.load(name, Path(), None) == PromptSource().load(name, Path(), None)


def test_penalties_in_the_header_of_own_prompts_are_refused_for_the_sets_differ_by_them(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError) as caught:
        own_source(tmp_path, '{"repetition_penalty": 1.2}')
    assert str(caught.value) == (
        f"--kv-prompts: the header of {tmp_path / 'own.jsonl'} sets repetition_penalty, in which the shipped "
        "sets differ: leave that out, or name the file in the marker of a test of your own"
    )


def test_penalties_in_the_header_of_own_tasks_hold(tmp_path: Path) -> None:
    source = own_source(tmp_path, '{"repetition_penalty": 1.2}', ', "answer": "2"')
    sampling = source.load("smoke-tasks", Path(), None).sampling
    assert sampling == Sampling(max_tokens=32, repetition_penalty=1.2)


@pytest.mark.parametrize(
    ("option", "marker", "prose", "tasks"),
    [(None, None, 160, 32), (None, 8, 8, 8), (400, None, 400, 32), (400, 8, 400, 8)],
)
def test_the_option_wins_over_marker_and_set_but_tasks_know_how_long_answers_are(
    option: int | None, marker: int | None, prose: int, tasks: int
) -> None:
    source = PromptSource(max_tokens=option)
    assert source.load("smoke", Path(), marker).sampling == Sampling(max_tokens=prose)
    assert source.load("smoke-tasks", Path(), marker).sampling == Sampling(max_tokens=tasks)


def test_a_set_that_a_test_made_itself_is_treated_like_a_shipped_one() -> None:
    source = PromptSource(max_tokens=400)
    assert source.load(prompt_set(4), Path(), None).sampling.max_tokens == 400
    assert source.load(TASKS, Path(), None) == TASKS


def test_long_texts_are_as_long_as_is_asked_for() -> None:
    shipped = PromptSource().load("full-long", Path(), None)
    longer = PromptSource(context=lambda: 12_000).load("full-long", Path(), None)
    assert (longer.name, longer.sampling, longer.is_tasks) == ("full-long", shipped.sampling, True)
    assert Counter(prompt.kind for prompt in longer.prompts) == {
        "needle-3000": 6,
        "needle-6000": 6,
        "needle-12000": 9,
    }
    words = [len(prompt.content.split()) for prompt in longer.prompts]
    of_shipped = [len(prompt.content.split()) for prompt in shipped.prompts]
    assert sum(words) == pytest.approx(sum(of_shipped) * 12_000 / LONGEST, rel=0.05)


def test_long_texts_of_the_shipped_length_are_the_shipped_ones() -> None:
    shipped = PromptSource().load("full-long", Path(), None)
    assert PromptSource(context=lambda: LONGEST).load("full-long", Path(), None) == shipped


@pytest.mark.parametrize("tokens", [SHORTEST_LIMIT, 20_000])
def test_every_answer_stands_once_in_its_long_text_and_no_sentence_comes_twice(tokens: int) -> None:
    for prompt in long_prompts(tokens):
        text, *question = prompt.content.split("\n\n")
        assert prompt.answer is not None
        assert text.count(prompt.answer) == 1
        assert question
        sentences = text.split(". ")
        assert len(set(sentences)) == len(sentences)


def test_the_length_of_long_texts_changes_no_other_set() -> None:
    source = PromptSource(context=lambda: 12_000)
    for name in ("full", "full-tasks", "smoke"):
        assert source.load(name, Path(), None) == PromptSource().load(name, Path(), None)


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    for text in ("one", "other"):
        file.write_text(f'{{"text": "{text}"}}\n')
        assert PromptSource().load("own.jsonl", tmp_path, None).prompts[0].text == text
