"""Serving conditions that a test may declare."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_kvcache.conditions import BATCH, SHIPPED, Condition
from pytest_kvcache.errors import UsageError
from pytest_kvcache.markers import KvSensitive

AGAIN, CHUNKED = SHIPPED["again"], SHIPPED["chunked"]


def declared(value: Any) -> tuple[Condition, ...]:
    return KvSensitive.from_arguments("test_it", [], {"conditions": value}).serving_conditions()


def test_shipped_conditions_go_by_their_names() -> None:
    assert declared(["again", "chunked"]) == (AGAIN, CHUNKED)


def test_a_tests_own_are_engine_arguments() -> None:
    (own,) = declared({"two-at-a-time": {"max_num_seqs": 2}})
    assert own == Condition("two-at-a-time", engine_args=(("max_num_seqs", "2"),))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (["agian"], "no 'agian'; there are batch, again, alone, continued, chunked"),
        ("again", "takes a list, e.g. conditions="),
        (3, "takes a list, e.g. conditions="),
        ([["again"]], "takes a list, e.g. conditions="),
        ({7: {"max_num_seqs": 2}}, "takes a list, e.g. conditions="),
        ({"mine": {7: 2}}, "every name has engine arguments"),
        ({"chunked": {"max_num_seqs": 2}}, "name of a shipped condition"),
        ({"mine": {}}, "at least one engine argument"),
        ({"mine": 3}, "every name has engine arguments"),
        ({"mine": {"model": "other"}}, "may not set model"),
        ({"mine": {"kv_cache_dtype": "auto"}}, "may not set kv_cache_dtype"),
        ({"mine": {"x": object()}}, "must be JSON values"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(value: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match="test_it: kv_sensitive") as caught:
        declared(value)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plain_batch_is_a_condition_like_any_other() -> None:
    assert SHIPPED["batch"] is BATCH
    assert BATCH.engine_args == ()
