"""Declarations: what collected tests say about themselves, read from pytest's items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kvcache.conditions import Condition
from pytest_kvcache.dtypes import check_dtype
from pytest_kvcache.errors import UsageError
from pytest_kvcache.markers import KvSensitive
from pytest_kvcache.plan import Request
from pytest_kvcache.records import Declared, GoldenUse, PromptSet, PromptSetUse

if TYPE_CHECKING:
    from pytest_kvcache.policy import Policy

TIERS = frozenset({"kv_smoke", "kv_full"})
ON_REQUEST = ("kv_full", "kv_perf")
"""Markers of the shipped tests that run only where ``-m`` names them."""
OF_CANDIDATES = frozenset({"kv_verdict", "kv_conditions"})
"""Fixtures that there are of candidates alone: a baseline is what they are held against."""
OF_OUTPUTS = frozenset({"kv_outputs", "kv_golden", "kv_verdict"})
"""Fixtures that look at what the target itself wrote."""
NO_TARGET = pytest.param(None, id="no-target")
"""What a test is parametrised with that its marker admits to no target; it is deselected."""


def declared_marker(item: pytest.Item, policy: Policy) -> KvSensitive:
    """Return a test's `KvSensitive`, the default one if it has none.

    Raises `UsageError` naming the test for wrong arguments, and for a kv dtype that does not exist:
    misspelt, it would silently leave the test out.
    """
    mark = item.get_closest_marker("kv_sensitive")
    if mark is None:
        return KvSensitive()
    marker = KvSensitive.from_arguments(item.nodeid, mark.args, mark.kwargs)
    for name in marker.dtypes or ():
        if name not in policy.variants:
            try:
                check_dtype(name)
            except UsageError as error:
                raise UsageError(f"{item.nodeid}: {error}") from None
    return marker


def is_kv(item: pytest.Item) -> bool:
    """Whether a test is parametrised over targets."""
    return "vllm_engine" in _parameters(item)


def parameter(item: pytest.Item) -> Any:
    """Return a test's `Target`; None if it is no kv test, or is admitted to no target."""
    return _parameters(item).get("vllm_engine")


def function_name(item: pytest.Item) -> str:
    """Return the name of a test's function, without the ids of its parameters."""
    return getattr(item, "originalname", None) or item.name


def judges(item: pytest.Item) -> bool:
    """Whether a test gives a verdict."""
    return "kv_verdict" in getattr(item, "fixturenames", ())


def compares_conditions(item: pytest.Item) -> bool:
    """Whether a test asks for serving conditions."""
    return "kv_conditions" in getattr(item, "fixturenames", ())


def request_of(
    item: pytest.Item, prompt_sets: tuple[PromptSet, ...], conditions: tuple[Condition, ...] = ()
) -> Request:
    """Return what a kv test needs of its target; ``conditions`` are those that its marker declares.

    Raises `UsageError` for a test that asks for serving conditions and declares none, or the reverse.
    """
    if compares_conditions(item) and not conditions:
        raise UsageError(
            f"{item.nodeid} uses kv_conditions and declares none: kv_sensitive(conditions=['again'])"
        )
    if conditions and not compares_conditions(item):
        raise UsageError(
            f"{item.nodeid} declares conditions and does not look at them: let it use kv_conditions"
        )
    fixtures, ad_hoc = item.fixturenames, _takes_engine(item)  # type: ignore[attr-defined]
    conditions = tuple(c for c in conditions if not c.obstacle) if compares_conditions(item) else ()
    declared = item.get_closest_marker("kv_sensitive") is not None or judges(item)
    return Request(
        target=parameter(item),
        prompt_sets=prompt_sets if declared else (),
        with_outputs=not conditions or ad_hoc or not OF_OUTPUTS.isdisjoint(fixtures),
        with_baseline="kv_baseline" in fixtures,
        with_scores=judges(item) or "kv_scores" in fixtures or "kv_baseline_scores" in fixtures,
        with_golden="kv_golden" in fixtures,
        conditions=conditions,
        ad_hoc=ad_hoc,
    )


def sum_up(
    kv_items: Sequence[pytest.Item],
    requests: Sequence[Request],
    deselected: Sequence[pytest.Item],
    *,
    all_collected: bool,
) -> Declared:
    """Sum up a collection for the controller, which under xdist collects nothing itself.

    A deselected verdict counts as left out unless all tests of its tier are. ``all_collected`` says that
    no file's tests are unknown.
    """
    tiers = {tier for item in kv_items for tier in _tiers(item)}
    sets = {s.key: s for request in requests for s in request.prompt_sets}
    goldens = [
        GoldenUse(spec, _use_of(s))
        for request in requests
        for spec in request.goldens
        for s in request.prompt_sets
    ]
    left_out = [
        item
        for item in deselected
        if judges(item) and (not kv_items or not _tiers(item) or _tiers(item) & tiers)
    ]
    planned = {
        (request.target.spec, *(s.key for s in request.prompt_sets))
        for item, request in zip(kv_items, requests, strict=True)
        if judges(item)
    }
    return Declared(
        prompt_sets=tuple(map(_use_of, sets.values())),
        verdicts_planned=len(planned),
        verdicts_left_out=len(left_out),
        is_whole=all_collected and not deselected,
        goldens=tuple(dict.fromkeys(goldens)),
        only_on_request=None if kv_items else _only_on_request(deselected),
    )


def _use_of(prompt_set: PromptSet) -> PromptSetUse:
    return PromptSetUse(
        prompt_set.name, prompt_set.key, len(prompt_set.prompts), prompt_set.sampling.max_tokens
    )


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}


def _takes_engine(item: pytest.Item) -> bool:
    """Whether a test has the engine's handle itself, or by a fixture of its own team."""
    info = item._fixtureinfo  # type: ignore[attr-defined]
    fixtures = (definitions[-1] for definitions in info.name2fixturedefs.values() if definitions)
    return "vllm_engine" in info.argnames or any(
        "vllm_engine" in fixture.argnames and fixture.func.__module__ != "pytest_kvcache.plugin"
        for fixture in fixtures
    )


def _only_on_request(items: Sequence[pytest.Item]) -> str | None:
    """Return the marker without which none of these tests runs; None if there are none."""
    if not items:
        return None
    return next((name for name in ON_REQUEST if all(item.get_closest_marker(name) for item in items)), None)


def _tiers(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers() if mark.name in TIERS}
