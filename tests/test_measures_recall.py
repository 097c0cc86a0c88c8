"""Right answers are recognised however they are dressed, and nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kvcache.measures.recall import first_object, is_right, words
from pytest_kvcache.records import Check, Prompt

RECORD = {"name": "Mira", "age": 36, "tags": ["a", "b"], "member": True}
CALL = {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}


def right(text: str, answer: object, check: Check = "contains") -> bool:
    answer = answer if isinstance(answer, str) else json.dumps(answer)
    return is_right(text, Prompt("p", "k", text="?", answer=answer, check=check))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The secret number is **4821**.", "4821"),
        ("It is 4,821, I think.", "4821"),
        ("\uff14\uff18\uff12\uff11", "4821"),
        ("in NEW\nYork!", "New York"),
        ("the answer is \u22125", "-5"),
        ("about 2.5 metres", "2.5"),
        ("她住在北京。", "北京"),
        ("STRASSE", "straße"),
        ("room-12", "room-12"),
    ],
)
def test_a_right_answer_may_stand_anywhere_in_any_dress(text: str, answer: str) -> None:
    assert right(text, answer)
    assert right(text, answer.upper())


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("48210", "4821"),
        ("482.1", "482"),
        ("-5", "5"),
        ("sunflower", "sun"),
        ("York is new", "New York"),
        ("", "x"),
        ("!!!!!!", "4821"),
        ("她住在南京。", "北京"),
    ],
)
def test_part_of_a_word_or_number_or_another_order_is_not_the_answer(text: str, answer: str) -> None:
    assert not right(text, answer)


def test_an_answer_to_start_with_stands_first() -> None:
    assert right(" 11\n10 + 2 = 12", "11", "starts")
    assert not right("I think 11", "11", "starts")
    assert not right("110", "11", "starts")
    assert not right("", "11", "starts")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORD),
        f"Sure! Here it is:\n```json\n{json.dumps(RECORD, indent=2)}\n```\nAnything else?",
        json.dumps({"more": None, **RECORD, "age": 36.0, "name": " mira"}),
        "{x} " + json.dumps(RECORD) + ' {"name": "Other"}',
    ],
)
def test_a_record_with_all_members_is_right_whatever_stands_around_it(text: str) -> None:
    assert right(text, RECORD, "json")


@pytest.mark.parametrize(
    "change",
    [{"name": "Tilda"}, {"age": "36"}, {"age": 1}, {"member": 1}, {"tags": ["a"]}, {"tags": ["b", "a"]}],
)
def test_a_record_with_another_value_is_wrong(change: dict[str, object]) -> None:
    assert not right(json.dumps(RECORD | change), RECORD, "json")


@pytest.mark.parametrize(
    "text",
    ["", "{}", "name: Mira", json.dumps(RECORD)[:-1], "{" * 100_000, '{"a":' * 5_000],
)
def test_what_is_no_whole_record_is_wrong(text: str) -> None:
    assert not right(text, RECORD, "json")


@pytest.mark.parametrize("empty", [None, "", [], {}])
def test_null_stands_for_any_value_but_an_empty_one(empty: object) -> None:
    assert right('{"name": 0}', {"name": None}, "json")
    assert not right(json.dumps({"name": empty}), {"name": None}, "json")
    assert not right("{}", {"name": None}, "json")


@pytest.mark.parametrize(
    ("wanted", "wrong"), [({}, {"a": 1}), ({"a": {}}, {"a": {"b": 1}}), ({"a": []}, {"a": [1]})]
)
def test_nothing_is_wanted_as_it_is_and_does_not_stand_for_anything(wanted: object, wrong: object) -> None:
    assert right(json.dumps(wanted), wanted, "json")
    assert not right(json.dumps(wrong), wanted, "json")


def test_a_call_without_arguments_has_none() -> None:
    call = {"name": "now", "arguments": {}}
    assert right(json.dumps(call), call, "tool-call")
    assert not right(json.dumps({"name": "now", "arguments": {"zone": "Oslo"}}), call, "tool-call")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("ผมอยู่กรุงเทพครับ", "กรุงเทพ"),
        ("ຢູ່ວຽງຈັນ", "ວຽງຈັນ"),
        ("နေပြည်တော်မှာ", "နေပြည်တော်"),
        ("នៅភ្នំពេញ", "ភ្នំពេញ"),
    ],
    ids=["Thai", "Lao", "Burmese", "Khmer"],
)
def test_words_without_blanks_between_them_are_found_in_every_such_script(text: str, answer: str) -> None:
    assert right(text, answer)
    assert not right(text, answer[::-1])


def test_numbers_that_json_has_not_are_refused() -> None:
    assert first_object('{"a": NaN}') is None
    assert first_object('{"a": -Infinity} {"b": 1}') == {"b": 1}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CALL),
        f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>",
        json.dumps({"name": "get_weather", "parameters": CALL["arguments"]}),
        json.dumps({"name": "get_weather", "arguments": json.dumps(CALL["arguments"])}),
    ],
)
def test_a_call_is_right_in_any_of_the_usual_shapes(text: str) -> None:
    assert right(text, CALL, "tool-call")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"name": "get_weather", "arguments": {}}),
        json.dumps({"name": "get_weather", "arguments": "nonsense"}),
        json.dumps({"name": "get_weather", "arguments": None}),
        json.dumps({"name": "get_weather"}),
        json.dumps({"name": "Get_Weather", "arguments": CALL["arguments"]}),
        json.dumps(CALL["arguments"]),
        json.dumps(CALL)[:-1],
        "get_weather(city='Oslo', days=3)",
    ],
)
def test_a_call_without_its_name_or_arguments_is_wrong(text: str) -> None:
    assert not right(text, CALL, "tool-call")


def test_a_prompt_without_an_answer_cannot_be_graded() -> None:
    with pytest.raises(ValueError, match="the prompt p has no answer"):
        is_right("x", Prompt("p", "k", text="?"))


@given(st.text(), st.text(alphabet=st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1), st.text())
def test_an_answer_between_blanks_is_always_found(before: str, answer: str, after: str) -> None:
    assert right(f"{before} {answer} {after}", answer)
    assert right(f" {answer} {after}", answer, "starts")


@given(st.text())
def test_any_text_is_read_the_same_twice(text: str) -> None:
    assert words(" ".join(words(text))) == words(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(min_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4), st.text(alphabet="ab \n`."))
def test_any_record_without_nulls_agrees_with_itself(record: dict[str, object], around: str) -> None:
    if "null" not in json.dumps(record):
        assert right(f"{around}{json.dumps(record)}{around}", record, "json")


@given(st.text(alphabet='{}[]":,a1 \\'))
def test_no_text_makes_the_reader_of_objects_fail(text: str) -> None:
    found = first_object(text)
    assert found is None or isinstance(found, dict)
