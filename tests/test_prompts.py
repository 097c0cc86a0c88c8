"""Prompt sets: what a file may hold, how a malformed one is refused, what the shipped ones promise."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import purpose_tasks
import pytest
import tasks

from pytest_kvcache.errors import UsageError
from pytest_kvcache.measures.recall import is_right
from pytest_kvcache.prompts import is_fixed, load_prompt_set, shipped_prompt_sets
from pytest_kvcache.prompts._lines import MAX_LINE_BYTES, SamplingFields
from pytest_kvcache.records import Message, Prompt, PromptSet, Sampling

GOOD = '{"id": "a", "kind": "chat", "text": "Once upon a time"}'


def write(folder: Path, *lines: str, name: str = "mine.jsonl") -> str:
    """Write a prompt file and return its path."""
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def refusal(path: str, **options: Any) -> str:
    """Return the one line with which a prompt set is refused."""
    with pytest.raises(UsageError) as caught:
        load_prompt_set(path, **options)
    message = str(caught.value)
    assert message.isprintable()
    assert caught.value.__cause__ is None
    return message


# A file of one's own


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


def test_a_set_with_and_without_answers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, '{"text": "x", "answer": "y"}')
    assert refusal(path).startswith(f"{path}:2: in a set either every prompt has an answer or none has")


# A file that is refused


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


# The shipped sets


SHIPPED = {name: load_prompt_set(name) for name in shipped_prompt_sets()}


def opening(prompt: Prompt) -> str:
    """Return what two prompts made from one template share: three words, or four Chinese characters."""
    text = prompt.text or next(m.content for m in prompt.messages if m.role == "user" and m.content)
    words = re.findall(r"[\u4e00-\u9fff]|\w+", re.sub(r"\d+", "0", text.lower()))
    return " ".join(words[:4] if re.match(r"[\u4e00-\u9fff]", words[0]) else words[:3])


def bodies(prompt_set: PromptSet) -> list[object]:
    return [prompt.text or prompt.messages for prompt in prompt_set.prompts]


def chinese(prompt: Prompt) -> bool:
    text = prompt.text or prompt.messages[-1].content or ""
    return len(re.findall(r"[\u4e00-\u9fff]", text)) > len(text) / 2


def test_every_shipped_set_belongs_to_a_tier() -> None:
    tiers = {name: name.partition("-")[0] for name in shipped_prompt_sets()}
    assert set(tiers.values()) == {"smoke", "full"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_bears_the_name_of_its_file_and_is_greedy(name: str) -> None:
    assert SHIPPED[name].name == name
    assert SHIPPED[name].sampling.temperature == 0


@pytest.mark.parametrize(
    ("name", "prompts", "kinds", "chinese_prompts", "max_tokens"),
    [
        ("smoke", 32, 8, 3, 160),
        ("smoke-penalised", 16, 8, 2, 128),
        ("full", 96, 12, 8, 256),
        ("full-penalised", 32, 12, 2, 224),
        ("full-frequency", 32, 12, 2, 224),
        ("full-frequency-alone", 32, 12, 2, 224),
        ("full-presence-alone", 32, 12, 2, 224),
    ],
)
def test_a_shipped_set_is_as_large_and_as_varied_as_documented(
    name: str, prompts: int, kinds: int, chinese_prompts: int, max_tokens: int
) -> None:
    loaded = SHIPPED[name]
    assert len(loaded.prompts) == prompts
    assert len({prompt.kind for prompt in loaded.prompts}) >= kinds
    assert sum(map(chinese, loaded.prompts)) >= chinese_prompts
    assert {prompt.text is None for prompt in loaded.prompts} == {True, False}
    assert any(len(prompt.messages) > 2 for prompt in loaded.prompts)
    assert loaded.sampling.max_tokens == max_tokens


def answers(prompt: Prompt) -> int:
    """Return how many answers the model writes for a prompt, its own ones in between included."""
    return 1 + sum(message.content is None for message in prompt.messages)


def test_the_smoke_tier_generates_at_most_8000_tokens_per_engine_and_half_as_many_for_single_symptoms() -> (
    None
):
    verdict = {"smoke", "smoke-penalised", "smoke-tasks"}
    tokens = {
        name: sum(map(answers, loaded.prompts)) * loaded.sampling.max_tokens
        for name, loaded in SHIPPED.items()
        if name.startswith("smoke")
    }
    assert sum(tokens[name] for name in verdict) <= 8000
    del tokens["smoke-short"]  # a few hundred, unless answers run away
    assert sum(tokens[name] for name in tokens.keys() - verdict) <= 4000


def test_smoke_and_full_share_no_id_and_no_text() -> None:
    both = SHIPPED["smoke"].prompts + SHIPPED["full"].prompts
    assert len({prompt.id for prompt in both}) == len(both) == 128
    assert len({*bodies(SHIPPED["smoke"]), *bodies(SHIPPED["full"])}) == len(both)


def test_no_template_is_used_more_than_four_times() -> None:
    openings = Counter(map(opening, SHIPPED["smoke"].prompts + SHIPPED["full"].prompts))
    assert openings.most_common(1)[0][1] <= 4


@pytest.mark.parametrize(
    ("name", "lender"),
    [
        ("smoke-penalised", "smoke"),
        ("full-penalised", "full"),
        ("full-frequency", "full-penalised"),
        ("full-frequency-alone", "full-penalised"),
        ("full-presence-alone", "full-penalised"),
    ],
)
def test_a_penalised_set_has_the_prompts_of_its_plain_one(name: str, lender: str) -> None:
    assert set(SHIPPED[name].prompts) <= set(SHIPPED[lender].prompts)
    assert SHIPPED[name].sampling.penalised


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


def test_the_penalised_full_sets_have_the_same_prompts_each_under_penalties_of_its_own() -> None:
    penalised = [
        SHIPPED[f"full-{name}"] for name in ("penalised", "frequency", "frequency-alone", "presence-alone")
    ]
    assert len({loaded.prompts for loaded in penalised}) == 1
    assert len({loaded.sampling for loaded in penalised}) == 4


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


def test_an_id_says_the_kind_of_its_prompt() -> None:
    for prompt in SHIPPED["smoke"].prompts + SHIPPED["full"].prompts:
        assert re.fullmatch(prompt.kind.replace("how-to", "howto") + r"-\d\d", prompt.id)


def test_no_text_to_be_continued_ends_in_a_blank_that_would_change_its_tokens() -> None:
    for loaded in SHIPPED.values():
        assert not any(prompt.text and prompt.text.endswith((" ", "\t")) for prompt in loaded.prompts)


def test_the_key_of_a_set_is_that_of_its_content_and_not_of_its_name() -> None:
    smoke = SHIPPED["smoke"]
    assert replace(smoke, name="other").key == smoke.key
    changed = replace(smoke.prompts[0], kind="other")
    answered = replace(smoke.prompts[0], answer="yes")
    others = [
        replace(smoke, prompts=(answered, *smoke.prompts[1:])),
        replace(smoke, prompts=(changed, *smoke.prompts[1:])),
        replace(smoke, prompts=smoke.prompts[::-1]),
        replace(smoke, sampling=Sampling(max_tokens=161)),
    ]
    assert len({smoke.key, *(other.key for other in others)}) == 5
