"""What the shipped tasks promise, those for one symptom included."""

from __future__ import annotations

import purpose_tasks
import pytest
import tasks
from shipped_prompts import SHIPPED, answers, bodies

from pytest_kvcache.measures.recall import is_right
from pytest_kvcache.prompts import is_fixed


@pytest.mark.parametrize(("size", "prompts", "kinds"), [(tasks.SMOKE, 24, 7), (tasks.FULL, 48, 8)])
def test_a_shipped_set_of_tasks_is_what_its_script_writes(size: tasks.Size, prompts: int, kinds: int) -> None:
    shipped = SHIPPED[size.name]
    assert (tasks.FOLDER / f"{size.name}.jsonl").read_text(encoding="utf-8").splitlines() == tasks.lines_of(
        size
    )
    assert shipped.is_tasks
    assert len(shipped.prompts) == len(set(bodies(shipped))) == prompts
    assert len({prompt.kind for prompt in shipped.prompts}) == kinds


def test_no_text_of_a_task_is_in_both_tiers() -> None:
    both = bodies(SHIPPED["smoke-tasks"]) + bodies(SHIPPED["full-tasks"])
    assert len(set(both)) == len(both)


def test_a_task_is_not_answered_by_repeating_the_prompts_last_word() -> None:
    for prompt in SHIPPED["smoke-tasks"].prompts + SHIPPED["full-tasks"].prompts:
        assert not is_right(prompt.content.split()[-1], prompt)


@pytest.mark.parametrize("purpose", purpose_tasks.SETS, ids=lambda purpose: purpose.name)
def test_a_shipped_set_for_one_symptom_is_what_its_script_writes(purpose: purpose_tasks.PurposeSet) -> None:
    shipped = SHIPPED[purpose.name]
    lines = (tasks.FOLDER / f"{purpose.name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines == purpose_tasks.lines_of(purpose)
    assert shipped.is_tasks
    assert len(set(bodies(shipped))) == len(shipped.prompts)
    assert is_fixed(purpose.name)


@pytest.mark.parametrize("name", ["turns", "structured"])
def test_no_task_for_one_symptom_is_in_both_tiers(name: str) -> None:
    both = bodies(SHIPPED[f"smoke-{name}"]) + bodies(SHIPPED[f"full-{name}"])
    assert len(set(both)) == len(both)


def test_talks_begin_with_more_than_a_block_and_end_with_the_question_for_what_was_said_there() -> None:
    for prompt in SHIPPED["smoke-turns"].prompts + SHIPPED["full-turns"].prompts:
        first, *others = [message.content for message in prompt.messages if message.role == "user"]
        assert first is not None
        assert len(first.split()) > 100
        assert prompt.answer is not None
        assert is_right(first, prompt)
        assert not any(is_right(other, prompt) for other in others if other)
        assert answers(prompt) == len(others) + 1


def test_a_needle_stands_once_in_its_text_at_the_beginning_the_middle_and_the_end() -> None:
    depths = set()
    for prompt in SHIPPED["full-long"].prompts:
        text = prompt.content
        assert prompt.answer is not None
        assert text.count(prompt.answer) == 1
        depths.add(round(text.index(prompt.answer) / len(text), 1))
    assert depths == {0.1, 0.5, 0.9}


def test_stops_are_of_several_kinds_and_come_after_what_the_prompt_says() -> None:
    shipped = SHIPPED["smoke-stops"]
    assert len(shipped.prompts) == 16
    assert len({prompt.kind for prompt in shipped.prompts}) == len(shipped.sampling.stop) == 8
    assert not any(prompt.content.endswith(shipped.sampling.stop) for prompt in shipped.prompts)
