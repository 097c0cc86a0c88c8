"""Groups of tests by engine: what may run on another worker meanwhile, and what comes first."""

from __future__ import annotations

import scripted

from pytest_kvcache.conditions import SHIPPED
from pytest_kvcache.groups import group_tests
from pytest_kvcache.plan import Request, Target

SETS = (scripted.prompt_set("small"),)
CANDIDATE = scripted.target(scripted.spec("fp8_e4m3"), scripted.spec("auto"))
AGAIN, CHUNKED, WHOLE = (SHIPPED[name] for name in ("again", "chunked", "whole"))


def grouped(*asked: tuple[str, Request]) -> list[tuple[str, ...]]:
    return [group.tests for group in group_tests(asked)]


def of(target: Target, **asked: object) -> Request:
    return Request(target, SETS, **asked)  # type: ignore[arg-type]


def test_baselines_come_first_and_twins_last_each_by_itself() -> None:
    assert grouped(
        ("chunked", of(CANDIDATE, conditions=(CHUNKED,))),
        ("verdict", of(CANDIDATE, with_scores=True)),
        ("whole", of(CANDIDATE, conditions=(AGAIN, WHOLE))),
        ("baseline", of(CANDIDATE.of_baseline())),
        ("chunked again", of(CANDIDATE, conditions=(CHUNKED,))),
    ) == [("baseline",), ("verdict",), ("chunked", "chunked again"), ("whole",)]


def test_a_condition_of_the_engine_itself_is_no_twin() -> None:
    assert grouped(
        ("again", of(CANDIDATE, conditions=(AGAIN,))), ("verdict", of(CANDIDATE, with_scores=True))
    ) == [("again", "verdict")]


def test_a_test_that_asks_its_engine_for_more_stays_with_it() -> None:
    groups = group_tests(
        [
            ("live", of(CANDIDATE, conditions=(CHUNKED,), ad_hoc=True)),
            ("chunked", of(CANDIDATE, conditions=(CHUNKED,))),
        ]
    )
    assert [(group.spec, group.tests, group.is_ad_hoc) for group in groups] == [
        (CANDIDATE.spec, ("live",), True),
        (CANDIDATE.under(CHUNKED).spec, ("chunked",), False),
    ]
