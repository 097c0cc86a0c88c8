"""Serving conditions of the real engine: they come about, and a healthy cache does not mind.

Four engines live once each for all tests here: the baseline, the candidate and two twins of it.
"""

from __future__ import annotations

import pytest
from real_engine import TIMEOUT, spec

import pytest_kvcache as kv
from pytest_kvcache.conditions import SHIPPED
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import PlannedConditions
from pytest_kvcache.serving import planned_conditions
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

pytestmark = pytest.mark.vllm

SET = load_prompt_set("smoke-conditions")
CONDITIONS = tuple(SHIPPED[name] for name in ("again", "alone", "chunked", "preempted"))


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(
        id="gqa-fp8",
        spec=spec("ref:gqa", "fp8_e4m3"),
        kv_dtype="fp8",
        variant=None,
        baseline=spec("ref:gqa", "auto"),
        baseline_id="gqa-auto",
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return RunStore(tmp_path_factory.mktemp("conditions") / "run")


@pytest.fixture(scope="module")
def planned(target: Target, store: RunStore) -> PlannedConditions:
    plan = make_plan([Request(target, (SET,), conditions=CONDITIONS)])
    session = Session(plan, store, child_engine_factory(TIMEOUT), DevicePool())
    return planned_conditions(session, target, [SET], CONDITIONS)


@pytest.mark.parametrize("name", [condition.name for condition in CONDITIONS])
def test_a_healthy_candidate_thinks_the_same_under_every_condition(
    planned: PlannedConditions, name: str
) -> None:
    kv.assert_divergence_within(planned[name], planned["batch"])


def test_prompts_were_read_from_the_prefix_cache_the_second_time_alone(planned: PlannedConditions) -> None:
    cached = {name: planned[name][SET.name].counts.cached_tokens for name in planned}
    assert cached.pop("again")
    assert cached == dict.fromkeys(("batch", "alone", "chunked", "preempted"), 0)


def test_sequences_were_preempted_under_a_small_cache_alone(planned: PlannedConditions) -> None:
    preempted = {name: planned[name][SET.name].counts.preemptions for name in planned}
    assert preempted.pop("preempted")
    assert preempted == dict.fromkeys(("batch", "again", "alone", "chunked"), 0)


def test_every_condition_followed_the_baselines_whole_texts(
    planned: PlannedConditions, target: Target, store: RunStore
) -> None:
    written = store.outputs(target.baseline, SET)
    assert written is not None
    for name in planned:
        assert [s.token_ids for s in planned[name]] == [o.token_ids for o in written]


@pytest.mark.usefixtures("planned")
def test_twins_run_with_what_makes_the_condition(store: RunStore) -> None:
    by_label = {report.label: report.provenance for report in store.reports()}
    assert list(by_label) == ["gqa-auto", "gqa-fp8", "gqa-fp8+chunked", "gqa-fp8+preempted"]
    chunked, small = by_label["gqa-fp8+chunked"], by_label["gqa-fp8+preempted"]
    assert chunked is not None
    assert small is not None
    assert chunked.max_num_batched_tokens == 64
    assert (small.block_size, small.max_model_len) == (32, 992)
