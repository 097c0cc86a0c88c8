"""A run: one pytest session that was asked for kv dtypes, from collection to reports.

It is registered as a plugin of its own, so that a session without kv dtypes has none of its hooks.
Under xdist the controller names the run directory and writes the reports; workers share the run store.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kvcache import report
from pytest_kvcache.declarations import (
    NO_TARGET,
    declared_marker,
    is_kv,
    parameter,
    request_of,
    sum_up,
)
from pytest_kvcache.dtypes import vllm_version
from pytest_kvcache.errors import KvCacheError, QualityError, UsageError
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.policy import Limits, Policy, load_policy
from pytest_kvcache.progress import ProgressFile, ProgressFollower, ProgressLine
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.promptsets import PromptSource
from pytest_kvcache.records import (
    Declared,
    PlannedGoldens,
    PlannedOutputs,
    PlannedScores,
    PromptSet,
    Verdict,
    VerdictKind,
)
from pytest_kvcache.redact import redact
from pytest_kvcache.rundir import make_run_directory, name_run_directory
from pytest_kvcache.settings import Settings
from pytest_kvcache.store import RunStore
from pytest_kvcache.targets import make_targets
from pytest_kvcache.text import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from pytest_kvcache.engines.pool import Notify
    from pytest_kvcache.handle import EngineHandle
    from pytest_kvcache.session import Session
    from pytest_kvcache.updating import Updating

VERDICT: pytest.StashKey[Verdict] = pytest.StashKey()
PROGRESS = "progress.log"
TARGET_PROPERTY = "kv_target"
"""The property by which reports of kv tests are known on the controller."""


class Run:
    """All that one pytest session does with kv dtypes. Its ``pytest_*`` methods are hooks.

    Raises `UsageError` for settings that are wrong if the command line asked for kv dtypes. If only the
    ini file did, that waits until a kv test is collected: other tests are none of its business.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._policy = Policy()
        self._targets: tuple[Target, ...] = ()
        self._prompts = PromptSource()
        self._wrong: UsageError | None = None
        try:
            self._policy = load_policy(settings.policy) if settings.policy else Policy()
            self._targets = make_targets(settings, self._policy)
            own = load_prompt_set(str(settings.prompts)) if settings.prompts else None
            self._prompts = PromptSource(own, settings.max_tokens)
        except UsageError as error:
            if settings.dtypes_on_command_line:
                raise
            self._wrong = error
        worker = getattr(config, "workerinput", None)
        self._is_worker = worker is not None
        self._workers: int = worker["workercount"] if worker else 1
        self._directory = Path(worker["kvcache_run"]) if worker else name_run_directory(settings.report)
        self._started = datetime.now(UTC)
        self._kv_collected = False
        self._requests: list[Request] = []
        self._deselected: list[pytest.Item] = []
        self._kv_reports = 0
        self._lines: list[str] = []
        self._failed_to_report = False
        self._results: report.Results | None = None
        self._session: Session | None = None
        self._follower: ProgressFollower | None = None
        self._updating: Updating | None = None
        if settings.golden_update is not None:
            from pytest_kvcache.updating import begin

            self._updating = begin(
                settings.golden_update, settings.golden_dir, self._policy, allow_ci=settings.golden_allow_ci
            )

    @property
    def session(self) -> Session:
        """The session over the finished plan, made when first needed."""
        if self._session is None:
            from pytest_kvcache.engines.devices import DevicePool
            from pytest_kvcache.engines.launch import child_engine_factory
            from pytest_kvcache.golden_use import finder
            from pytest_kvcache.session import Session

            timeout = self._settings.timeout
            factory = self._config.hook.pytest_kvcache_engine_factory(config=self._config, timeout=timeout)
            self._session = Session(
                make_plan(self._requests),
                self._store(),
                factory or child_engine_factory(timeout),
                DevicePool(self._workers),
                find_golden=finder(self._settings.golden_dir),
                notify=self._notify(),
            )
        return self._session

    # What fixtures ask for

    def handle(self, target: Target) -> EngineHandle:
        from pytest_kvcache.handle import EngineHandle

        return EngineHandle(self.session, target, lambda name: self._prompts.load(name, Path.cwd(), None))

    def outputs(self, item: pytest.Item, target: Target) -> PlannedOutputs:
        from pytest_kvcache.handle import planned_outputs

        return planned_outputs(self.session, target, self._prompt_sets(item))

    def scores(self, item: pytest.Item, target: Target) -> PlannedScores:
        from pytest_kvcache.handle import planned_scores

        return planned_scores(self.session, target, self._prompt_sets(item))

    def goldens(self, item: pytest.Item, target: Target) -> PlannedGoldens:
        from pytest_kvcache.handle import planned_goldens

        return planned_goldens(self.session, target, self._prompt_sets(item))

    def limits(self, target: Target) -> Limits:
        return self._policy.limits_for(target.spec.model)

    def verdict(self, item: pytest.Item, target: Target) -> Verdict:
        verdict = self.session.verdict(target, self._prompt_sets(item), self._policy, date.today())
        item.stash[VERDICT] = verdict
        item.user_properties += report.junit_properties(verdict)
        return verdict

    # Collection

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker which run it belongs to."""
        node.workerinput["kvcache_run"] = str(self._directory)
        if self._follower is None and self._terminal:
            self._follower = ProgressFollower(self._directory / PROGRESS, self._terminal)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize `vllm_engine` over the targets that the test's marker admits."""
        if "vllm_engine" not in metafunc.fixturenames:
            return
        self._kv_collected = True
        if self._wrong:
            return
        try:
            marker = declared_marker(metafunc.definition, self._policy)
        except UsageError as error:
            self._wrong = error
            return
        candidates_only = "kv_verdict" in metafunc.fixturenames and self._updating is None
        admitted = [t for t in self._targets if marker.admits(t) and not (candidates_only and t.is_baseline)]
        params = [pytest.param(t, id=t.id) for t in admitted] or [NO_TARGET]
        metafunc.parametrize("vllm_engine", params, indirect=True, scope="session")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect, and so count, what is admitted to no target."""
        if self._wrong and self._kv_collected:
            self._refuse(self._wrong)
            items.clear()
        nowhere = [item for item in items if is_kv(item) and parameter(item) is None]
        if nowhere:
            config.hook.pytest_deselected(items=nowhere)
            items[:] = [item for item in items if item not in nowhere]

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        self._deselected += [item for item in items if parameter(item) is not None]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Plan all that the selected tests declare."""
        kv_items = [item for item in session.items if is_kv(item)]
        try:
            self._requests = [request_of(item, self._prompt_sets(item)) for item in kv_items]
        except UsageError as error:
            self._refuse(error)
            session.items.clear()
            return
        for item, request in zip(kv_items, self._requests, strict=True):
            item.user_properties.append((TARGET_PROPERTY, request.target.id))
        if (kv_items or self._deselected) and not session.config.option.collectonly:
            self._store().put_declared(sum_up(kv_items, self._requests, self._deselected))
            if self._updating is not None:
                asked = zip(kv_items, self._requests, strict=True)
                self._requests = self._updating.plan(self._store(), asked)

    def _refuse(self, error: UsageError) -> None:
        """End with exit status 4; a worker cannot, so it leaves word for the controller and runs nothing."""
        if not self._is_worker:
            raise pytest.UsageError(str(error)) from None
        self._store().put_refusal(str(error))

    # Outcomes

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """In update mode, make what a test needs, before any of its fixtures is set up."""
        if self._updating is not None and is_kv(item):
            self._updating.run(item, self._store(), self.session)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Hold a test to its verdict, and make declared failures expected ones."""
        try:
            result = yield
        except QualityError as error:
            if is_kv(item):
                self._xfail_if_declared(parameter(item), error)
            raise
        verdict = item.stash.get(VERDICT, None)
        if verdict is not None:
            if verdict.verdict is VerdictKind.KNOWN_BAD:
                pytest.xfail(_line(verdict.summary))
            if not verdict.ok:
                pytest.fail(_line(verdict.summary), pytrace=False)
        return result

    def _xfail_if_declared(self, target: Target, error: QualityError) -> None:
        """Expect a failure for declared reasons and no others; a baseline's is never expected."""
        declared = self._policy.known_bad_for(target.spec.model, target.variant or target.kv_dtype)
        if declared is None or target.is_baseline or declared.expired(date.today()):
            return
        if error.codes and set(error.codes) <= set(declared.codes):
            pytest.xfail(f"known-bad: {error}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show an error of ours as its one line: a traceback through the plugin helps nobody."""
        made = yield
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, KvCacheError) and not isinstance(error, QualityError):
            made.longrepr = _line(str(error))
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._updating is not None:
            self._updating.note(report)
        is_kv_test = any(name == TARGET_PROPERTY for name, _ in report.user_properties)
        is_plain_skip = report.skipped and not hasattr(report, "wasxfail")
        if is_kv_test and (report.when == "call" or report.failed) and not is_plain_skip:
            self._kv_reports += 1

    # End

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """End the engine; on the controller, write the reports and fail what judged nothing."""
        if self._session is not None:
            self._session.release()
        if self._follower is not None:
            self._follower.stop()
        if self._is_worker or session.config.option.collectonly:
            return
        store = self._store() if self._directory.exists() else None
        if store and (refusal := store.refusal()):
            self._lines.append(f"ERROR: {refusal}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            return
        if self._updating is not None:
            self._lines += self._updating.finish(store, session)
            return
        declared = None
        if store:
            declared = store.declared()
            self._write_reports(store, declared)
        complaint = self._complaint(declared)
        if complaint and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            self._lines.append(f"red: {complaint}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._is_worker or not (self._results or self._lines):
            return
        terminalreporter.section("kv goldens" if self._updating else "kv cache verdicts", sep="=")
        if self._results:
            for line in report.verdict_lines(self._results, width=terminalreporter._tw.fullwidth):
                for segment in line:
                    terminalreporter.write(segment.text, **report.MARKUP[segment.style])
                terminalreporter.line("")
        for text in self._lines:
            terminalreporter.line(_line(text))

    def pytest_report_header(self) -> str:
        """Name what decides the results."""
        return _line(f"kvcache: {self._settings.summary}; {vllm_version()}")

    def _complaint(self, declared: Declared | None) -> str | None:
        """Return why a run that pytest calls green is not, or None."""
        asked = self._settings.dtypes_on_command_line
        verdicts = self._results.verdicts if self._results else ()
        missing = declared.verdicts_planned - len(verdicts) if declared else 0
        red = [verdict for verdict in verdicts if not verdict.ok]
        if self._failed_to_report:
            return "the reports could not be written, and older ones may lie in their place"
        if asked and not self._kv_reports:
            return "--kv-dtypes asked for a gate and no kv test ran: select some, or leave --kv-dtypes out"
        if asked and missing > 0:
            return f"{missing} planned verdicts were never given: were their tests skipped?"
        return red[0].summary if red else None

    def _write_reports(self, store: RunStore, declared: Declared) -> None:
        try:
            judged = store.verdicts()
            self._results = report.Results(
                schema_version=report.SCHEMA_VERSION,
                run=self._run_info(declared, len(judged)),
                engines=store.reports(),
                verdicts=tuple(verdict for verdict, _ in judged),
                excerpts=tuple(excerpt for _, excerpts in judged for excerpt in excerpts),
                goldens=self._goldens(store, declared),
            )
            self._lines += report.write_reports(self._settings.report, self._results, os.environ)
        except KvCacheError as error:
            self._failed_to_report = True
            self._lines.append(str(error))
        self._lines += [
            f"note: the policy has limits for {model}, which is no model of this run"
            for model in self._policy.limits_by_model
            if model not in self._settings.models
        ]
        if self._results and self._results.goldens.unused:
            unused = ", ".join(self._results.goldens.unused)
            self._lines.append(f"note: no test uses {unused} (in {self._settings.golden_dir})")

    def _goldens(self, store: RunStore, declared: Declared) -> report.Goldens:
        from pytest_kvcache.golden_use import goldens_of_run

        is_one_of_many = any("::" in name or Path(name).is_file() for name in self._config.args)
        is_whole = declared.is_whole and not is_one_of_many
        return goldens_of_run(self._settings.golden_dir, store, declared, is_whole=is_whole)

    def _run_info(self, declared: Declared, verdicts: int) -> report.RunInfo:
        option = self._config.option
        return report.RunInfo(
            complete=not declared.verdicts_left_out and verdicts >= declared.verdicts_planned,
            selection=report.Selection(
                option.keyword or None, option.markexpr or None, declared.verdicts_left_out
            ),
            started=self._started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=(datetime.now(UTC) - self._started).total_seconds(),
            command=("pytest", *self._config.invocation_params.args),
            prompt_sets=declared.prompt_sets,
        )

    def _store(self) -> RunStore:
        make_run_directory(self._directory)
        return RunStore(self._directory)

    def _prompt_sets(self, item: pytest.Item) -> tuple[PromptSet, ...]:
        marker = declared_marker(item, self._policy)
        return tuple(self._prompts.load(s, item.path.parent, marker.max_tokens) for s in marker.prompt_sets)

    def _notify(self) -> Notify:
        if self._is_worker:
            return ProgressFile(self._directory / PROGRESS)
        return ProgressLine(self._terminal) if self._terminal else _say_nothing

    @property
    def _terminal(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")


def _line(text: str) -> str:
    """Return what is shown of an error or a verdict: harmless, and without secrets."""
    return printable(redact(text))


def _say_nothing(label: str, phase: str, done: int, total: int) -> None:
    """Report progress where there is no terminal."""
