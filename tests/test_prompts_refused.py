"""A prompt set that cannot be used is refused with one line: where, what is wrong, what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prompt_files import GOOD, write

from pytest_kvcache.errors import UsageError
from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets
from pytest_kvcache.prompts._lines import MAX_LINE_BYTES


def refusal(path: str, **options: Any) -> str:
    """Return the one line with which a prompt set is refused."""
    with pytest.raises(UsageError) as caught:
        load_prompt_set(path, **options)
    message = str(caught.value)
    assert message.isprintable()
    assert caught.value.__cause__ is None
    return message


USER = '{"role": "user", "content": "hi"}'

MALFORMED = {
    "unknown key": ('{"txt": "x"}', "unknown field `txt`"),
    "no text or messages": ('{"id": "b"}', "neither text nor messages"),
    "text and messages": (f'{{"text": "x", "messages": [{USER}]}}', "both text and messages"),
    "empty text": ('{"text": ""}', "length >= 1 - at `$.text`"),
    "no messages": ('{"messages": []}', "length >= 1 - at `$.messages`"),
    "wrong type of text": ('{"text": 7}', "got `int` - at `$.text`"),
    "wrong type of id": ('{"id": 7, "text": "x"}', "got `int` - at `$.id`"),
    "id that is no name": ('{"id": "a b\\n", "text": "x"}', "at `$.id`"),
    "id that is a folder": ('{"id": "..", "text": "x"}', "at `$.id`"),
    "empty id": ('{"id": "", "text": "x"}', "at `$.id`"),
    "endless id": (f'{{"id": "{"x" * 101}", "text": "x"}}', "length <= 100 - at `$.id`"),
    "wrong type of kind": ('{"kind": [], "text": "x"}', "at `$.kind`"),
    "unknown role": ('{"messages": [{"role": "bot", "content": "x"}]}', "'bot' - at `$.messages[0].role`"),
    "message without content": ('{"messages": [{"role": "user"}]}', "missing required field `content`"),
    "unknown key of a message": (
        '{"messages": [{"role": "user", "content": "x", "name": "y"}]}',
        "unknown field `name` - at `$.messages[0]`",
    ),
    "last message of the assistant": (
        f'{{"messages": [{USER}, {{"role": "assistant", "content": "x"}}]}}',
        "the last message is the assistant's",
    ),
    "check without an answer": ('{"text": "x", "check": "json"}', "give the answer as well"),
    "unknown check": ('{"text": "x", "answer": "y", "check": "near"}', "'near' - at `$.check`"),
    "wrong type of answer": ('{"text": "x", "answer": 7}', "got `int` - at `$.answer`"),
    "answer of no word": ('{"text": "x", "answer": "?!"}', "neither letters nor digits"),
    "text to be parsed": ('{"text": "x", "answer": "y", "check": "json"}', "json check is an object"),
    "object to be read": ('{"text": "x", "answer": {"a": 1}}', "make it json or tool-call"),
    "call without a name": (
        '{"text": "x", "answer": {"arguments": {}}, "check": "tool-call"}',
        "an object with name and arguments",
    ),
    "same id twice": ('{"id": "a", "text": "x"}', "the id 'a' is that of line 1"),
    "invalid JSON": ('{"text": "x",}', "JSON is malformed"),
    "half a surrogate pair": ('{"text": "\\ud800 alone"}', "write each prompt as one JSON object"),
    "two objects": ('{"text": "x"} {"text": "y"}', "trailing characters"),
    "a list": ('["x"]', "no object but list"),
    "bottomless nesting": ("[" * 100_000, "recursion"),
    "late header": ('{"sampling": {}}', "a header must be the first line"),
    "endless line": (json.dumps({"text": "x" * MAX_LINE_BYTES}), "at most 1,000,000"),
}


@pytest.mark.parametrize(("line", "problem"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_prompt_is_refused_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    path = write(tmp_path, GOOD, "", line, GOOD)
    message = refusal(path)
    assert message.startswith(f"{path}:3: ")
    assert problem in message


MALFORMED_HEADERS = {
    "unknown key": ('{"description": "d", "sampler": {}}', "unknown field `sampler`"),
    "unknown sampling parameter": ('{"sampling": {"top_k": 3}}', "unknown field `top_k` - at `$.sampling`"),
    "no tokens": ('{"sampling": {"max_tokens": 0}}', ">= 1 - at `$.sampling.max_tokens`"),
    "half a token": ('{"sampling": {"max_tokens": 1.5}}', "at `$.sampling.max_tokens`"),
    "cold": ('{"sampling": {"temperature": -1}}', "at `$.sampling.temperature`"),
    "no repetition penalty": (
        '{"sampling": {"repetition_penalty": 0}}',
        "at `$.sampling.repetition_penalty`",
    ),
    "huge penalty": ('{"sampling": {"presence_penalty": 2.5}}', "at `$.sampling.presence_penalty`"),
    "seed beyond 64 bits": (f'{{"sampling": {{"seed": {2**63}}}}}', "at `$.sampling.seed`"),
    "empty stop": ('{"sampling": {"stop": [""]}}', "at `$.sampling.stop[0]`"),
    "name that is no name": ('{"description": "d", "name": ".."}', "at `$.name`"),
    "unknown lender": ('{"prompts_of": "smok"}', "'smok', no shipped set (did you mean smoke"),
    "ids of nobody": ('{"description": "d", "ids": ["chat-01"]}', "with prompts_of"),
    "no ids": ('{"prompts_of": "smoke", "ids": []}', "at `$.ids`"),
    "unknown id": (
        '{"prompts_of": "smoke", "ids": ["chat-1"]}',
        "'chat-1', which smoke lacks (did you mean chat-0",
    ),
    "id twice": ('{"prompts_of": "smoke", "ids": ["zh-01", "zh-01"]}', "'zh-01' twice"),
}


@pytest.mark.parametrize(("header", "problem"), MALFORMED_HEADERS.values(), ids=MALFORMED_HEADERS.keys())
def test_a_malformed_header_is_refused_with_its_line(tmp_path: Path, header: str, problem: str) -> None:
    path = write(tmp_path, "", header)
    message = refusal(path)
    assert message.startswith(f"{path}:2: ")
    assert problem in message


def test_a_set_with_and_without_answers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, '{"text": "x", "answer": "y"}')
    assert refusal(path).startswith(f"{path}:2: in a set either every prompt has an answer or none has")


def test_a_set_cannot_both_borrow_prompts_and_have_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, '{"prompts_of": "smoke"}', GOOD)
    assert refusal(path).startswith(f"{path}:2: a set that borrows its prompts")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "gb18030"])
def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "legacy.jsonl"
    text = "éß" if encoding == "latin-1" else "你好"
    path.write_bytes(f'{{"text": "{text}"}}\n'.encode(encoding))
    message = refusal(str(path))
    assert message.startswith(f"{path}:1: byte ")
    assert "save the file as UTF-8" in message


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff", '{"description": "nothing follows"}\n'])
def test_a_file_without_prompts_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text(content, encoding="utf-8")
    assert refusal(str(path)) == f"{path}: the file has no prompts; write one JSON object per prompt"


def test_what_a_hostile_file_says_reaches_no_terminal_as_it_is(tmp_path: Path) -> None:
    assert r"\x1b[31m" in refusal(write(tmp_path, r'{"\u001b[31m\n::error::": 1}'))


def test_an_unknown_name_is_refused_with_the_nearest_ones() -> None:
    message = refusal("smoke-penalized")
    assert "'smoke-penalized' (did you mean smoke-penalised" in message
    assert ", ".join(shipped_prompt_sets()) in message


def test_a_name_like_no_other_is_refused_with_all_names() -> None:
    message = refusal("prompts.txt")
    assert "did you mean" not in message
    assert ", ".join(shipped_prompt_sets()) in message


@pytest.mark.parametrize("name", ["absent.jsonl", "x" * 5000 + ".jsonl", "folder.jsonl"])
def test_a_path_without_a_file_is_refused_with_the_folders_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    monkeypatch.chdir(tmp_path)
    message = refusal(name, base_dir=tmp_path / "base")
    assert f"in {tmp_path / 'base'} or {tmp_path}; check the path" in message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    path = write(tmp_path, GOOD)
    assert refusal(path).startswith(f"{path}: Permission denied; ")


@pytest.mark.parametrize("max_tokens", [0, -5])
def test_fewer_than_one_token_is_refused(max_tokens: int) -> None:
    assert f"max_tokens is {max_tokens}" in refusal("smoke", max_tokens=max_tokens)
