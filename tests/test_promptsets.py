"""Options change what a run takes from its prompt sets, and leave tasks what makes them tasks."""

from __future__ import annotations

from pathlib import Path

import pytest
from verdict_samples import prompt_set

from pytest_kvcache.promptsets import PromptSource
from pytest_kvcache.records import Prompt, PromptSet, Sampling

TASKS = PromptSet("tasks", tuple(Prompt(f"t{i:02}", "sum", text=f"{i} is", answer=str(i)) for i in range(4)))


@pytest.mark.parametrize(("name", "replaced"), [("smoke", False), ("smoke-tasks", True)])
def test_a_teams_tasks_take_the_place_of_tasks_alone(name: str, replaced: bool) -> None:
    loaded = PromptSource(own=TASKS).load(name, Path(), None)
    assert (loaded.prompts == TASKS.prompts) is replaced


@pytest.mark.parametrize(
    ("name", "replaced"),
    [("smoke", True), ("smoke-tasks", False), ("smoke-conditions", False), ("full-continued", False)],
)
def test_a_teams_other_prompts_leave_tasks_and_what_is_made_for_a_purpose_alone(
    name: str, replaced: bool
) -> None:
    own = prompt_set(4)
    assert (PromptSource(own=own).load(name, Path(), None).prompts == own.prompts) is replaced


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
