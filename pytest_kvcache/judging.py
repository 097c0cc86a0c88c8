"""Judging: what becomes of a kv test that runs: its own outcome, its verdict's, or a golden instead."""

from __future__ import annotations

import os
from datetime import date
from typing import TYPE_CHECKING

import pytest

from pytest_kvcache import report
from pytest_kvcache.declarations import is_kv, parameter
from pytest_kvcache.errors import ConditionError, GoldenMismatchError, KvCacheError, QualityError
from pytest_kvcache.records import PlannedConditions, ReasonCode, Verdict, VerdictKind
from pytest_kvcache.run import ERROR_PROPERTY, REASONS_PROPERTY, Run, shown

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_kvcache.plan import Target

_VERDICT: pytest.StashKey[Verdict] = pytest.StashKey()


def give_verdict(run: Run, item: pytest.Item, target: Target) -> Verdict:
    """Return the verdict of a test, which it will be held to, and tell JUnit of it."""
    verdict = run.verdict(item, target)
    item.stash[_VERDICT] = verdict
    item.user_properties += report.junit_properties(verdict)
    return verdict


def give_conditions(run: Run, item: pytest.Item, target: Target) -> PlannedConditions:
    """Return what a test compares; skip it where one of its conditions cannot come about."""
    try:
        return run.scores_under_conditions(item, target)
    except ConditionError as error:
        pytest.skip(shown(str(error)))


class Judging:
    """The hooks of one run while its tests run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """In update mode, make what a test needs, before any of its fixtures is set up."""
        if self._run.updating is not None and is_kv(item):
            self._run.updating.run(item, self._run.store(), self._run.session)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Hold a test to its verdict, and make declared failures expected ones."""
        try:
            result = yield
        except QualityError as error:
            item.user_properties.append((REASONS_PROPERTY, " ".join(error.codes)))
            if is_kv(item):
                self._xfail_if_declared(item, error)
            is_sound = ReasonCode.BASELINE_DEGENERATE not in error.codes
            if is_kv(item) and is_sound and isinstance(error, GoldenMismatchError):
                command = report.accept_step(self._run.options, _named_from_here(item))
                error.add_note(f"this test's goldens are written anew by: {shown(command)}")
            raise
        verdict = item.stash.get(_VERDICT, None)
        if verdict is not None:
            if verdict.verdict is VerdictKind.KNOWN_BAD:
                pytest.xfail(shown(verdict.summary))
            if not verdict.ok:
                pytest.fail(shown(verdict.summary), pytrace=False)
        elif is_kv(item):
            self._fail_if_outlived(item)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show an error of ours as its one line: a traceback through the plugin helps nobody."""
        made = yield
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, KvCacheError) and not isinstance(error, QualityError):
            made.longrepr = shown(str(error))
            item.user_properties.append((ERROR_PROPERTY, type(error).__name__))  # JUnit reads the last report
        return made

    def _xfail_if_declared(self, item: pytest.Item, error: QualityError) -> None:
        """Expect a failure for declared reasons and no others; a baseline's is never expected."""
        declared = self._run.known_bad(item, parameter(item))
        if declared is None or declared.expired(date.today()):
            return
        if error.codes and set(error.codes) <= set(declared.codes):
            pytest.xfail(f"known-bad: {error}")

    def _fail_if_outlived(self, item: pytest.Item) -> None:
        """Fail a test that passes although a declaration names it."""
        declared = self._run.known_bad(item, parameter(item))
        if declared is not None and declared.tests:
            item.user_properties.append((REASONS_PROPERTY, ReasonCode.KNOWN_BAD_NOT_REPRODUCED.value))
            pytest.fail(shown(f"{parameter(item).id}: {declared.outlived}"), pytrace=False)


def _named_from_here(item: pytest.Item) -> str:
    """Return what names a test where pytest was called; node ids are relative to the root directory."""
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    return f"{path}::{item.nodeid.partition('::')[2]}"
