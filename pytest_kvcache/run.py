"""A run: one pytest session that was asked for kv dtypes, from collection to reports.

It is registered as a plugin of its own, so that a session without kv dtypes has none of its hooks.
Under xdist the controller makes the run directory and writes the reports; workers share the run store.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kvcache import report
from pytest_kvcache.dtypes import vllm_distribution
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.engines.pool import Notify
from pytest_kvcache.errors import KvCacheError, QualityError, UsageError
from pytest_kvcache.markers import KvSensitive
from pytest_kvcache.options import Settings, make_targets
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.policy import Policy, load_policy
from pytest_kvcache.progress import ProgressFile, ProgressFollower, ProgressLine
from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets
from pytest_kvcache.records import Declared, PlannedOutputs, PromptSet, PromptSetUse, Verdict, VerdictKind
from pytest_kvcache.rundir import new_run_directory
from pytest_kvcache.session import EngineHandle, Session
from pytest_kvcache.store import RunStore

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

VERDICT: pytest.StashKey[Verdict] = pytest.StashKey()
TIERS = frozenset({"kv_smoke", "kv_full"})
PROGRESS = "progress.log"
TARGET_PROPERTY = "kv_target"
"""The property by which reports of kv tests are known on the controller."""


class Run:
    """All that one pytest session does with kv dtypes. Its ``pytest_*`` methods are hooks."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._policy = load_policy(settings.policy) if settings.policy else Policy()
        self._targets = make_targets(settings, self._policy)
        self._prompts = load_prompt_set(str(settings.prompts)) if settings.prompts else None
        self._started = datetime.now(UTC)
        self._requests: list[Request] = []
        self._deselected: list[pytest.Item] = []
        self._wrong: UsageError | None = None
        self._kv_reports = 0
        self._lines: list[str] = []
        self._results: report.Results | None = None
        self._session: Session | None = None
        self._follower: ProgressFollower | None = None
        worker = getattr(config, "workerinput", None)
        self._is_worker = worker is not None
        self._workers: int = worker["workercount"] if worker else 1
        self._directory: Path | None = Path(worker["kvcache_run"]) if worker else None

    @property
    def directory(self) -> Path:
        """The run directory, made when first needed."""
        if self._directory is None:
            self._directory = new_run_directory(self._settings.report)
        return self._directory

    @property
    def session(self) -> Session:
        """The session over the finished plan, made when first needed."""
        if self._session is None:
            timeout = self._settings.timeout
            factory = self._config.hook.pytest_kvcache_engine_factory(config=self._config, timeout=timeout)
            self._session = Session(
                make_plan(self._requests),
                RunStore(self.directory),
                factory or child_engine_factory(timeout),
                DevicePool(self._workers),
                notify=self._notify(),
            )
        return self._session

    def _notify(self) -> Notify:
        if self._is_worker:
            return ProgressFile(self.directory / PROGRESS)
        return ProgressLine(self._terminal) if self._terminal else _say_nothing

    @property
    def _terminal(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    # What fixtures ask for

    def handle(self, target: Target) -> EngineHandle:
        return EngineHandle(self.session, target, lambda name: self._prompt_set(name, Path.cwd(), None))

    def outputs(self, item: pytest.Item, target: Target) -> PlannedOutputs:
        return PlannedOutputs(tuple(self.session.outputs(target, s) for s in self._prompt_sets(item)))

    def verdict(self, item: pytest.Item, target: Target) -> Verdict:
        verdict = self.session.verdict(target, self._prompt_sets(item), self._policy, date.today())
        item.stash[VERDICT] = verdict
        item.user_properties += report.junit_properties(verdict)
        return verdict

    # Collection

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker which run it belongs to."""
        node.workerinput["kvcache_run"] = str(self.directory)
        if self._follower is None and self._terminal:
            self._follower = ProgressFollower(self.directory / PROGRESS, self._terminal)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize `vllm_engine` over the targets that the test's marker admits."""
        if "vllm_engine" not in metafunc.fixturenames:
            return
        try:
            marker = _marker(metafunc.definition)
        except UsageError as error:
            self._wrong = self._wrong or error
            return
        judges = "kv_verdict" in metafunc.fixturenames
        admitted = [t for t in self._targets if marker.admits(t) and not (judges and t.is_baseline)]
        params = [pytest.param(t, id=t.id) for t in admitted] or [pytest.param(None, id="no-target")]
        metafunc.parametrize("vllm_engine", params, indirect=True, scope="session")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect, and so count, what is admitted to no target."""
        if self._wrong:
            self._refuse(self._wrong)
            items.clear()
        nowhere = [item for item in items if _is_kv(item) and _target(item) is None]
        if nowhere:
            config.hook.pytest_deselected(items=nowhere)
            items[:] = [item for item in items if item not in nowhere]

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        self._deselected += [item for item in items if _target(item) is not None]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Plan all that the selected tests declare."""
        kv_items = [item for item in session.items if _is_kv(item)]
        try:
            self._requests = [self._request(item) for item in kv_items]
        except UsageError as error:
            self._refuse(error)
            return
        for item in kv_items:
            item.user_properties.append((TARGET_PROPERTY, _parameters(item)["vllm_engine"].id))
        if (kv_items or self._deselected) and not session.config.option.collectonly:
            RunStore(self.directory).put_declared(self._declared(kv_items))

    def _refuse(self, error: UsageError) -> None:
        """End with exit status 4; a worker cannot, so it leaves word for the controller and runs nothing."""
        if not self._is_worker:
            raise pytest.UsageError(str(error)) from None
        RunStore(self.directory).put_refusal(str(error))

    def _declared(self, kv_items: list[pytest.Item]) -> Declared:
        """Sum up the collection for the controller, which under xdist collects nothing itself."""
        tiers = {tier for item in kv_items for tier in _tiers(item)}
        sets = {s.key: s for request in self._requests for s in request.prompt_sets}
        left_out = [
            item
            for item in self._deselected
            if _judges(item) and (not kv_items or not _tiers(item) or _tiers(item) & tiers)
        ]
        uses = (PromptSetUse(s.name, s.key, len(s.prompts), s.sampling.max_tokens) for s in sets.values())
        return Declared(tuple(uses), len(left_out))

    # Outcomes

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Hold a test to its verdict, and make declared failures expected ones."""
        target = _target(item)
        try:
            result = yield
        except QualityError as error:
            if target is not None:
                self._xfail_if_declared(target, error)
            raise
        verdict = item.stash.get(VERDICT, None)
        if verdict is not None:
            if verdict.verdict is VerdictKind.KNOWN_BAD:
                pytest.xfail(verdict.summary)
            if not verdict.ok:
                pytest.fail(verdict.summary, pytrace=False)
        return result

    def _xfail_if_declared(self, target: Target, error: QualityError) -> None:
        declared = self._policy.known_bad_for(target.spec.model, target.variant or target.kv_dtype)
        if (
            declared is not None
            and not declared.expired(date.today())
            and set(error.codes) & set(declared.codes)
        ):
            pytest.xfail(f"known-bad: {error}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show an error of ours as its one line: a traceback through the plugin helps nobody."""
        made = yield
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, KvCacheError) and not isinstance(error, QualityError):
            made.longrepr = str(error)
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        is_kv = any(name == TARGET_PROPERTY for name, _ in report.user_properties)
        if is_kv and (report.when == "call" or report.failed) and not _is_plain_skip(report):
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
        if self._directory is not None and (refusal := RunStore(self._directory).refusal()):
            self._lines.append(f"ERROR: {refusal}")
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            return
        if self._directory is not None:
            self._write_reports()
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            complaint = self._complaint()
            if complaint:
                self._lines.append(complaint)
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._is_worker or not (self._results or self._lines):
            return
        terminalreporter.section("kv cache verdicts", sep="=")
        if self._results:
            for line in report.verdict_lines(self._results, width=terminalreporter._tw.fullwidth):
                for segment in line:
                    terminalreporter.write(segment.text, **report.MARKUP[segment.style])
                terminalreporter.line("")
        for text in self._lines:
            terminalreporter.line(text)

    def pytest_report_header(self) -> str:
        """Name what decides the results."""
        models = ", ".join(self._settings.models)
        return (
            f"kvcache: {', '.join(self._settings.dtypes)} against {self._settings.baseline} on {models}; "
            f"{vllm_version()}"
        )

    def _complaint(self) -> str | None:
        """Return why a run that pytest calls green is not, or None."""
        if self._settings.dtypes_on_command_line and not self._kv_reports:
            return (
                "red: --kv-dtypes asked for a gate and no kv test ran: select some, or leave --kv-dtypes out"
            )
        red = [v for v in (self._results.verdicts if self._results else ()) if not v.ok]
        return f"red: {red[0].summary}" if red else None

    def _write_reports(self) -> None:
        store = RunStore(self.directory)
        judged = store.verdicts()
        self._results = report.Results(
            schema_version=report.SCHEMA_VERSION,
            run=self._run_info(store.declared()),
            engines=store.reports(),
            verdicts=tuple(verdict for verdict, _ in judged),
            excerpts=tuple(excerpt for _, excerpts in judged for excerpt in excerpts),
        )
        try:
            self._lines += report.write_reports(self._settings.report, self._results, os.environ)
        except KvCacheError as error:
            self._lines.append(f"red: {error}")

    def _run_info(self, declared: Declared) -> report.RunInfo:
        option = self._config.option
        return report.RunInfo(
            complete=not declared.verdicts_left_out,
            selection=report.Selection(
                option.keyword or None, option.markexpr or None, declared.verdicts_left_out
            ),
            started=self._started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=(datetime.now(UTC) - self._started).total_seconds(),
            command=("pytest", *self._config.invocation_params.args),
            prompt_sets=declared.prompt_sets,
        )

    # What tests declare

    def _request(self, item: pytest.Item) -> Request:
        fixtures = item.fixturenames  # type: ignore[attr-defined]
        declared = item.get_closest_marker("kv_sensitive") is not None
        direct = item._fixtureinfo.argnames  # type: ignore[attr-defined]
        return Request(
            target=_parameters(item)["vllm_engine"],
            prompt_sets=self._prompt_sets(item) if declared else (),
            with_baseline="kv_baseline" in fixtures,
            with_scores="kv_verdict" in fixtures,
            ad_hoc="vllm_engine" in direct,
        )

    def _prompt_sets(self, item: pytest.Item) -> tuple[PromptSet, ...]:
        marker = _marker(item)
        return tuple(
            s if isinstance(s, PromptSet) else self._prompt_set(s, item.path.parent, marker.max_tokens)
            for s in marker.prompt_sets
        )

    def _prompt_set(self, name: str, beside: Path, max_tokens: int | None) -> PromptSet:
        """Load a set; ``--kv-prompts`` takes the place of a shipped set's prompts, never of its sampling."""
        limit = self._settings.max_tokens or max_tokens
        loaded = load_prompt_set(name, base_dir=beside, max_tokens=limit)
        if self._prompts is not None and name in shipped_prompt_sets():
            return PromptSet(f"{loaded.name}:{self._prompts.name}", self._prompts.prompts, loaded.sampling)
        return loaded


def _say_nothing(label: str, phase: str, done: int, total: int) -> None:
    """Report progress where there is no terminal."""


def vllm_version() -> str:
    """Return name and version of the installed vLLM, without importing it."""
    name = vllm_distribution()
    return f"{name} {metadata.version(name)}" if name else "vllm is not installed"


def _marker(item: pytest.Item) -> KvSensitive:
    mark = item.get_closest_marker("kv_sensitive")
    return KvSensitive.from_arguments(item.nodeid, mark.args, mark.kwargs) if mark else KvSensitive()


def _is_kv(item: pytest.Item) -> bool:
    return "vllm_engine" in _parameters(item)


def _target(item: pytest.Item) -> Target | None:
    return _parameters(item).get("vllm_engine")


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}


def _judges(item: pytest.Item) -> bool:
    return "kv_verdict" in getattr(item, "fixturenames", ())


def _tiers(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers() if mark.name in TIERS}


def _is_plain_skip(report: pytest.TestReport) -> bool:
    return report.skipped and not hasattr(report, "wasxfail")
