"""Update mode: a pytest session whose kv tests make goldens instead of judging (``--kv-golden-update``).

Every process puts what its tests need into the run store, and a shard for each test. The controller alone
compares and writes, at the end: all goldens, or none and a line that says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from pytest_kvcache.engines.devices import platforms
from pytest_kvcache.errors import KvCacheError, PartlyWrittenError
from pytest_kvcache.golden import GoldenDirectory, size_notes
from pytest_kvcache.plan import Request
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import Golden
from pytest_kvcache.redact import redact
from pytest_kvcache.refresh import (
    Refresh,
    Update,
    Want,
    assemble,
    check_may_write,
    check_sizes,
    merge,
    produce,
    wants_of,
)
from pytest_kvcache.session import Session
from pytest_kvcache.shards import Shards
from pytest_kvcache.store import RunStore
from pytest_kvcache.text import listed, printable

GOLDEN_PROPERTY = "kv_golden"
"""The property by which a test that made goldens is told from one that its own mark skipped."""

NONE = "no golden was written"
TO_REPLACE = "--kv-golden-update=all is what replaces goldens"
NOTHING_TO_WRITE = "nothing to write: all goldens are as they were"

_NEEDS: pytest.StashKey[Sequence[Want]] = pytest.StashKey()
_TO_MAKE: pytest.StashKey[Sequence[Want]] = pytest.StashKey()
_STOPPED: Mapping[int, str] = {
    pytest.ExitCode.INTERRUPTED: "pytest was interrupted",
    pytest.ExitCode.INTERNAL_ERROR: "pytest broke",
    pytest.ExitCode.USAGE_ERROR: "pytest was used wrongly",
}


def begin(update: str, directory: Path, project: Path, policy: Policy, *, allow_ci: bool) -> Updating:
    """Look at the goldens that are there; ``project`` is pytest's root directory.

    Raises `UsageError` where none can be written, and in CI, unless they may be written there.
    """
    check_may_write(os.environ, allow_ci=allow_ci)
    goldens = GoldenDirectory(directory)
    goldens.check_writable()
    return Updating(Update(update), Refresh(goldens, project), policy, platforms())


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What the tests of a session have made, and what they have not."""

    made: Sequence[tuple[Want, Golden]]
    left: Sequence[Want]
    """Needed, and there since before."""
    skipped: Mapping[str, Sequence[Want]]
    """What nobody made for tests that were skipped."""


class Updating:
    """The goldens of one session, from what its tests need to what is written."""

    def __init__(self, update: Update, refresh: Refresh, policy: Policy, platforms: Sequence[str]) -> None:
        self._update = update
        self._refresh = refresh
        self._policy = policy
        self._platforms = platforms
        self._skipped: set[str] = set()

    # In every process

    def plan(self, store: RunStore, tests: Iterable[tuple[pytest.Item, Request]]) -> list[Request]:
        """Keep what all kv tests need; return what is asked of engines, so that it can be made.

        Raises `UsageError` for a golden that could not be kept, or would replace another prompt set's.
        """
        expected: dict[str, Sequence[Want]] = {}
        for item, request in tests:
            needs = wants_of(request)
            to_make = tuple(want for want in needs if self._is_due(want))
            item.stash[_NEEDS], item.stash[_TO_MAKE] = needs, to_make
            if needs:
                expected[item.nodeid] = needs
        wants = merge(want for each in expected.values() for want in each)
        due = [want for want in wants if self._is_due(want)]
        check_sizes(due)
        self._refresh.check_own(due, self._platforms)
        Shards(store.root).expect(expected)
        return [want.request for want in due]

    def run(self, item: pytest.Item, store: RunStore, session: Session) -> NoReturn:
        """Make what a test needs in place of running it. Raises `EngineError` if an engine breaks."""
        needs, to_make = item.stash[_NEEDS], item.stash[_TO_MAKE]
        if not needs:
            pytest.skip("golden update: this test needs no golden")
        for want in to_make:
            produce(session, want)
        Shards(store.root).put(item.nodeid)
        kept = (f"{want} is left as it is" for want in needs if want not in to_make)
        outcome = printable(redact("; ".join([*(f"refreshed {want}" for want in to_make), *kept])))
        item.user_properties.append((GOLDEN_PROPERTY, outcome))
        pytest.skip(outcome)

    # On the controller

    def note(self, report: pytest.TestReport) -> None:
        """Note a test that its own mark skipped: it asks for nothing."""
        made = any(name == GOLDEN_PROPERTY for name, _ in report.user_properties)
        if report.when == "setup" and report.skipped and not made:
            self._skipped.add(report.nodeid)

    def finish(
        self, store: RunStore | None, session: pytest.Session, show: Callable[[Sequence[str]], None]
    ) -> list[str]:
        """Write all goldens or none; return what came of it, and make red what must not be overlooked.

        What will change is given to ``show`` before anything is written.
        """
        try:
            gathered = self._gather(store, session.exitstatus)
            review = self._refresh.review(gathered.made, self._policy)
            show([line for change in review.changes for line in change.lines])
            if review.refusals:
                return _red(session, *(f"{NONE}: {refusal}" for refusal in review.refusals))
            written = self._refresh.commit(review)
        except PartlyWrittenError as error:
            return _red(session, str(error))
        except KvCacheError as error:
            return _red(session, f"{NONE}: {error}")
        lines = [f"written: {path}" for path in written] or [NOTHING_TO_WRITE]
        lines += size_notes(written)
        lines += [
            f"not made: {listed(map(str, wants))}, for {test} was skipped"
            for test, wants in gathered.skipped.items()
        ]
        return [*lines, *_red(session, *self._unfit(gathered.left))]

    def _unfit(self, left: Iterable[Want]) -> list[str]:
        """Say of each golden that is left as it is why a gate would refuse it."""
        judged = (self._refresh.unfit(want, self._platforms, self._policy) for want in left)
        return [f"left as it is, and no gate takes it: {why}; {TO_REPLACE}" for why in judged if why]

    def _is_due(self, want: Want) -> bool:
        return self._update is Update.ALL or not self._refresh.has(want, self._platforms)

    def _gather(self, store: RunStore | None, exitstatus: int) -> _Gathered:
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
        if not done:
            raise KvCacheError(f"every test that needs one was skipped: {listed(expected)}")
        wants = merge(want for test in done for want in expected[test])
        due = [want for want in wants if self._is_due(want)]
        known = {want.key for want in wants}
        skipped = {
            test: [want for want in expected[test] if want.key not in known and self._is_due(want)]
            for test in expected
            if test not in done
        }
        return _Gathered(
            made=[(want, _whole(store, want)) for want in due],
            left=[want for want in wants if want not in due],
            skipped={test: wants for test, wants in skipped.items() if wants},
        )


def _red(session: pytest.Session, *reasons: str) -> list[str]:
    """Fail a session that pytest calls green; return the lines that say why."""
    if reasons and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
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
