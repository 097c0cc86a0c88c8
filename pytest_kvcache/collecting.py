"""Collecting: from what tests declare to the plan of a run. Every process does it, and they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_kvcache.declarations import (
    NO_TARGET,
    OF_CANDIDATES,
    declared_marker,
    is_kv,
    parameter,
    request_of,
    sum_up,
)
from pytest_kvcache.dtypes import vllm_version
from pytest_kvcache.errors import UsageError
from pytest_kvcache.golden_use import check_namesakes
from pytest_kvcache.groups import group_tests, put_groups
from pytest_kvcache.run import TARGET_PROPERTY, Run, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kvcache.plan import Request
    from pytest_kvcache.records import EngineSpec, PromptSet


class Collecting:
    """The hooks of one run until its plan is made."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._kv_collected = False
        self._nowhere: set[pytest.Item] = set()
        self._deselected: list[pytest.Item] = []
        self._is_whole = True

    def pytest_report_header(self) -> str:
        """Name what decides the results."""
        return shown(f"kvcache: {self._run.settings.summary}; {vllm_version()}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker which run it belongs to, and how pytest was called."""
        node.workerinput["kvcache_run"] = str(self._run.directory)
        node.workerinput["kvcache_options"] = list(self._run.options)
        self._run.follow()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize `vllm_engine` over the targets that the test's marker admits."""
        if "vllm_engine" not in metafunc.fixturenames:
            return
        run = self._run
        self._kv_collected = True
        if run.wrong:
            return
        try:
            marker = declared_marker(metafunc.definition, run.policy)
        except UsageError as error:
            run.wrong = error
            return
        candidates_only = not OF_CANDIDATES.isdisjoint(metafunc.fixturenames) and run.updating is None
        admitted = [t for t in run.targets if marker.admits(t) and not (candidates_only and t.is_baseline)]
        params = [pytest.param(t, id=t.id) for t in admitted] or [NO_TARGET]
        metafunc.parametrize("vllm_engine", params, indirect=True, scope="session")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect, and so count, what is admitted to no target."""
        if self._run.wrong and self._kv_collected:
            self._refuse(self._run.wrong)
            items.clear()
        try:
            self._nowhere = {item for item in items if is_kv(item) and not self._has_target(item)}
        except UsageError as error:
            self._refuse(error)
            items.clear()
        if self._nowhere:
            config.hook.pytest_deselected(items=[item for item in items if item in self._nowhere])
            items[:] = [item for item in items if item not in self._nowhere]
        _put_baselines_first(items)

    def _has_target(self, item: pytest.Item) -> bool:
        """Whether its marker admits its target: a parameter may carry a marker that the function does not."""
        target = parameter(item)
        return target is not None and declared_marker(item, self._run.policy).admits(target)

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        self._deselected += [item for item in items if is_kv(item) and item not in self._nowhere]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file whose tests are unknown: it is broken, or skipped as a whole."""
        self._is_whole &= report.passed

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Plan all that the selected tests declare."""
        try:
            self._plan(session)
        except UsageError as error:
            self._refuse(error)
            session.items.clear()

    def _plan(self, session: pytest.Session) -> None:
        """Raises `UsageError` for tests that ask for what cannot be, alone or together."""
        run = self._run
        kv_items = [item for item in session.items if is_kv(item)]
        requests = [request_of(item, run.prompt_sets(item), run.conditions(item)) for item in kv_items]
        asked = list(zip(kv_items, requests, strict=True))
        run.requests = requests
        goldens = (golden for item, request in asked for golden in self._goldens(item, request))
        check_namesakes(goldens, session.config.rootpath)
        for item, request in asked:
            item.user_properties.append((TARGET_PROPERTY, request.target.id))
        if (kv_items or self._deselected) and not session.config.option.collectonly:
            if run.updating is not None:
                run.requests = run.updating.plan(run.store(), asked)
            is_whole = self._is_whole and not _ignores_some(session.config)
            declared = sum_up(kv_items, requests, self._deselected, all_collected=is_whole)
            run.store().put_declared(declared)
            if run.is_worker:
                put_groups(run.directory, group_tests((item.nodeid, request) for item, request in asked))

    def _goldens(self, item: pytest.Item, request: Request) -> Iterator[tuple[str, EngineSpec, PromptSet]]:
        """Give the goldens that a test reads or makes: what its set is called there, whose, and the set."""
        names = declared_marker(item, self._run.policy).prompt_sets
        for spec in request.goldens_read if self._run.updating is None else request.goldens:
            for name, prompt_set in zip(names, request.prompt_sets, strict=False):
                known_as = name if isinstance(name, str) else prompt_set.name
                yield f"{known_as} of {item.nodeid}", spec, prompt_set

    def _refuse(self, error: UsageError) -> None:
        """End with exit status 4; a worker cannot, so it leaves word for the controller and runs nothing."""
        if not self._run.is_worker:
            raise pytest.UsageError(str(error)) from None
        self._run.store().put_refusal(str(error))


def _put_baselines_first(items: list[pytest.Item]) -> None:
    """Let each model's baseline have its tests before its candidates' make it run, and end.

    Other tests keep their places.
    """
    places = [place for place, item in enumerate(items) if parameter(item) is not None]
    models = list(dict.fromkeys(parameter(items[place]).spec.model for place in places))

    def rank(item: pytest.Item) -> tuple[int, bool]:
        target = parameter(item)
        return models.index(target.spec.model), not target.is_baseline

    in_order = sorted((items[place] for place in places), key=rank)
    for place, item in zip(places, in_order, strict=True):
        items[place] = item


def _ignores_some(config: pytest.Config) -> bool:
    """Whether a conftest file leaves tests out, perhaps on this machine alone."""
    plugins = config.pluginmanager.get_plugins()
    return any(
        getattr(plugin, name, None)
        for plugin in plugins
        for name in ("collect_ignore", "collect_ignore_glob")
    )
