"""The process of the next engine is started while one loads, where only one lives at a time."""

from __future__ import annotations

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
    made.prepare()


def turn(tmp_path: Path, spec: EngineSpec, slot: Slot = SLOT) -> Turn:
    return Turn(spec, slot, tmp_path / "engine.log")


def supervisors(mark: str) -> set[int]:
    """One for each engine whose processes were started and have not ended."""
    return {pid for pid in processes.marked(mark) if "supervisor" in processes.running_module(pid)}


def ignore(*_: object) -> None:
    """A progress report that nobody reads."""


def test_an_engine_begun_ahead_is_the_one_that_its_turn_gets(
    tmp_path: Path, mark: str, factory: ChildEngineFactory
) -> None:
    begun = turn(tmp_path, scripted.spec())
    factory.prepare(begun)
    before = supervisors(mark)
    engine = factory(*begun, ignore)
    assert supervisors(mark) == before
    assert len(before) == 1
    assert len(engine.generate(SET.prompts, SET.sampling)) == len(SET.prompts)
    engine.close()
    assert not processes.marked(mark)


@pytest.mark.parametrize("differs", ["spec", "slot"])
def test_what_was_begun_for_another_turn_is_not_used(
    tmp_path: Path, mark: str, factory: ChildEngineFactory, differs: str
) -> None:
    factory.prepare(turn(tmp_path, scripted.spec("fp8_e5m2"), SLOT))
    wanted = scripted.spec("auto") if differs == "spec" else scripted.spec("fp8_e5m2")
    slot = Slot("cpu", (0, 0)) if differs == "slot" else SLOT
    engine = factory(*turn(tmp_path, wanted, slot), ignore)
    assert engine.provenance.kv_cache_dtype == wanted.kv_cache_dtype.replace("auto", "bfloat16")
    assert len(supervisors(mark)) == 2
    engine.close()
    factory.prepare()
    assert not processes.marked(mark)


def test_beginning_with_others_ends_those_whose_turn_never_came(
    tmp_path: Path, mark: str, factory: ChildEngineFactory
) -> None:
    kept, dropped, new = (turn(tmp_path, scripted.spec(model=name)) for name in ("kept", "dropped", "new"))
    factory.prepare(kept, dropped)
    before = supervisors(mark)
    factory.prepare(kept, new)
    now = supervisors(mark)
    assert (len(before), len(now), len(before & now)) == (2, 2, 1)


def test_a_process_that_died_while_it_waited_is_one_line_about_that_engine(tmp_path: Path) -> None:
    broken = ChildEngineFactory(30.0, ("false",))
    begun = turn(tmp_path, scripted.spec(model="some/model"))
    broken.prepare(begun)
    with pytest.raises(
        EngineError, match=r"engine some/model .* died while loading: it exited with status 1"
    ):
        broken(*begun, ignore)


def test_what_cannot_be_begun_is_told_at_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    factory = child_engine_factory(1.0)
    begun = turn(tmp_path, scripted.spec())
    factory.prepare(begun)
    with pytest.raises(EngineError, match="vllm is not installed"):
        factory(*begun, ignore)


def run_two_engines(tmp_path: Path, mark: str, *, concurrent: int, cores: list[int]) -> list[int]:
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
        DevicePool(concurrent, kind="cpu", device_ids=cores, lock_dir=tmp_path),
        notify=notify,
    )
    session.verdict(target, [SET], Policy(), date(2026, 1, 1))
    session.close()
    assert not processes.marked(mark)
    return seen


def test_while_one_engine_loads_and_works_the_next_ones_process_waits(tmp_path: Path, mark: str) -> None:
    assert run_two_engines(tmp_path, mark, concurrent=1, cores=[0, 1]) == [2, 1]


@pytest.mark.parametrize(("concurrent", "cores"), [(2, [0, 1]), (1, [0])])
def test_none_waits_where_it_would_take_the_core_of_another(
    tmp_path: Path, mark: str, concurrent: int, cores: list[int]
) -> None:
    assert run_two_engines(tmp_path, mark, concurrent=concurrent, cores=cores) == [1, 1]


def test_an_engine_that_breaks_leaves_no_process_behind(tmp_path: Path, mark: str) -> None:
    target = scripted.target(scripted.spec("fp8_e4m3"), scripted.spec("auto", crash_at="loading"))
    session = Session(
        make_plan([Request(target, (SET,))]),
        RunStore(tmp_path / "run"),
        child_engine_factory(30.0, scripted.COMMAND),
        DevicePool(1, kind="cpu", device_ids=[0, 1], lock_dir=tmp_path),
    )
    with pytest.raises(EngineError):
        session.outputs(target.of_baseline(), SET)
    session.close()
    assert not processes.marked(mark)
