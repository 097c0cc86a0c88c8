"""Conversations with the model's own answers: who is asked what in which batch, and what files may say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_kvcache.engines.turns import generate_by_turns
from pytest_kvcache.errors import EngineError, UsageError
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import Message, Output, Prompt, PromptSet


def chat(name: str, *contents: str | None) -> Prompt:
    """Return a conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    return Prompt(name, "chat", messages=tuple(Message(roles[k % 2], c) for k, c in enumerate(contents)))  # type: ignore[arg-type]


class Echo:
    """Answers with the number of the batch and the last words said to it."""

    def __init__(self) -> None:
        self.batches: list[list[Prompt]] = []

    def __call__(self, prompts: Sequence[Prompt]) -> list[Output]:
        self.batches.append(list(prompts))
        return [
            Output(p.id, (1,), (2,), f"{len(self.batches)}:{p.content.split()[-1]}", "stop") for p in prompts
        ]


def test_prompts_without_own_answers_are_one_batch_as_they_stand() -> None:
    prompts = [Prompt("text", "completion", text="Once upon a time"), chat("told", "a", "b", "c")]
    engine = Echo()
    outputs = generate_by_turns(prompts, engine)
    assert engine.batches == [prompts]
    assert [output.prompt_id for output in outputs] == ["text", "told"]


def test_an_answer_of_ones_own_stands_in_the_next_turns_prompt() -> None:
    engine = Echo()
    (output,) = generate_by_turns([chat("talk", "one", None, "two", None, "three")], engine)
    assert engine.batches == [
        [chat("talk", "one")],
        [chat("talk", "one", "1:one", "two")],
        [chat("talk", "one", "1:one", "two", "2:two", "three")],
    ]
    assert output.text == "3:three"


def test_a_turn_is_one_batch_of_all_who_have_it_and_outputs_keep_the_order_of_the_set() -> None:
    engine = Echo()
    prompts = [chat("long", "a", None, "b"), chat("short", "c"), chat("long-too", "d", None, "e")]
    outputs = generate_by_turns(prompts, engine)
    assert [[p.id for p in batch] for batch in engine.batches] == [
        ["long", "short", "long-too"],
        ["long", "long-too"],
    ]
    assert [output.text for output in outputs] == ["2:b", "1:c", "2:e"]


def test_an_empty_answer_is_an_answer() -> None:
    def silent(prompts: Sequence[Prompt]) -> list[Output]:
        return [Output(p.id, (1,), (), "", "stop") for p in prompts]

    assert [o.text for o in generate_by_turns([chat("talk", "a", None, "b")], silent)] == [""]


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (
            (Message("assistant", None), Message("user", "a")),
            "a message of the assistant without content; only",
        ),
        ((Message("user", None),), "a message of the user without content; only"),
        ((Message("user", "a"), Message("assistant", None)), "ends with an open answer: leave that out"),
    ],
)
def test_an_open_answer_to_nobody_is_refused_by_its_prompts_name(
    messages: tuple[Message, ...], told: str
) -> None:
    with pytest.raises(EngineError, match=f"the prompt talk .*{told}"):
        generate_by_turns([Prompt("talk", "chat", messages=messages)], Echo())


def test_what_an_open_conversation_says_is_what_is_known_of_it() -> None:
    assert chat("talk", "a", None, "b").content == "a\nb"


def test_a_null_content_is_an_open_answer_and_counts_in_the_key(tmp_path: Path) -> None:
    def loaded(content: str | None) -> PromptSet:
        said = [("user", "a"), ("assistant", content), ("user", "b")]
        path = tmp_path / "turns.jsonl"
        line = {"id": "talk", "kind": "chat", "messages": [{"role": r, "content": c} for r, c in said]}
        path.write_text(json.dumps(line), encoding="utf-8")
        return load_prompt_set(str(path))

    assert loaded(None).prompts == (chat("talk", "a", None, "b"),)
    assert loaded(None).key != loaded("x").key


@pytest.mark.parametrize(
    ("roles", "role"),
    [(("user", "user"), "user"), (("assistant", "user"), "assistant"), (("system", "user"), "system")],
)
def test_only_an_answer_of_the_assistant_may_be_open(
    tmp_path: Path, roles: tuple[str, str], role: str
) -> None:
    first, last = roles
    path = tmp_path / "turns.jsonl"
    messages = [{"role": first, "content": None}, {"role": last, "content": "x"}]
    path.write_text(json.dumps({"messages": messages}), encoding="utf-8")
    with pytest.raises(UsageError, match=f"turns.jsonl:1: a message of the {role} has no content; only"):
        load_prompt_set(str(path))
