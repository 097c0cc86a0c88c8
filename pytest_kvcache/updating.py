"""Update mode: a pytest session whose kv tests make goldens instead of judging (``--kv-golden-update``).

Every process puts what its tests need into the run store, and a shard for each test. The controller alone
compares and writes, at the end: all goldens, or none and a line that says why.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from pytest_kvcache.engines.devices import platforms
from pytest_kvcache.errors import KvCacheError, PartlyWrittenError
from pytest_kvcache.golden import GoldenDirectory
from pytest_kvcache.plan import Request
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import Golden
from pytest_kvcache.refresh import (
    Refresh,
    Update,
    Want,
    assemble,
    check_may_write,
    merge,
    produce,
    wants_of,
)
from pytest_kvcache.session import Session
from pytest_kvcache.shards import Shards
from pytest_kvcache.store import RunStore

GOLDEN_PROPERTY = "kv_golden"
"""The property by which a test that made goldens is told from one that its own mark skipped."""

NONE = "no golden was written"
NOTHING_TO_WRITE = "nothing to write: all goldens are as they were"

_NEEDS: pytest.StashKey[Sequence[Want]] = pytest.StashKey()
_TO_MAKE: pytest.StashKey[Sequence[Want]] = pytest.StashKey()
_STOPPED: Mapping[int, str] = {
    pytest.ExitCode.INTERRUPTED: "pytest was interrupted",
    pytest.ExitCode.INTERNAL_ERROR: "pytest broke",
    pytest.ExitCode.USAGE_ERROR: "pytest was used wrongly",
}


def begin(update: str, directory: Path, policy: Policy, *, allow_ci: bool) -> Updating:
    """Look at the goldens that are there. Raises `UsageError` in CI, unless they may be written there."""
    check_may_write(os.environ, allow_ci=allow_ci)
    return Updating(Update(update), GoldenDirectory(directory), policy, platforms())


class Updating:
    """The goldens of one session, from what its tests need to what is written."""

    def __init__(
        self, update: Update, directory: GoldenDirectory, policy: Policy, platforms: Collection[str]
    ) -> None:
        self._update = update
        self._refresh = Refresh(directory)
        self._policy = policy
        self._platforms = platforms
        self._skipped: set[str] = set()

    # In every process

    def plan(self, store: RunStore, tests: Iterable[tuple[pytest.Item, Request]]) -> list[Request]:
        """Keep what all kv tests need; return what is asked of engines, so that it can be made."""
        expected: dict[str, Sequence[Want]] = {}
        for item, request in tests:
            needs = wants_of(request)
            to_make = tuple(want for want in needs if self._is_due(want))
            item.stash[_NEEDS], item.stash[_TO_MAKE] = needs, to_make
            if needs:
                expected[item.nodeid] = to_make
        Shards(store.root).expect(expected)
        return [want.request for want in merge(want for each in expected.values() for want in each)]

    def run(self, item: pytest.Item, store: RunStore, session: Session) -> NoReturn:
        """Make what a test needs in place of running it. Raises `EngineError` if an engine breaks."""
        needs, to_make = item.stash[_NEEDS], item.stash[_TO_MAKE]
        if not needs:
            pytest.skip("golden update: this test needs no golden")
        for want in to_make:
            produce(session, want)
        Shards(store.root).put(item.nodeid)
        kept = (f"{want} is left as it is" for want in needs if want not in to_make)
        outcome = "; ".join([*(f"refreshed {want}" for want in to_make), *kept])
        item.user_properties.append((GOLDEN_PROPERTY, outcome))
        pytest.skip(outcome)

    # On the controller

    def note(self, report: pytest.TestReport) -> None:
        """Note a test that its own mark skipped: it asks for nothing."""
        made = any(name == GOLDEN_PROPERTY for name, _ in report.user_properties)
        if report.when == "setup" and report.skipped and not made:
            self._skipped.add(report.nodeid)

    def finish(self, store: RunStore | None, session: pytest.Session) -> list[str]:
        """Write all goldens or none; return what is to be said, and make red what did not."""
        lines: list[str] = []
        try:
            review = self._refresh.review(self._gather(store, session.exitstatus), self._policy)
            lines += [line for change in review.changes for line in change.lines]
            if review.refusals:
                return [*lines, *_red(session, *(f"{NONE}: {refusal}" for refusal in review.refusals))]
            written = self._refresh.commit(review)
        except PartlyWrittenError as error:
            return [*lines, *_red(session, str(error))]
        except KvCacheError as error:
            return [*lines, *_red(session, f"{NONE}: {error}")]
        return [*lines, *(f"written: {path}" for path in written)] if written else [*lines, NOTHING_TO_WRITE]

    def _is_due(self, want: Want) -> bool:
        return self._update is Update.ALL or not self._refresh.has(want, self._platforms)

    def _gather(self, store: RunStore | None, exitstatus: int) -> list[tuple[Want, Golden]]:
        """Return what the tests have made. Raises `KvCacheError` unless it is all that they need."""
        if why := _STOPPED.get(exitstatus):
            raise KvCacheError(f"{why}, so that tests may be missing: refresh again")
        expected = Shards(store.root).expected() if store else {}
        if store is None or not expected:
            raise KvCacheError("no test that was selected needs one: select tests that use a baseline")
        shards = Shards(store.root)
        done = [test for test in expected if shards.has(test)]
        missing = [test for test in expected if test not in done and test not in self._skipped]
        if missing:
            raise KvCacheError(_why_missing(store, missing, expected))
        return [(want, _whole(store, want)) for want in merge(w for test in done for w in expected[test])]


def _red(session: pytest.Session, *reasons: str) -> list[str]:
    """Fail a session that pytest calls green; return the lines that say why."""
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return [f"red: {reason}" for reason in reasons]


def _whole(store: RunStore, want: Want) -> Golden:
    golden = assemble(store, want)
    if golden is None:
        raise KvCacheError(f"{want} is not whole in the run store: refresh again")
    return golden


def _why_missing(store: RunStore, missing: Sequence[str], expected: Mapping[str, Sequence[Want]]) -> str:
    """Say how many tests came to no end, and why the first did not."""
    first = missing[0]
    failures = (store.failure(want.target.spec, want.prompt_set) for want in expected[first])
    why = next(filter(None, failures), "it did not run, or its process died")
    return f"{len(missing)} of {len(expected)} tests did not make theirs, first {first}: {why}"
