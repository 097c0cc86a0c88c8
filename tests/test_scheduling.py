"""Whatever the user's way of distributing tests, all run once, and kv tests keep their engines together.

The other schedulers are xdist's own; the workers are played.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import scripted
from hypothesis import given
from hypothesis import strategies as st

from pytest_kvcache.groups import EngineGroup
from pytest_kvcache.records import EngineSpec
from pytest_kvcache.scheduling import DISTRIBUTIONS, EngineScheduling

schedulers = pytest.importorskip("xdist.scheduler")

THEIRS = {
    "load": schedulers.LoadScheduling,
    "loadscope": schedulers.LoadScopeScheduling,
    "loadfile": schedulers.LoadFileScheduling,
    "loadgroup": schedulers.LoadGroupScheduling,
    "worksteal": schedulers.WorkStealingScheduling,
}
SPECS = [scripted.spec(dtype, model) for model in ("a", "b") for dtype in ("auto", "fp8_e4m3", "fp8_e5m2")]


class Worker:
    """Runs what it was sent, in order, as xdist's worker does: the next test must be known, or the end."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name, spec=name)
        self.queue: deque[int] = deque()
        self.wanted: Sequence[int] | None = None
        self.shutting_down = False
        self.ran: list[str] = []

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        assert not self.shutting_down, "it would not hear of these"
        self.queue += indices

    def send_steal(self, indices: Sequence[int]) -> None:
        self.wanted = indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def can_run(self) -> bool:
        return len(self.queue) >= (1 if self.shutting_down else 2)


class Reservations:
    """A run store of which only the reservations are asked."""

    def __init__(self) -> None:
        self.reserved: set[EngineSpec] = set()
        self.reserve = self.reserved.add
        self.free = self.reserved.discard


class Play:
    """One distributed run from its collection to its end."""

    def __init__(
        self,
        dist: str,
        groups: Sequence[EngineGroup],
        others: Sequence[str],
        workers: int,
        slots: int = 2,
        collections: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self.complaints: list[object] = []
        config: Any = SimpleNamespace(
            getvalue=lambda name: ["popen"] * workers if name == "tx" else None,
            getoption=lambda _: None,
            option=SimpleNamespace(loadscopereorder=True),
            rootpath=Path.cwd(),
            hook=SimpleNamespace(pytest_collectreport=self.note_complaint),
        )
        log = schedulers.load.Producer("test", enabled=False)
        self.store = Reservations()
        self.sched = EngineScheduling(
            THEIRS[dist](config, log),
            tell_groups=lambda: groups,
            slots=lambda _: slots,
            store=lambda: self.store,  # type: ignore[arg-type,return-value]
        )
        kv_tests = [test for group in groups for test in group.tests]
        self.collection = [*others[::2], *kv_tests, *others[1::2]]
        self.workers = [Worker(f"gw{i}") for i in range(workers)]
        self.crashed: list[str] = []
        for worker in self.workers:
            self.sched.add_node(worker)
        for i, worker in enumerate(self.workers):
            self.sched.add_node_collection(worker, collections[i] if collections else self.collection)
        self.begin()

    def note_complaint(self, report: object) -> None:
        self.complaints.append(report)

    def begin(self) -> None:
        if self.sched.collection_is_completed:
            self.sched.schedule()
        self.shut_down_when_finished()

    def shut_down_when_finished(self) -> None:
        if self.sched.tests_finished:
            for worker in self.sched.nodes:
                worker.shutdown()

    def step(self, worker: Worker) -> None:
        """Let a worker run one test, or give back what is to be stolen."""
        if worker.wanted is not None:
            wanted, worker.wanted = worker.wanted, None
            stolen = [i for i in worker.queue if i in set(wanted)]
            if len(stolen) != len(wanted):
                stolen = []
            worker.queue = deque(i for i in worker.queue if i not in stolen)
            self.sched.remove_pending_tests_from_node(worker, stolen)
        elif worker.can_run:
            index = worker.queue.popleft()
            worker.ran.append(self.collection[index])
            self.sched.mark_test_complete(worker, index, 0.01)
        self.shut_down_when_finished()

    def crash(self, worker: Worker) -> None:
        """Let a worker die, and another come in its place."""
        self.workers.remove(worker)
        self.dead = worker
        self.sched.free(worker)
        test = self.sched.remove_node(worker)
        if test:
            self.crashed.append(test)
        clone = Worker(f"gw{len(self.crashed) + 10}")
        self.workers.append(clone)
        self.sched.add_node(clone)
        self.sched.add_node_collection(clone, self.collection)
        self.begin()

    def active(self) -> list[Worker]:
        return [w for w in self.workers if w.can_run or w.wanted is not None]

    def to_the_end(self) -> Play:
        while workers := self.active():
            for worker in workers:
                self.step(worker)
        return self

    @property
    def ran(self) -> list[str]:
        return sorted(test for worker in self.workers for test in worker.ran)


def group(place: int, tests: int, *, is_ad_hoc: bool = False) -> EngineGroup:
    names = tuple(f"test_kv.py::test_{i}[{place}]" for i in range(tests))
    return EngineGroup(SPECS[place], names, is_ad_hoc)


def other_tests(files: int, each: int) -> list[str]:
    return [f"test_{file}.py::test_{i}" for file in range(files) for i in range(each)]


def homes(play: Play, tests: Sequence[str]) -> set[str]:
    return {worker.gateway.id for worker in play.workers if set(worker.ran) & set(tests)}


def test_all_distributions_are_known_here() -> None:
    assert set(THEIRS) == set(DISTRIBUTIONS)


@given(
    dist=st.sampled_from(DISTRIBUTIONS),
    sizes=st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=len(SPECS)),
    files=st.integers(0, 4),
    each=st.integers(1, 5),
    workers=st.integers(1, 5),
    slots=st.integers(1, 4),
    data=st.data(),
)
def test_every_test_runs_once_and_tests_that_share_a_live_engine_share_a_worker(
    dist: str,
    sizes: list[tuple[int, bool]],
    files: int,
    each: int,
    workers: int,
    slots: int,
    data: st.DataObject,
) -> None:
    groups = [group(place, tests, is_ad_hoc=ad_hoc) for place, (tests, ad_hoc) in enumerate(sizes)]
    play = Play(dist, groups, other_tests(files, each), workers, slots)
    while active := play.active():
        play.step(data.draw(st.sampled_from(active)))
    assert play.ran == sorted(play.collection)
    assert len(homes(play, [test for g in groups for test in g.tests])) <= slots
    assert all(len(homes(play, g.tests)) == 1 for g in groups if g.is_ad_hoc)
    assert not play.store.reserved


# The schedulers that keep scopes whole send what had run before a crash once more, or wait for ever.
@given(
    dist=st.sampled_from(["load", "worksteal"]),
    sizes=st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=4),
    others=st.integers(0, 12),
    workers=st.integers(1, 4),
    steps=st.integers(0, 30),
    data=st.data(),
)
def test_when_a_worker_dies_the_rest_of_its_tests_run_elsewhere(
    dist: str, sizes: list[tuple[int, bool]], others: int, workers: int, steps: int, data: st.DataObject
) -> None:
    groups = [group(place, tests, is_ad_hoc=ad_hoc) for place, (tests, ad_hoc) in enumerate(sizes)]
    play = Play(dist, groups, other_tests(others, 1), workers)
    for _ in range(steps):
        if active := play.active():
            play.step(data.draw(st.sampled_from(active)))
    victim = data.draw(st.sampled_from(play.workers))
    done = list(victim.ran)
    play.crash(victim)
    play.to_the_end()
    assert sorted([*done, *play.ran, *play.crashed]) == sorted(play.collection)
    assert not play.store.reserved


@pytest.mark.parametrize("dist", DISTRIBUTIONS)
def test_workers_beyond_the_devices_get_the_tests_without_an_engine(dist: str) -> None:
    groups = [group(place, 3) for place in range(4)]
    play = Play(dist, groups, other_tests(6, 5), workers=8)
    with_kv = [w for w in play.workers if any("[" in play.collection[i] for i in w.queue)]
    assert len(with_kv) == 2
    assert len([w for w in play.workers if w.queue and w not in with_kv]) >= 2
    assert play.to_the_end().ran == sorted(play.collection)


def test_other_tests_are_distributed_as_the_user_asked() -> None:
    others = other_tests(files=4, each=5)
    play = Play("loadfile", [group(0, 4), group(1, 4)], others, workers=3).to_the_end()
    for file in range(4):
        assert len(homes(play, [test for test in others if test.startswith(f"test_{file}.py")])) == 1


def test_one_engines_tests_are_parted_where_a_worker_would_have_none() -> None:
    play = Play("load", [group(1, 4)], [], workers=2).to_the_end()
    assert [len(worker.ran) for worker in play.workers] == [2, 2]


def test_tests_of_a_live_engine_are_never_parted() -> None:
    play = Play("load", [group(1, 4, is_ad_hoc=True)], [], workers=2).to_the_end()
    assert sorted(len(worker.ran) for worker in play.workers) == [0, 4]


def test_an_engine_is_reserved_until_its_tests_are_over() -> None:
    first, second = group(0, 2, is_ad_hoc=True), group(1, 2)
    play = Play("load", [first, second], [], workers=2)
    assert play.store.reserved == {first.spec}
    play.step(play.workers[0])
    assert play.store.reserved == {first.spec}
    play.to_the_end()
    assert not play.store.reserved


def test_a_worker_that_dies_reserves_nothing() -> None:
    play = Play("load", [group(0, 3, is_ad_hoc=True), group(1, 3)], [], workers=2)
    play.crash(play.workers[0])
    assert not play.store.reserved


def test_engines_of_many_devices_are_spread_over_fewer_workers() -> None:
    groups = [
        EngineGroup(scripted.spec("auto", name, tensor_parallel_size=2), (f"{name}::1", f"{name}::2"), False)
        for name in ("a", "b", "c")
    ]
    play = Play("load", groups, [], workers=4, slots=4)
    assert len([worker for worker in play.workers if worker.queue]) == 2
    assert play.to_the_end().ran == sorted(play.collection)


@pytest.mark.parametrize("dist", DISTRIBUTIONS)
def test_workers_that_collect_different_tests_are_complained_of_as_ever(dist: str) -> None:
    tests = other_tests(2, 3)
    play = Play(dist, [group(0, 2)], tests, workers=2, collections=[tests, tests[:-1]])
    assert len(play.complaints) == 1
    assert not play.active()
