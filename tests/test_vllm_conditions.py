"""Serving conditions of the real engine: they come about, and a healthy cache does not mind.

Four engines live once each for all tests here: the baseline, the candidate and two twins of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from real_engine import TIMEOUT, spec

import pytest_kvcache as kv
from pytest_kvcache.conditions import SHIPPED
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import PlannedConditions, Sampling
from pytest_kvcache.serving import planned_conditions
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

pytestmark = pytest.mark.vllm

SET = load_prompt_set("smoke-conditions")
LONG = load_prompt_set("full-continued")
LONG = replace(LONG, name="long", prompts=LONG.prompts[:6])
MANY = replace(load_prompt_set("full-preemption"), name="many", sampling=Sampling(max_tokens=64))
CONDITIONS = tuple(SHIPPED[name] for name in ("again", "alone", "chunked"))
CONTINUED, PREEMPTED = SHIPPED["continued"], SHIPPED["preempted"]


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


@dataclass(frozen=True)
class Planned:
    few: PlannedConditions
    """Under what comes about with a few long prompts."""
    long: PlannedConditions
    """Under what comes about with texts of more than a block."""
    many: PlannedConditions
    """Under a small cache, which many short prompts outgrow together."""


@pytest.fixture(scope="module")
def planned(target: Target, store: RunStore) -> Planned:
    asked = (
        Request(target, (SET,), conditions=CONDITIONS),
        Request(target, (LONG,), conditions=(CONTINUED,)),
        Request(target, (MANY,), conditions=(PREEMPTED,)),
    )
    session = Session(make_plan(asked), store, child_engine_factory(TIMEOUT), DevicePool())
    return Planned(
        planned_conditions(session, target, [SET], CONDITIONS),
        planned_conditions(session, target, [LONG], [CONTINUED]),
        planned_conditions(session, target, [MANY], [PREEMPTED]),
    )


@pytest.mark.parametrize("name", [condition.name for condition in CONDITIONS])
def test_a_healthy_candidate_thinks_the_same_under_every_condition(planned: Planned, name: str) -> None:
    kv.assert_divergence_within(planned.few[name], planned.few["batch"])


def test_a_healthy_candidate_thinks_the_same_of_what_it_reads_back(planned: Planned) -> None:
    kv.assert_divergence_within(planned.long["continued"], planned.long["batch"])


def test_a_healthy_candidate_thinks_the_same_where_sequences_are_preempted(planned: Planned) -> None:
    kv.assert_divergence_within(planned.many["preempted"], planned.many["batch"])


def test_prompts_were_read_from_the_prefix_cache_the_second_time_alone(planned: Planned) -> None:
    cached = {name: planned.few[name][SET.name].counts.cached_tokens for name in planned.few}
    assert cached.pop("again")
    assert cached == dict.fromkeys(("batch", "alone", "chunked"), 0)


def test_blocks_that_decoding_filled_were_read_from_the_prefix_cache(
    planned: Planned, target: Target, store: RunStore
) -> None:
    written = store.outputs(target.spec, LONG)
    assert written is not None
    block = written.provenance.block_size
    prompts = [len(output.prompt_token_ids) for output in written]
    of_prompts = sum(block * (tokens // block) for tokens in prompts)
    counted = {name: planned.long[name][LONG.name].counts.cached_tokens for name in planned.long}
    assert counted.pop("continued") == of_prompts + block * len(prompts)
    assert counted == {"batch": 0}


def test_sequences_were_preempted_under_a_small_cache_alone(planned: Planned) -> None:
    counts = {name: planned.many[name][MANY.name].counts.preemptions for name in planned.many}
    assert counts.pop("preempted")
    assert counts == {"batch": 0}


def test_every_condition_followed_the_baselines_whole_texts(
    planned: Planned, target: Target, store: RunStore
) -> None:
    for prompt_set, conditions in ((SET, planned.few), (LONG, planned.long), (MANY, planned.many)):
        written = store.outputs(target.baseline, prompt_set)
        assert written is not None
        for name in conditions:
            assert [s.token_ids for s in conditions[name]] == [o.token_ids for o in written if o.token_ids]


@pytest.mark.usefixtures("planned")
def test_twins_run_with_what_makes_the_condition(store: RunStore) -> None:
    by_label = {report.label: report.provenance for report in store.reports()}
    assert list(by_label) == ["gqa-auto", "gqa-fp8", "gqa-fp8+chunked", "gqa-fp8+preempted"]
    chunked, small = by_label["gqa-fp8+chunked"], by_label["gqa-fp8+preempted"]
    assert chunked is not None
    assert small is not None
    assert chunked.max_num_batched_tokens == 64
    assert (small.block_size, small.max_model_len) == (32, 992)
