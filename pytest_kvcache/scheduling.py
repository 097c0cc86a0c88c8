"""Scheduling: which xdist worker gets which tests, so that engines neither wait nor start twice.

The kv tests come first. Those of one engine go to one worker, and as many workers get some as engines
fit on the devices. All other tests are left to the scheduler that the user's ``--dist`` asks for: it is
given the workers that have no kv tests at once, and each of the others as soon as its last one is sent.
It sees nothing of the kv tests.

An engine that tests ask for more than is declared is reserved for the worker that has these tests. Nobody
waits in a circle for it: a test waits for its own engine, which its worker may run, and for its baseline,
whose tests were dealt out earlier. If a worker stops, its reservations end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest

from pytest_kvcache.declarations import parameter
from pytest_kvcache.engines.pool import units
from pytest_kvcache.groups import EngineGroup, read_groups, spread

if TYPE_CHECKING:
    from pytest_kvcache.records import EngineSpec
    from pytest_kvcache.run import Run
    from pytest_kvcache.store import RunStore

MIN_SENT = 2
"""A worker begins a test when it knows the next one, so it has at least two while there are more."""
DISTRIBUTIONS = ("load", "loadscope", "loadfile", "loadgroup", "worksteal")


class Worker(Protocol):
    """What schedulers ask of xdist's controller of one worker. Tests are places in what it has collected."""

    @property
    def shutting_down(self) -> bool: ...

    def send_runtest_some(self, indices: Sequence[int]) -> None: ...

    def send_steal(self, indices: Sequence[int]) -> None: ...

    def shutdown(self) -> None: ...


class Scheduling:
    """The hooks of one run that xdist calls: on the controller, and a worker's own."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._scheduler: EngineScheduling | None = None

    @pytest.hookimpl(optionalhook=True, wrapper=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> Generator[None, Any, Any]:
        """Put ours before the one that would be; a stranger's, and ``--dist=each``, are left as they are."""
        theirs = yield
        if config.getvalue("dist") not in DISTRIBUTIONS or not type(theirs).__module__.startswith("xdist."):
            return theirs
        run = self._run
        self._scheduler = EngineScheduling(
            theirs,
            tell_groups=lambda: read_groups(run.directory),
            slots=lambda workers: run.devices(workers).slots,
            store=run.store,
        )
        return self._scheduler

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Worker) -> None:
        """Let others run what a worker has left."""
        if self._scheduler:
            self._scheduler.free(node)

    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """End a worker's engine with the last of its tests: others may come that need no device."""
        ours = parameter(item)
        if self._run.is_worker and ours and (nextitem is None or parameter(nextitem) != ours):
            self._run.release()


class _Tests(NamedTuple):
    """Tests that go to one worker in one piece."""

    indices: tuple[int, ...]
    reserved: EngineSpec | None = None
    """The engine that is to run where they do, if it matters."""


class EngineScheduling:
    """Deals out the kv tests itself, and workers to another scheduler for all other tests.

    What its methods are called for is said by xdist's protocol of schedulers.
    """

    def __init__(
        self,
        theirs: Any,
        *,
        tell_groups: Callable[[], Sequence[EngineGroup]],
        slots: Callable[[int], int],
        store: Callable[[], RunStore],
    ) -> None:
        self._theirs = theirs
        self._workers: int = theirs.numnodes
        self._tell_groups = tell_groups
        self._slots = slots
        self._store = store
        self._collected: dict[Worker, list[str]] = {}
        self._collection: list[str] | None = None
        self._places: dict[str, list[int]] = {}
        """Where each kv test is in the collection; more than once if it is to run so."""
        self._has_others = False
        self._waiting: deque[_Tests] = deque()
        self._sent: dict[Worker, list[int]] = {}
        """Each worker's kv tests that it has not finished, in the order in which it runs them."""
        self._reserved: dict[Worker, list[_Tests]] = {}
        self._handed_over: dict[Worker, _View] = {}

    @property
    def nodes(self) -> list[Worker]:
        return list(self._sent)

    @property
    def collection_is_completed(self) -> bool:
        return len(self._collected) >= self._workers

    @property
    def tests_finished(self) -> bool:
        if self._collection is None or self._waiting or any(len(s) >= MIN_SENT for s in self._sent.values()):
            return False
        return bool(not self._has_others or (self._handed_over and self._theirs.tests_finished))

    @property
    def has_pending(self) -> bool:
        return bool(self._waiting or any(self._sent.values()) or self._theirs.has_pending)

    def add_node(self, node: Worker) -> None:
        self._sent[node] = []

    def add_node_collection(self, node: Worker, collection: Sequence[str]) -> None:
        if self._collection is None or self._collection == list(collection):
            self._collected[node] = list(collection)

    def schedule(self) -> None:
        if self._collection is None:
            self._begin()
        for node in self.nodes:
            if node in self._collected:
                self._keep_busy(node)

    def mark_test_complete(self, node: Worker, item_index: int, duration: float = 0) -> None:
        if item_index not in self._sent[node]:
            view = self._handed_over[node]
            self._theirs.mark_test_complete(view, view.place(item_index), duration)
            return
        self._sent[node].remove(item_index)
        self._free_finished(node)
        self._keep_busy(node)

    def mark_test_pending(self, item: str) -> None:
        if item not in self._places:
            self._theirs.mark_test_pending(item)
            return
        self._waiting.appendleft(_Tests(tuple(self._places[item])))
        for node in self.nodes:
            self._keep_busy(node)

    def remove_pending_tests_from_node(self, node: Worker, indices: Sequence[int]) -> None:
        view = self._handed_over[node]
        self._theirs.remove_pending_tests_from_node(view, [view.place(index) for index in indices])

    def remove_node(self, node: Worker) -> str | None:
        """Forget a worker, deal its kv tests anew; return the test in which it died, if it died."""
        sent = self._sent.pop(node)
        view = self._handed_over.pop(node, None)
        other: str | None = self._theirs.remove_node(view) if view in self._theirs.nodes else None
        if not sent:
            return other
        if sent[1:]:
            self._waiting.appendleft(_Tests(tuple(sent[1:])))
        if other is not None:
            # The worker had not come to this one; those that keep whole scopes have taken it back already.
            with suppress(NotImplementedError):
                self._theirs.mark_test_pending(other)
        return self._collected[node][sent[0]]

    def free(self, node: Worker) -> None:
        """Let others run the engines that were reserved for a worker."""
        for tests in self._reserved.pop(node, ()):
            self._free(tests)

    def _begin(self) -> None:
        """Deal out the kv tests if all workers have collected the same; whatever is left is theirs to do."""
        collections = list(self._collected.values())
        self._collection = collections[0]
        groups = self._tell_groups() if all(c == collections[0] for c in collections) else ()
        known = {nodeid for group in groups for nodeid in group.tests}
        for index, nodeid in enumerate(self._collection):
            if nodeid in known:
                self._places.setdefault(nodeid, []).append(index)
        self._has_others = any(nodeid not in known for c in collections for nodeid in c)
        takers = self._takers(groups)
        for group in spread(groups, len(takers)):
            indices = tuple(i for nodeid in dict.fromkeys(group.tests) for i in self._places[nodeid])
            self._waiting.append(_Tests(indices, group.spec if group.is_ad_hoc else None))
            if group.is_ad_hoc:
                self._store().reserve(group.spec)
        takers = takers[: len(self._waiting)]
        for node in takers:
            self._deal(node)
        rest = [node for node in self._collected if node not in takers]
        if rest:
            self._hand_over(rest)

    def _takers(self, groups: Sequence[EngineGroup]) -> list[Worker]:
        """Return the workers that get kv tests: as many as engines fit on the devices."""
        if not groups:
            return []
        smallest = min(units(group.spec) for group in groups)
        return list(self._collected)[: max(1, self._slots(self._workers) // smallest)]

    def _keep_busy(self, node: Worker) -> None:
        """Send a worker of ours what it needs, or hand it over when there is no more."""
        if node in self._handed_over or node.shutting_down:
            return
        while self._waiting and len(self._sent[node]) < MIN_SENT:
            self._deal(node)
        if len(self._sent[node]) < MIN_SENT:
            self._hand_over([node])

    def _deal(self, node: Worker) -> None:
        tests = self._waiting.popleft()
        if tests.reserved:
            self._reserved.setdefault(node, []).append(tests)
        self._sent[node] += tests.indices
        node.send_runtest_some(tests.indices)

    def _hand_over(self, nodes: Sequence[Worker]) -> None:
        is_first = not self._handed_over
        if is_first:
            self._theirs.numnodes = len(nodes)
        for node in nodes:
            view = self._handed_over[node] = _View(node, self._collected[node], self._places)
            if self._has_others:
                self._theirs.add_node(view)
                self._theirs.add_node_collection(view, view.collection)
            else:
                node.shutdown()
        if self._has_others:
            self._theirs.schedule()
            if not is_first:
                # A worker that comes late is sent one scope at a time, and that may be a single test.
                self._theirs.schedule()

    def _free_finished(self, node: Worker) -> None:
        for tests in list(self._reserved.get(node, ())):
            if not set(tests.indices) & set(self._sent[node]):
                self._reserved[node].remove(tests)
                self._free(tests)

    def _free(self, tests: _Tests) -> None:
        if tests.reserved:
            self._store().free(tests.reserved)


class _View:
    """A worker as the other scheduler sees it: one that has collected no kv tests."""

    def __init__(self, node: Worker, collected: Sequence[str], hidden: Container[str]) -> None:
        self._node = node
        self._indices = [index for index, nodeid in enumerate(collected) if nodeid not in hidden]
        self._places = {index: place for place, index in enumerate(self._indices)}
        self.collection = [collected[index] for index in self._indices]

    def place(self, index: int) -> int:
        """Return where a test of the whole collection is in this one."""
        return self._places[index]

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        self._node.send_runtest_some([self._indices[index] for index in indices])

    def send_steal(self, indices: Sequence[int]) -> None:
        self._node.send_steal([self._indices[index] for index in indices])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)
