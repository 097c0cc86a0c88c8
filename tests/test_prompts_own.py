"""What a team's own prompt file may hold, and the set that it becomes."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from prompt_files import GOOD, write

from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.prompts._lines import SamplingFields
from pytest_kvcache.records import Message, Prompt, Sampling


def test_a_text_and_a_chat_become_prompts_in_the_order_of_the_file(tmp_path: Path) -> None:
    chat = {
        "id": "b",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}],
    }
    loaded = load_prompt_set(write(tmp_path, GOOD, json.dumps(chat)))
    assert loaded.prompts == (
        Prompt("a", "chat", "Once upon a time"),
        Prompt("b", "custom", None, (Message("system", "Be brief."), Message("user", "你好"))),
    )


def test_a_file_without_a_header_is_greedy(tmp_path: Path) -> None:
    assert load_prompt_set(write(tmp_path, GOOD)).sampling == Sampling()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("chat.v2.jsonl", "chat.v2"),
        ("我的 (1).jsonl", "我的-1-"),
        (".hidden.jsonl", "hidden"),
        ("...jsonl", "prompts"),
    ],
)
def test_a_set_without_a_name_is_named_after_its_file_as_a_slug(tmp_path: Path, file: str, name: str) -> None:
    assert load_prompt_set(write(tmp_path, GOOD, name=file)).name == name


def test_a_header_names_the_set_and_sets_only_the_sampling_it_mentions(tmp_path: Path) -> None:
    header = '{"name": "ours", "description": "d", "sampling": {"max_tokens": 40, "stop": ["\\n"]}}'
    loaded = load_prompt_set(write(tmp_path, header, GOOD))
    assert (loaded.name, loaded.sampling) == ("ours", Sampling(max_tokens=40, stop=("\n",)))


def test_a_header_can_set_every_sampling_parameter() -> None:
    assert SamplingFields.__struct_fields__ == tuple(field.name for field in fields(Sampling))


def test_a_prompt_without_an_id_is_named_after_its_line(tmp_path: Path) -> None:
    loaded = load_prompt_set(write(tmp_path, "", '{"text": "one"}', "  ", '{"text": "two"}'))
    assert [prompt.id for prompt in loaded.prompts] == ["line-2", "line-4"]


def test_a_byte_order_mark_and_windows_line_ends_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + b'{"text": "two"}\r\n')
    assert [prompt.id for prompt in load_prompt_set(str(path)).prompts] == ["a", "line-3"]


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    assert load_prompt_set(write(tmp_path, '{"text": "one\u2028two"}')).prompts[0].text == "one\u2028two"


def test_max_tokens_overrides_the_sets_own_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, '{"sampling": {"max_tokens": 40, "repetition_penalty": 1.1}}', GOOD)
    loaded = load_prompt_set(path, max_tokens=8)
    assert loaded.sampling == Sampling(max_tokens=8, repetition_penalty=1.1)


def test_a_path_is_looked_for_in_the_base_folder_before_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, working = tmp_path / "base", tmp_path / "working"
    base.mkdir()
    working.mkdir()
    monkeypatch.chdir(working)
    write(working, '{"id": "in-working", "text": "x"}')
    assert load_prompt_set("mine.jsonl", base_dir=base).prompts[0].id == "in-working"
    write(base, '{"id": "in-base", "text": "x"}')
    assert load_prompt_set("mine.jsonl", base_dir=base).prompts[0].id == "in-base"
    assert load_prompt_set("mine.jsonl").prompts[0].id == "in-working"


def test_a_set_may_borrow_prompts_of_a_shipped_one(tmp_path: Path) -> None:
    smoke = {prompt.id: prompt for prompt in load_prompt_set("smoke").prompts}
    header = '{"sampling": {"temperature": 0.7}, "prompts_of": "smoke", "ids": ["zh-01", "chat-01"]}'
    loaded = load_prompt_set(write(tmp_path, header))
    assert loaded.prompts == (smoke["zh-01"], smoke["chat-01"])
    assert loaded.sampling == Sampling(temperature=0.7)


def test_a_set_that_borrows_without_ids_borrows_all(tmp_path: Path) -> None:
    loaded = load_prompt_set(write(tmp_path, '{"prompts_of": "smoke"}'))
    assert loaded.prompts == load_prompt_set("smoke").prompts


def test_a_prompt_may_have_a_right_answer_as_text_or_as_json(tmp_path: Path) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Malmö"}}
    lines = [
        {"text": "a", "answer": "4821"},
        {"text": "b", "answer": "4821", "check": "starts"},
        {"text": "c", "answer": {"age": 36}, "check": "json"},
        {"text": "d", "answer": call, "check": "tool-call"},
    ]
    loaded = load_prompt_set(write(tmp_path, *map(json.dumps, lines)))
    assert [(prompt.answer, prompt.check) for prompt in loaded.prompts] == [
        ("4821", "contains"),
        ("4821", "starts"),
        ('{"age": 36}', "json"),
        (json.dumps(call, ensure_ascii=False), "tool-call"),
    ]
    assert loaded.is_tasks
