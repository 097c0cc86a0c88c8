"""A run: one pytest session that was asked for kv dtypes, and all that its tests may ask of it.

What pytest calls are the hooks of `collecting`, `judging` and `ending`, each over one run. They are
registered as plugins of their own, so that a session without kv dtypes has none of them. Under xdist the
controller names the run directory and writes the reports; workers share the run store.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kvcache.declarations import declared_marker, function_name
from pytest_kvcache.errors import UsageError
from pytest_kvcache.groups import read_groups
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.policy import KnownBad, Limits, Policy, load_policy
from pytest_kvcache.progress import ProgressFile, ProgressFollower, ProgressLine
from pytest_kvcache.promptsets import PromptSource, own_sets
from pytest_kvcache.redact import redact
from pytest_kvcache.rundir import make_run_directory, name_run_directory
from pytest_kvcache.settings import Settings
from pytest_kvcache.store import RunStore
from pytest_kvcache.targets import longest_texts, make_targets
from pytest_kvcache.text import printable

if TYPE_CHECKING:
    import pytest

    from pytest_kvcache.conditions import Condition
    from pytest_kvcache.engines.devices import DevicePool
    from pytest_kvcache.engines.pool import Notify
    from pytest_kvcache.handle import EngineHandle
    from pytest_kvcache.records import (
        PlannedConditions,
        PlannedGoldens,
        PlannedOutputs,
        PlannedScores,
        PromptSet,
        Verdict,
    )
    from pytest_kvcache.session import Session
    from pytest_kvcache.updating import Updating

PROGRESS = "progress.log"
TARGET_PROPERTY = "kv_target"
"""The property by which reports of kv tests are known on the controller."""
REASONS_PROPERTY = "kv_reasons"
"""Reason codes of a red test, as those of a verdict."""
ERROR_PROPERTY = "kv_error"
"""The class of an error of ours by which a test could not be judged."""


class Run:
    """What all hooks of one pytest session share, and its fixtures give.

    Raises `UsageError` for settings that are wrong if the command line asked for kv dtypes. If only the
    ini file did, that waits in ``wrong`` until a kv test is collected: other tests are none of its business.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.policy = Policy()
        self.targets: tuple[Target, ...] = ()
        self.wrong: UsageError | None = None
        self.requests: list[Request] = []
        """What all selected tests ask for, from the end of the collection on."""
        self._prompts = PromptSource()
        try:
            self.policy = load_policy(settings.policy) if settings.policy else Policy()
            self.targets = make_targets(settings, self.policy)
            self._prompts = PromptSource(own_sets(settings.prompts), settings.max_tokens, self._context)
        except UsageError as error:
            if settings.dtypes_on_command_line:
                raise
            self.wrong = error
        worker = getattr(config, "workerinput", None)
        self.is_worker = worker is not None
        self._workers: int = worker["workercount"] if worker else 1
        self.options: tuple[str, ...] = tuple(worker["kvcache_options"]) if worker else _options(config)
        """What pytest was called with, but for where to look for tests."""
        self.directory = Path(worker["kvcache_run"]) if worker else name_run_directory(settings.report)
        self._session: Session | None = None
        self._follower: ProgressFollower | None = None
        self.updating = self._begin_update()

    def _context(self) -> int | None:
        """Return how long the longest texts are to be; None as shipped, or where there is no engine."""
        if self.settings.context == "max":
            return longest_texts(self.targets) if self.targets else None
        return self.settings.context

    @property
    def session(self) -> Session:
        """The session over the finished plan, made when first needed."""
        if self._session is None:
            from pytest_kvcache.cache_use import open_cache
            from pytest_kvcache.engines.launch import child_engine_factory
            from pytest_kvcache.golden_use import finder
            from pytest_kvcache.session import Session

            timeout = self.settings.timeout
            factory = self.config.hook.pytest_kvcache_engine_factory(config=self.config, timeout=timeout)
            start_engine = factory or child_engine_factory(timeout)
            devices = self.devices(self._workers)
            self._session = Session(
                make_plan(self.requests),
                self.store(),
                start_engine,
                devices,
                find_golden=finder(self.settings.golden_dir, self.config.rootpath),
                cache=open_cache(self.settings.cache_dir, start_engine, devices, self.targets, self.policy),
                notify=self._notify(),
                ahead=self._workers == 1,
            )
        return self._session

    def devices(self, workers: int) -> DevicePool:
        """Return the devices of the run's engines, of which so many workers run one each."""
        from pytest_kvcache.engines.devices import DevicePool

        engines = {spec for target in self.targets for spec in (target.spec, target.baseline)}
        engines |= {group.spec for group in read_groups(self.directory)}  # twins among them
        to_start = [spec for spec in engines if spec.golden is None]
        return DevicePool(max(1, min(workers, len(to_start))))

    def store(self) -> RunStore:
        """Return the run store; its directory is made when first asked for."""
        make_run_directory(self.directory)
        return RunStore(self.directory)

    def prompt_sets(self, item: pytest.Item) -> tuple[PromptSet, ...]:
        """Return the test's own prompt sets."""
        marker = declared_marker(item, self.policy)
        return tuple(self._prompts.load(s, item.path.parent, marker.max_tokens) for s in marker.prompt_sets)

    def conditions(self, item: pytest.Item) -> tuple[Condition, ...]:
        """Return the serving conditions that the test declares."""
        return declared_marker(item, self.policy).serving_conditions()

    def release(self) -> None:
        """End the engine, if one runs."""
        if self._session is not None:
            self._session.release()

    def close(self) -> None:
        """End all engines that this process has started, and the line that tells of them."""
        if self._session is not None:
            self._session.close()
        if self._follower is not None:
            self._follower.stop()

    # What fixtures ask for

    def handle(self, target: Target) -> EngineHandle:
        from pytest_kvcache.handle import EngineHandle

        self.session.attend(target)
        return EngineHandle(self.session, target, lambda name: self._prompts.load(name, Path.cwd(), None))

    def outputs(self, item: pytest.Item, target: Target) -> PlannedOutputs:
        from pytest_kvcache.handle import planned_outputs

        return planned_outputs(self.session, target, self.prompt_sets(item))

    def scores(self, item: pytest.Item, target: Target) -> PlannedScores:
        from pytest_kvcache.handle import planned_scores

        return planned_scores(self.session, target, self.prompt_sets(item))

    def scores_under_conditions(self, item: pytest.Item, target: Target) -> PlannedConditions:
        from pytest_kvcache.serving import planned_conditions

        return planned_conditions(self.session, target, self.prompt_sets(item), self.conditions(item))

    def goldens(self, item: pytest.Item, target: Target) -> PlannedGoldens:
        from pytest_kvcache.handle import planned_goldens

        return planned_goldens(self.session, target, self.prompt_sets(item))

    def limits(self, target: Target) -> Limits:
        return self.policy.limits_for(target.spec.model)

    def verdict(self, item: pytest.Item, target: Target) -> Verdict:
        sets, test = self.prompt_sets(item), function_name(item)
        return self.session.verdict(target, sets, self.policy, date.today(), test=test)

    def known_bad(self, item: pytest.Item, target: Target) -> KnownBad | None:
        """Return what is declared of a test of this target; of a baseline nothing is."""
        if target.is_baseline:
            return None
        return self.policy.known_bad_for(target.spec.model, target.label, function_name(item))

    # Workers

    def follow(self) -> None:
        """Show the progress of all workers, on a controller that has a terminal."""
        if self._follower is None and self._terminal:
            self._follower = ProgressFollower(self.directory / PROGRESS, self._terminal)

    def _notify(self) -> Notify:
        if self.is_worker:
            return ProgressFile(self.directory / PROGRESS)
        return ProgressLine(self._terminal) if self._terminal else _say_nothing

    @property
    def _terminal(self) -> Any:
        return self.config.pluginmanager.get_plugin("terminalreporter")

    def _begin_update(self) -> Updating | None:
        if self.settings.golden_update is None:
            return None
        from pytest_kvcache.updating import begin

        return begin(
            self.settings.golden_update,
            self.settings.golden_dir,
            self.config.rootpath,
            self.policy,
            allow_ci=self.settings.golden_allow_ci,
        )


def _options(config: pytest.Config) -> tuple[str, ...]:
    places = config.args if config.args_source is config.ArgsSource.ARGS else ()
    return tuple(given for given in map(str, config.invocation_params.args) if given not in places)


def shown(text: str) -> str:
    """Return what is shown of an error or a verdict: harmless, and without secrets."""
    return printable(redact(text))


def _say_nothing(label: str, phase: str, done: int, total: int) -> None:
    """Report progress where there is no terminal."""
