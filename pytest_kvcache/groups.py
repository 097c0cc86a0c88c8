"""Groups: the kv tests of a run by their engine. Workers collect and tell; the controller deals them out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from pytest_kvcache.files import write_atomically
from pytest_kvcache.plan import Request
from pytest_kvcache.records import EngineSpec

_FILE = "groups.json"


class EngineGroup(msgspec.Struct, frozen=True):
    """All kv tests of one engine, in their order, by node id."""

    spec: EngineSpec
    tests: tuple[str, ...]
    is_ad_hoc: bool
    """Whether some ask the engine for more than is declared, and so must meet it while it is alive."""

    def split(self, parts: int) -> tuple[EngineGroup, ...]:
        """Return so many groups of neighbours, or fewer; one if these tests must stay together."""
        size = len(self.tests) if self.is_ad_hoc else -(-len(self.tests) // parts)
        starts = range(0, len(self.tests), size)
        return tuple(msgspec.structs.replace(self, tests=self.tests[i : i + size]) for i in starts)


def group_tests(tests: Iterable[tuple[str, Request]]) -> tuple[EngineGroup, ...]:
    """Group node ids by engine, each model's baseline before its candidates, which wait for it; twins last.

    A twin is an engine of its own: whoever has nothing left to do may run it while its candidate writes.
    """
    by_spec: dict[EngineSpec, list[tuple[str, Request]]] = {}
    for nodeid, request in tests:
        by_spec.setdefault(_engine(request), []).append((nodeid, request))
    models = list(dict.fromkeys(spec.model for spec in by_spec))

    def rank(item: tuple[EngineSpec, list[tuple[str, Request]]]) -> tuple[int, bool, bool]:
        spec, ((_, request), *_) = item
        return models.index(spec.model), not request.target.is_baseline, spec != request.target.spec

    ordered = sorted(by_spec.items(), key=rank)
    return tuple(
        EngineGroup(spec, tuple(nodeid for nodeid, _ in asked), any(request.ad_hoc for _, request in asked))
        for spec, asked in ordered
    )


def _engine(request: Request) -> EngineSpec:
    """Return the engine that a test is about: the first twin that it needs, else its target's own.

    A test that asks its target's engine for more must meet that.
    """
    target = request.target
    conditions = () if request.ad_hoc else request.conditions
    twins = (target.under(condition).spec for condition in conditions)
    return next((spec for spec in twins if spec != target.spec), target.spec)


def spread(groups: Sequence[EngineGroup], workers: int) -> tuple[EngineGroup, ...]:
    """Return the groups in parts, so that every worker has one where that starts no engine twice.

    What the tests of a part wait for may then run on many workers at once: baseline and candidate.
    """
    parts = -(-workers // len(groups)) if groups else 1
    return tuple(part for group in groups for part in group.split(parts))


def put_groups(directory: Path, groups: Sequence[EngineGroup]) -> None:
    """Tell the controller, by the run directory. All workers say the same."""
    write_atomically(directory / _FILE, msgspec.json.encode(groups))


def read_groups(directory: Path) -> tuple[EngineGroup, ...]:
    """Return what workers have told; nothing if no kv test was collected."""
    try:
        data = (directory / _FILE).read_bytes()
    except FileNotFoundError:
        return ()
    return msgspec.json.decode(data, type=tuple[EngineGroup, ...])
