"""The process of the next engine is started while one loads, where only one lives at a time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import processes
import pytest
import scripted

from pytest_kvcache.engines import Turn
from pytest_kvcache.engines.devices import DevicePool, Slot
from pytest_kvcache.engines.launch import ChildEngineFactory, child_engine_factory
from pytest_kvcache.errors import EngineError
from pytest_kvcache.plan import Request, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import EngineSpec
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

SET = scripted.prompt_set()
SLOT = Slot("cpu", (0,))


@pytest.fixture
def mark() -> Iterator[str]:
    with processes.new_mark() as value:
        yield value


@pytest.fixture
def factory() -> Iterator[ChildEngineFactory]:
    made = child_engine_factory(30.0, scripted.COMMAND)
    yield made
    made.discard()


def turn(tmp_path: Path, spec: EngineSpec, slot: Slot = SLOT) -> Turn:
    return Turn(spec, slot, tmp_path / "engine.log")


def supervisors(mark: str) -> set[int]:
    """One for each engine whose processes were started and have not ended.

    Each leads a session of its own; a copy of it that is about to become the engine does not.
    """
    started = {pid for pid in processes.marked(mark) if "supervisor" in processes.running_module(pid)}
    return {pid for pid in started if processes.leads_session(pid)}


def begun(mark: str, engines: int = 2) -> set[int]:
    """The supervisors of so many engines, once all can be seen."""
    deadline = time.monotonic() + 10
    while len(found := supervisors(mark)) < engines and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(found) == engines
    return found


def ignore(*_: object) -> None:
    """A progress report that nobody reads."""


def test_two_processes_begin_together_and_each_turn_gets_its_own(
    tmp_path: Path, mark: str, factory: ChildEngineFactory
) -> None:
    first, second = turn(tmp_path, scripted.spec()), turn(tmp_path, scripted.spec("fp8_e5m2"))
    factory.prepare(first, second)
    first_two = begun(mark)
    for each in (first, second):
        engine = factory(*each, ignore)
        assert supervisors(mark) <= first_two
        assert len(engine.generate(SET.prompts, SET.sampling)) == len(SET.prompts)
        engine.close()
    assert not processes.marked(mark)


@pytest.mark.parametrize("differs", ["spec", "slot", "environment"])
def test_what_was_begun_otherwise_is_not_used(
    tmp_path: Path, mark: str, factory: ChildEngineFactory, monkeypatch: pytest.MonkeyPatch, differs: str
) -> None:
    factory.prepare(turn(tmp_path, scripted.spec(model="other")), turn(tmp_path, scripted.spec("fp8_e5m2")))
    first_two = begun(mark)
    if differs == "environment":
        monkeypatch.setenv("VLLM_SOMETHING", "1")
    wanted = scripted.spec("auto" if differs == "spec" else "fp8_e5m2")
    slot = Slot("cpu", (0, 0)) if differs == "slot" else SLOT
    engine = factory(*turn(tmp_path, wanted, slot), ignore)
    assert engine.provenance.kv_cache_dtype == wanted.kv_cache_dtype.replace("auto", "bfloat16")
    assert len(supervisors(mark) - first_two) == 1
    engine.close()
    factory.discard()
    assert not processes.marked(mark)


def test_beginning_anew_ends_what_nobody_asked_for(
    tmp_path: Path, mark: str, factory: ChildEngineFactory
) -> None:
    kept, dropped, new = (turn(tmp_path, scripted.spec(model=name)) for name in ("kept", "dropped", "new"))
    factory.prepare(dropped, kept)
    before = begun(mark)
    factory.prepare(kept, new)
    assert len(supervisors(mark)) == 1
    assert supervisors(mark) < before


@pytest.mark.parametrize(("slot", "waiting"), [(SLOT, 0), (Slot("gpu", (0,)), 1)])
def test_beside_an_engine_that_need_not_import_only_a_gpu_lets_another_do_so(
    tmp_path: Path, mark: str, factory: ChildEngineFactory, slot: Slot, waiting: int
) -> None:
    first, second, third = (turn(tmp_path, scripted.spec(model=name), slot) for name in "abc")
    factory.prepare(first, second)
    factory(*first, ignore).close()
    factory.prepare(second, third)
    factory(*second, ignore).close()
    begun(mark, waiting)


def test_an_engine_starts_though_its_process_died_while_it_waited(
    tmp_path: Path, mark: str, factory: ChildEngineFactory
) -> None:
    first, second = (turn(tmp_path, scripted.spec(model=name)) for name in "ab")
    factory.prepare(first, second)
    for supervisor in begun(mark):
        os.kill(supervisor, signal.SIGKILL)
    assert not processes.left_after(mark, 10.0)
    engine = factory(*first, ignore)
    assert len(engine.generate(SET.prompts, SET.sampling)) == len(SET.prompts)
    engine.close()


def test_what_cannot_be_begun_is_told_at_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    factory = child_engine_factory(1.0)
    first, second = (turn(tmp_path, scripted.spec(model=name)) for name in "ab")
    factory.prepare(first, second)
    with pytest.raises(EngineError, match="vllm is not installed"):
        factory(*first, ignore)


def run_two_engines(tmp_path: Path, mark: str, *, ahead: bool, cores: list[int]) -> list[int]:
    """Run a baseline and a candidate; return how many had been begun while each of them wrote."""
    seen: list[int] = []

    def notify(_: str, phase: str, *progress: int) -> None:
        if phase == "generating" and not any(progress):
            seen.append(len(supervisors(mark)))

    target = scripted.target(scripted.spec("fp8_e4m3"), scripted.spec("auto"))
    session = Session(
        make_plan([Request(target, (SET,), with_scores=True)]),
        RunStore(tmp_path / "run"),
        child_engine_factory(30.0, scripted.COMMAND),
        DevicePool(kind="cpu", device_ids=cores, lock_dir=tmp_path),
        notify=notify,
        ahead=ahead,
    )
    session.verdict(target, [SET], Policy(), date(2026, 1, 1))
    session.close()
    assert not processes.marked(mark)
    return seen


def test_while_one_engine_loads_and_works_the_next_ones_process_waits(tmp_path: Path, mark: str) -> None:
    assert run_two_engines(tmp_path, mark, ahead=True, cores=[0, 1]) == [2, 1]


@pytest.mark.parametrize(("ahead", "cores"), [(False, [0, 1]), (True, [0])])
def test_none_waits_where_others_run_engines_too_or_there_is_one_core(
    tmp_path: Path, mark: str, ahead: bool, cores: list[int]
) -> None:
    assert run_two_engines(tmp_path, mark, ahead=ahead, cores=cores) == [1, 1]


def test_an_engine_that_breaks_leaves_no_process_behind(tmp_path: Path, mark: str) -> None:
    target = scripted.target(scripted.spec("fp8_e4m3"), scripted.spec("auto", crash_at="loading"))
    session = Session(
        make_plan([Request(target, (SET,))]),
        RunStore(tmp_path / "run"),
        child_engine_factory(30.0, scripted.COMMAND),
        DevicePool(kind="cpu", device_ids=[0, 1], lock_dir=tmp_path),
        ahead=True,
    )
    with pytest.raises(EngineError):
        session.outputs(target.of_baseline(), SET)
    session.close()
    assert not processes.marked(mark)
