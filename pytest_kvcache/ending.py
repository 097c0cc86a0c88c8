"""Ending: what a run leaves behind. The controller alone reports, and fails a run that judged nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kvcache import report
from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.golden_use import goldens_of_run
from pytest_kvcache.performance import performances, read_rounds
from pytest_kvcache.promptsets import LONG_TEXTS
from pytest_kvcache.records import CHAT_TEMPLATE_KWARGS
from pytest_kvcache.run import TARGET_PROPERTY, Run, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kvcache.records import Declared
    from pytest_kvcache.store import RunStore

_GREEN = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


class Ending:
    """The hooks of one run that sum it up."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._started = datetime.now(UTC)
        self._kv_reports = 0
        self._not_measured: dict[str, str] = {}
        """Why tests of performance measured nothing, by the ids of their targets."""
        self._results: report.Results | None = None
        self._failed_to_report = False
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the kv tests that ran, and note why performance was not measured."""
        if self._run.updating is not None:
            self._run.updating.note(report)
        target = next((str(value) for name, value in report.user_properties if name == TARGET_PROPERTY), None)
        is_plain_skip = report.skipped and not hasattr(report, "wasxfail")
        if target and (report.when == "call" or report.failed) and not is_plain_skip:
            self._kv_reports += 1
        if target and is_plain_skip and "kv_perf" in report.keywords and isinstance(report.longrepr, tuple):
            self._not_measured[target] = report.longrepr[2].removeprefix("Skipped: ")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """End the engine; on the controller, write the reports and fail what judged nothing."""
        run = self._run
        run.close()
        if run.is_worker or session.config.option.collectonly:
            return
        store = run.store() if run.directory.exists() else None
        if store and (refusal := store.refusal()):
            self._lines.append(f"ERROR: {refusal}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            return
        if run.updating is not None:
            self._lines += run.updating.finish(store, session, self._show_changes)
            return
        declared = None
        if store:
            declared = store.declared()
            self._write_reports(store, declared)
        complaint = self._complaint(declared)
        if complaint and exitstatus in _GREEN:
            self._lines.append(f"red: {complaint}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._run.is_worker or not (self._results or self._lines):
            return
        terminalreporter.section("kv goldens" if self._run.updating else "kv cache verdicts", sep="=")
        if self._results:
            for line in report.verdict_lines(self._results, width=terminalreporter._tw.fullwidth):
                for segment in line:
                    terminalreporter.write(segment.text, **report.MARKUP[segment.style])
                terminalreporter.line("")
        for text in self._lines:
            terminalreporter.line(shown(text))

    def _show_changes(self, lines: Sequence[str]) -> None:
        """Show what a refresh will change, before it writes."""
        terminal = self._run.config.pluginmanager.get_plugin("terminalreporter")
        if terminal and lines:
            terminal.line("")
            terminal.section("kv goldens: what changes")
            for line in lines:
                terminal.line(shown(line))
            terminal.flush()

    def _complaint(self, declared: Declared | None) -> str | None:
        """Return why a run that pytest calls green is not, or None."""
        asked = self._run.settings.dtypes_on_command_line
        verdicts = self._results.verdicts if self._results else ()
        missing = declared.verdicts_planned - len(verdicts) if declared else 0
        red = [verdict for verdict in verdicts if not verdict.ok]
        if self._failed_to_report:
            return "the reports could not be written, and older ones may lie in their place"
        if asked and not self._kv_reports:
            advice = self._advice(declared.only_on_request if declared else None)
            return f"--kv-dtypes asked for a gate and no kv test ran: {advice}"
        if asked and missing > 0:
            return f"{missing} planned verdicts were never given: were their tests skipped?"
        return red[0].summary if red else None

    def _advice(self, on_request: str | None) -> str:
        if on_request and on_request not in self._run.config.option.markexpr:
            return f"those found run only with -m {on_request}"
        return "select some, or leave --kv-dtypes out"

    def _write_reports(self, store: RunStore, declared: Declared) -> None:
        settings = self._run.settings
        notes = self._notes(store, declared)
        try:
            judged = store.verdicts()
            self._results = report.Results(
                schema_version=report.SCHEMA_VERSION,
                run=self._run_info(declared, len(judged)),
                engines=store.reports(),
                verdicts=tuple(verdict for verdict, _ in judged),
                excerpts=tuple(excerpt for _, excerpts in judged for excerpt in excerpts),
                goldens=self._goldens(store, declared),
                notes=notes,
                performance=performances(
                    self._run.targets, store.provenances(), read_rounds(store.root), self._not_measured
                ),
            )
            self._lines += report.write_reports(settings.report, self._results, os.environ)
        except KvCacheError as error:
            self._failed_to_report = True
            self._lines.append(str(error))
        self._lines += [f"note: {note}" for note in notes]
        if self._results and self._results.goldens.unused:
            unused = ", ".join(self._results.goldens.unused)
            self._lines.append(f"note: no test uses {unused} (in {settings.golden_dir})")

    def _notes(self, store: RunStore, declared: Declared) -> tuple[str, ...]:
        settings = self._run.settings
        policy = self._run.policy
        notes = [
            f"the policy has {what} for {model}, which is no model of this run"
            for what, given in (
                ("limits", policy.limits_by_model),
                (CHAT_TEMPLATE_KWARGS, policy.chat_template_kwargs),
            )
            for model in given
            if model not in settings.models
        ]
        if settings.context and LONG_TEXTS not in [used.name for used in declared.prompt_sets]:
            notes.append(
                f"--kv-context={settings.context} changed nothing: no selected test uses {LONG_TEXTS}, "
                "which is of the full tier (-m kv_full)"
            )
        return (*store.notes(), *notes)

    def _goldens(self, store: RunStore, declared: Declared) -> report.Goldens:
        config = self._run.config
        is_whole = declared.is_whole and not _is_narrowed(config)
        golden_dir = self._run.settings.golden_dir
        return goldens_of_run(golden_dir, config.rootpath, store, declared, is_whole=is_whole)

    def _run_info(self, declared: Declared, verdicts: int) -> report.RunInfo:
        option = self._run.config.option
        return report.RunInfo(
            complete=not declared.verdicts_left_out and verdicts >= declared.verdicts_planned,
            selection=report.Selection(
                option.keyword or None, option.markexpr or None, declared.verdicts_left_out
            ),
            started=self._started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=(datetime.now(UTC) - self._started).total_seconds(),
            command=("pytest", *self._run.config.invocation_params.args),
            prompt_sets=declared.prompt_sets,
        )


def _is_narrowed(config: pytest.Config) -> bool:
    """Whether the command line leaves tests out, or has them ask for other sets than they usually do."""
    option = config.option
    settings = option.override_ini  # perhaps testpaths, or which files hold tests
    leaves_out = option.ignore or option.ignore_glob or getattr(option, "lf", False) or settings
    return bool(
        leaves_out
        or option.kv_prompts
        or option.kv_max_tokens
        or option.kv_context
        or not _is_everywhere(config)
    )


def _is_everywhere(config: pytest.Config) -> bool:
    """Whether pytest looked for tests in the whole root directory, or wherever ``testpaths`` says."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return True
    searched = [Path(config.invocation_params.dir, name).resolve() for name in config.args]
    wanted = [Path(config.rootpath, name).resolve() for name in config.getini("testpaths") or ["."]]
    return all(any(place.is_relative_to(above) for above in searched) for place in wanted)
