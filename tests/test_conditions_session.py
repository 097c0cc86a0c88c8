"""What becomes of serving conditions when engines run: what did not come about is never a pass."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import scripted

from pytest_kvcache import conditions
from pytest_kvcache.conditions import SHIPPED, Condition, condition
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.engines.pool import Notify
from pytest_kvcache.errors import ConditionError, EngineError, UsageError
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.records import Counts
from pytest_kvcache.serving import planned_conditions
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

AGAIN, ALONE, CONTINUED, CHUNKED, PREEMPTED = (
    SHIPPED[name] for name in ("again", "alone", "continued", "chunked", "preempted")
)
SMALL = scripted.prompt_set("small")
OTHER = scripted.prompt_set("other", prompts=5)
PENALISED = scripted.prompt_set("penalised", repetition_penalty=1.1)


def make_target(**arguments: Any) -> Target:
    return scripted.target(scripted.spec("fp8_e4m3", **arguments), scripted.spec("auto", **arguments))


def make_session(
    tmp_path: Path, *requests: Request, store: RunStore | None = None, notify: Notify = lambda *_: None
) -> Session:
    devices = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path)
    factory = child_engine_factory(30.0, scripted.COMMAND)
    return Session(make_plan(requests), store or RunStore(tmp_path / "run"), factory, devices, notify=notify)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """One to which no test has declared anything."""
    return make_session(tmp_path)


def test_scores_tell_their_manner_and_what_came_about(session: Session) -> None:
    target = make_target()
    planned = planned_conditions(session, target, [SMALL], [AGAIN, ALONE, CONTINUED, PREEMPTED])
    entries = {name: planned[name]["small"] for name in planned}
    assert {name: (e.manner, e.counts) for name, e in entries.items()} == {
        "batch": ("batch", Counts(0, 0)),
        "again": ("again", Counts(8, 0)),
        "alone": ("alone", Counts(0, 0)),
        "continued": ("continued", Counts(64, 0)),
        "preempted": ("batch", Counts(0, 2)),
    }
    texts = [output.token_ids for output in session.outputs(target.of_baseline(), SMALL)]
    for entry in entries.values():
        assert [score.token_ids for score in entry.scores] == texts
        assert entry.text_of == target.baseline.key
    assert entries["preempted"].spec == target.under(PREEMPTED).spec


def test_each_engine_and_each_twin_lives_once(tmp_path: Path) -> None:
    target, asked = make_target(prompt_tokens=100), (AGAIN, CHUNKED, PREEMPTED)
    session = make_session(tmp_path, Request(target, (SMALL, OTHER), conditions=asked))
    for _ in range(2):
        planned_conditions(session, target, [SMALL, OTHER], asked)
    assert [report.label for report in RunStore(tmp_path / "run").reports()] == [
        "model-auto",
        "model-fp8_e4m3",
        "model-fp8_e4m3+chunked",
        "model-fp8_e4m3+preempted",
    ]


def test_a_candidate_comes_before_its_twin_whenever_their_baseline_begins_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make_target(prompt_tokens=100, seconds=0.2)
    store, is_running = RunStore(tmp_path / "run"), RunStore.is_running
    elsewhere = make_session(tmp_path, store=store)
    with ThreadPoolExecutor() as pool:
        written = pool.submit(elsewhere.outputs, target.of_baseline(), SMALL)
        while not store.is_running(target.baseline):
            time.sleep(0.01)
        answers = chain([False], repeat(True))  # it begins just as this process looks
        monkeypatch.setattr(
            RunStore, "is_running", lambda self, spec: next(answers) and is_running(self, spec)
        )
        asked = Request(target, (SMALL,), conditions=(CHUNKED,))
        (tmp_path / "here").mkdir()
        told: list[str] = []
        session = make_session(
            tmp_path / "here", asked, store=store, notify=lambda label, *_: told.append(label)
        )
        planned_conditions(session, target, [SMALL], [CHUNKED])
        assert written.result()
    session.close()
    assert list(dict.fromkeys(told)) == ["model-fp8_e4m3", "model-fp8_e4m3+chunked"]


@pytest.mark.parametrize(
    ("condition", "arguments", "complaint"),
    [
        (AGAIN, {"never_caches": True}, "no prompt was read from the prefix cache"),
        (CONTINUED, {"never_caches": True}, "nothing that it had decoded was read back"),
        (CONTINUED, {"ends_after": 14}, "give longer texts, of more than 16 tokens"),
        (PREEMPTED, {"preempts": 0}, "of 4 sequences none was preempted"),
        (PREEMPTED, {"preempts": None}, "does not tell whether a sequence was preempted"),
        (CHUNKED, {}, "its longest prompt of 3 tokens fits into one step of 64"),
        (
            SHIPPED["compiled"],
            {"reports": {"enforce_eager": True}},
            "vLLM resolved enforce_eager True where it asks for False",
        ),
        (
            SHIPPED["whole"],
            {"reports": {"chunked_prefill": True}, "max_num_batched_tokens": 8, "prompt_tokens": 3},
            "vLLM resolved chunked_prefill True where it asks for False",
        ),
        (
            condition("elsewhere", {"reports": {"attention_backend": "OTHER"}}),
            {},
            "vLLM resolved attention_backend OTHER where it asks for SCRIPTED",
        ),
    ],
)
def test_a_condition_that_did_not_come_about_is_an_error(
    session: Session, condition: Condition, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(EngineError, match=complaint):
        planned_conditions(session, make_target(**arguments), [SMALL], [condition])


def test_a_condition_that_cannot_come_about_is_told_from_one_that_did_not(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cached in (AGAIN, CONTINUED):
        with pytest.raises(ConditionError, match="prefix caching off"):
            planned_conditions(session, make_target(enable_prefix_caching=False), [SMALL], [cached])
    one_at_a_time = make_target(reports={"max_num_seqs": 1})
    with pytest.raises(ConditionError, match="takes one sequence at a time"):
        planned_conditions(session, one_at_a_time, [SMALL], [SHIPPED["alone"]])
    fits = make_target(max_num_batched_tokens=64, prompt_tokens=16)
    with pytest.raises(ConditionError, match="their 64 tokens fit into one step of 64; give more"):
        planned_conditions(session, fits, [SMALL], [SHIPPED["whole"]])
    resized = condition("resized", {"block_size": 64, "reports": {"attention_backend": "OTHER"}})
    with pytest.raises(ConditionError, match=r"takes OTHER where .* by SCRIPTED: .* a block_size of 16$"):
        planned_conditions(session, make_target(), [SMALL], [resized])
    uncached = SHIPPED["uncached"]
    with pytest.raises(ConditionError, match="served as uncached asks anyway"):
        planned_conditions(session, make_target(enable_prefix_caching=False), [SMALL], [uncached])
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ConditionError, match="needs a C\\+\\+ compiler"):
        planned_conditions(session, make_target(), [SMALL], [SHIPPED["compiled"]])


@pytest.mark.parametrize(
    ("condition", "resolved"),
    [
        (SHIPPED["compiled"], {"enforce_eager": False}),
        (SHIPPED["eager"], {"enforce_eager": True}),
        (SHIPPED["whole"], {"chunked_prefill": False}),
        (SHIPPED["uncached"], {"prefix_caching": False}),
    ],
)
def test_a_twin_that_would_run_as_the_target_resolved_by_itself_is_not_started(
    session: Session, tmp_path: Path, condition: Condition, resolved: dict[str, Any]
) -> None:
    with pytest.raises(ConditionError, match=f"served as {condition.name} asks anyway"):
        planned_conditions(session, make_target(reports=resolved), [SMALL], [condition])
    assert [report.label for report in RunStore(tmp_path / "run").reports()] == [
        "model-auto",
        "model-fp8_e4m3",
    ]


def test_no_twin_is_started_where_the_plain_batch_cut_no_prompt(session: Session, tmp_path: Path) -> None:
    fits = make_target(max_num_batched_tokens=64, prompt_tokens=16)
    with pytest.raises(ConditionError, match="is cut in a plain batch either"):
        planned_conditions(session, fits, [SMALL], [SHIPPED["whole"]])
    assert [report.label for report in RunStore(tmp_path / "run").reports()] == [
        "model-auto",
        "model-fp8_e4m3",
    ]


def test_a_target_that_is_served_whole_by_its_arguments_needs_no_twin_for_that() -> None:
    target = make_target(enable_chunked_prefill=False)
    assert target.under(SHIPPED["whole"]).spec == target.spec


def test_a_prompt_is_read_whole_though_the_target_was_given_less_room_in_a_step(
    session: Session, tmp_path: Path
) -> None:
    target = make_target(enable_chunked_prefill=True, max_num_batched_tokens=64, prompt_tokens=17)
    assert len(planned_conditions(session, target, [SMALL], [SHIPPED["whole"]])) == 2
    twin = next(r.spec for r in RunStore(tmp_path / "run").reports() if r.label.endswith("+whole"))
    assert twin.arguments() == {"enable_chunked_prefill": False, "prompt_tokens": 17}


def test_an_engine_that_cannot_follow_breaks_nothing_else(session: Session) -> None:
    target = make_target(cannot_follow=True)
    with pytest.raises(EngineError, match="cannot follow a given text"):
        planned_conditions(session, target, [SMALL], [AGAIN])
    assert len(session.scores(target, SMALL).scores) == 4
    assert len(session.outputs(target, SMALL)) == 4


def test_a_twin_that_does_not_start_breaks_nothing_else(session: Session) -> None:
    target = make_target()
    broken = conditions.condition("broken", {"fail_at": "loading"})
    with pytest.raises(EngineError, match="scripted failure while loading"):
        planned_conditions(session, target, [SMALL], [broken])
    assert len(planned_conditions(session, target, [SMALL], [AGAIN])) == 2


def test_sets_that_are_not_scored_are_a_usage_error(session: Session) -> None:
    with pytest.raises(UsageError, match="declare another set for kv_conditions"):
        planned_conditions(session, make_target(), [PENALISED], [AGAIN])


def test_a_set_whose_writing_preempted_is_noted(session: Session, tmp_path: Path) -> None:
    outputs = session.outputs(make_target(preempts=3), SMALL)
    assert outputs.counts.preemptions == 3
    (note,) = RunStore(tmp_path / "run").notes()
    assert "preempted 3 times while it wrote small" in note


def test_counts_add_up_and_what_is_unknown_stays_so() -> None:
    assert Counts(1, 2) + Counts(3, 4) == Counts(4, 6)
    assert Counts(1, None) + Counts(3, 4) == Counts(4, None)
