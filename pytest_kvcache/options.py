"""Options: what the command line and the ini file say, as one frozen `Settings`.

Every option has an ini twin: ``--kv-dtypes`` is ``kv_dtypes``. The command line wins. Only what lets a run
write goldens has none: each time, somebody is to ask for it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_kvcache.dtypes import canonical_dtype, check_dtype, check_runnable
from pytest_kvcache.errors import UsageError
from pytest_kvcache.files import slug
from pytest_kvcache.models import check_model
from pytest_kvcache.plan import Target
from pytest_kvcache.records import EngineSpec, content_key
from pytest_kvcache.redact import is_secret_name

if TYPE_CHECKING:
    from pytest_kvcache.policy import Policy, Variant

_N = TypeVar("_N", bound=float)

DEFAULT_BASELINE = "auto"
DEFAULT_GOLDEN_DIR = "golden"
GOLDEN = "golden"
DEFAULT_REPORT = ".kvcache"
DEFAULT_TIMEOUT = 1200.0


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a run was told, checked as far as that is possible without an engine."""

    dtypes: tuple[str, ...]
    """Kv dtypes and variant names, as the user wrote them; empty if kv tests are to be skipped."""
    dtypes_on_command_line: bool
    models: tuple[str, ...]
    baseline: str
    """As the user wrote it: a kv dtype, ``golden`` or ``golden:DTYPE``."""
    engine_args: tuple[tuple[str, str], ...]
    """Sorted (name, JSON text) pairs, as in `EngineSpec`."""
    prompts: Path | None
    max_tokens: int | None
    report: Path
    timeout: float
    policy: Path | None
    golden_dir: Path
    golden_update: str | None
    """``new`` or ``all`` if kv tests are to make goldens instead of judging."""
    golden_allow_ci: bool

    @property
    def is_baseline_golden(self) -> bool:
        """Whether the baseline is read from goldens, and no engine started for it."""
        return self.baseline.partition(":")[0] == GOLDEN and not self.golden_update

    @property
    def baseline_dtype(self) -> str:
        """The kv dtype of the baseline, whether it runs or is read."""
        return DEFAULT_BASELINE if self.baseline == GOLDEN else self.baseline.removeprefix(f"{GOLDEN}:")

    @property
    def baseline_name(self) -> str:
        """What the baseline is called: while goldens are refreshed, the engine behind them runs."""
        return self.baseline_dtype if self.golden_update else self.baseline

    @property
    def dtypes_to_run(self) -> tuple[str, ...]:
        """:attr:`dtypes` without the one that a golden stands for, unless it is the only one.

        Then what it gives today is held against its golden.
        """
        if not self.is_baseline_golden:
            return self.dtypes
        baseline = canonical_dtype(self.baseline_dtype)
        return tuple(d for d in self.dtypes if canonical_dtype(d) != baseline) or self.dtypes

    @property
    def summary(self) -> str:
        """What is held against what, or refreshed, in a few words."""
        if self.golden_update:
            dtypes, models = ", ".join(self.dtypes), ", ".join(self.models)
            return f"refreshing goldens ({self.golden_update}) of {dtypes} on {models} in {self.golden_dir}"
        against = self.baseline
        if self.is_baseline_golden:
            idle = (
                "" if self.dtypes_to_run == self.dtypes else f" ({self.baseline_dtype} itself does not run)"
            )
            against = f"the goldens of {self.baseline_dtype} in {self.golden_dir}{idle}"
        return f"{', '.join(self.dtypes_to_run)} against {against} on {', '.join(self.models)}"


def add_options(parser: pytest.Parser) -> None:
    """Register the option group, and an ini twin for each option."""
    group = parser.getgroup("kvcache", "quantized kv cache (pytest-kvcache)")
    group.addoption(
        "--kv-golden-update",
        help="write the goldens that kv tests need, missing ones or all, instead of running these tests",
        choices=("new", "all"),
    )
    group.addoption(
        "--kv-golden-allow-ci",
        help="write goldens also where CI is set in the environment",
        action="store_true",
    )

    def option(flag: str, help_text: str, **settings: Any) -> None:
        group.addoption(flag, help=help_text, **settings)
        parser.addini(flag[2:].replace("-", "_"), f"as {flag}", type="string", default="")

    option(
        "--kv-dtypes",
        "kv dtypes or variants to test, e.g. fp8,auto; without any, kv tests skip",
        metavar="LIST",
    )
    option("--kv-models", "models to test: Hugging Face ids, directories or ref:NAME", metavar="LIST")
    option(
        "--kv-baseline",
        "the kv dtype trusted as reference, or golden[:DTYPE] for what its goldens hold, without its engine "
        f"(default: {DEFAULT_BASELINE})",
        metavar="DTYPE",
    )
    option(
        "--kv-golden-dir",
        f"where goldens are (default: {DEFAULT_GOLDEN_DIR} in the root directory)",
        metavar="DIR",
    )
    option(
        "--kv-engine-arg",
        "a vllm.LLM argument for every engine; the value is JSON or else a string (repeatable)",
        metavar="KEY=VALUE",
        action="append",
    )
    option("--kv-prompts", "use these prompts in place of those of the shipped sets", metavar="FILE.jsonl")
    option("--kv-max-tokens", "generate at most so many tokens per prompt, whatever a set says", metavar="N")
    option("--kv-report", f"where reports and the run store go (default: {DEFAULT_REPORT})", metavar="DIR")
    option(
        "--kv-timeout",
        f"longest time for one engine step: a start, one batch (default: {DEFAULT_TIMEOUT:g})",
        metavar="SECONDS",
    )
    option("--kv-policy", "limits, known-bad entries and variants", metavar="FILE.toml")


def read_settings(config: pytest.Config) -> Settings:
    """Check all options; raise `UsageError` with one line for the first that is wrong."""

    def text(name: str) -> str | None:
        value = config.getoption(f"kv_{name}")
        if value == "":
            flag = f"--kv-{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} is given but empty: is a variable unset? Give it a value or leave it out"
            )
        return value or config.getini(f"kv_{name}") or None

    def path(name: str) -> Path | None:
        value = text(name)
        given = config.getoption(f"kv_{name}") is not None
        return Path(config.invocation_params.dir if given else config.rootpath, value) if value else None

    arguments = config.getoption("kv_engine_arg") or config.getini("kv_engine_arg").splitlines()
    prompts, policy = path("prompts"), path("policy")
    for flag, file in (("--kv-prompts", prompts), ("--kv-policy", policy)):
        if file is not None and not file.is_file():
            raise UsageError(f"{flag}: there is no file {file}: check the path")
    dtypes = _split(text("dtypes"), "--kv-dtypes")
    update = config.getoption("kv_golden_update")
    if update and not dtypes:
        raise UsageError(
            f"--kv-golden-update={update} was given without kv dtypes: add --kv-dtypes={DEFAULT_BASELINE}"
        )
    return Settings(
        dtypes=dtypes,
        dtypes_on_command_line=config.getoption("kv_dtypes") is not None,
        models=_split(text("models"), "--kv-models"),
        baseline=text("baseline") or DEFAULT_BASELINE,
        engine_args=_engine_args([line.strip() for line in arguments if line.strip()]),
        prompts=prompts,
        max_tokens=_number(text("max_tokens"), "--kv-max-tokens", int),
        report=path("report") or Path(config.rootpath, DEFAULT_REPORT),
        timeout=_number(text("timeout"), "--kv-timeout", float) or DEFAULT_TIMEOUT,
        policy=policy,
        golden_dir=path("golden_dir") or Path(config.rootpath, DEFAULT_GOLDEN_DIR),
        golden_update=update,
        golden_allow_ci=config.getoption("kv_golden_allow_ci"),
    )


def make_targets(settings: Settings, policy: Policy) -> tuple[Target, ...]:
    """Return all targets of a run: for each model the baseline if it was asked for, then the candidates.

    Raises `UsageError` for an unknown dtype, one that cannot run here, and options that contradict
    each other.
    """
    if not settings.dtypes:
        return ()
    if not settings.models:
        raise UsageError(
            "--kv-dtypes was given without a model: add --kv-models=MODEL (or kv_models in the ini file)"
        )
    baseline = _base_dtype(settings.baseline_dtype, policy)
    if settings.baseline_dtype in policy.variants:
        raise UsageError(f"--kv-baseline={settings.baseline} is a variant: the baseline is a plain kv dtype")
    dtypes = {_identity(name, policy): name for name in settings.dtypes_to_run}
    to_start = [] if settings.is_baseline_golden else [baseline]
    check_runnable([*to_start, *(_base_dtype(name, policy) for name in dtypes.values())])
    if set(dtypes) == set(to_start) and not settings.golden_update:
        raise UsageError(
            f"--kv-dtypes={','.join(settings.dtypes)} names only the baseline: "
            f"add a candidate, e.g. --kv-dtypes=fp8,{baseline}"
        )
    for model in settings.models:
        check_model(model)
    names = _model_names(settings.models)
    ordered = sorted(dtypes.values(), key=lambda name: canonical_dtype(name) != baseline)
    targets = tuple(
        _target(model, names[model], name, settings, policy) for model in settings.models for name in ordered
    )
    _check_distinct(targets)
    return targets


def _check_distinct(targets: Sequence[Target]) -> None:
    """Raise `UsageError` for targets that are one engine, or would be reported under one name."""
    for target in targets:
        if target.is_baseline and target.variant:
            raise UsageError(
                f"variant {target.variant} is the same engine as the baseline {target.baseline_id}: "
                "give it engine arguments or another kv dtype"
            )
    for one, other in combinations(targets, 2):
        if one.spec == other.spec:
            raise UsageError(f"{one.id} and {other.id} are one and the same engine: leave one of them out")
        if one.id == other.id:
            raise UsageError(
                f"two targets would both be called {one.id}: rename a variant or model directory"
            )


def _target(model: str, model_name: str, name: str, settings: Settings, policy: Policy) -> Target:
    variant: Variant | None = policy.variants.get(name)
    arguments = dict(settings.engine_args)
    baseline_spec = _spec(model, settings.baseline_dtype, arguments)
    if settings.is_baseline_golden:
        baseline_spec = replace(baseline_spec, golden=baseline_spec.kv_cache_dtype)
    if variant is not None:
        arguments |= {key: json.dumps(value, sort_keys=True) for key, value in variant.engine_args.items()}
    spec = _spec(model, variant.kv_cache_dtype if variant is not None else name, arguments)
    return Target(
        id=f"{model_name}-{name}",
        spec=spec,
        kv_dtype=variant.kv_cache_dtype if variant is not None else name,
        variant=name if variant is not None else None,
        baseline=baseline_spec,
        baseline_id=f"{model_name}-{slug(settings.baseline_name)}",
    )


def _spec(model: str, dtype: str, arguments: dict[str, str]) -> EngineSpec:
    """``revision`` names what is loaded, so it is a field of the spec and not one argument of many."""
    revision = json.loads(arguments.get("revision", "null"))
    rest = tuple(sorted(item for item in arguments.items() if item[0] != "revision"))
    return EngineSpec(model, canonical_dtype(dtype), revision, rest)


def _identity(name: str, policy: Policy) -> str:
    return name if name in policy.variants else check_dtype(name)


def _base_dtype(name: str, policy: Policy) -> str:
    variant = policy.variants.get(name)
    return check_dtype(variant.kv_cache_dtype if variant is not None else name)


def _model_names(models: tuple[str, ...]) -> dict[str, str]:
    """Return a short name for each model, the last part of its path unless two share it."""
    short = {model: slug(model.removeprefix("ref:").rstrip("/").rpartition("/")[2]) for model in models}
    whole = _renamed_where_shared(short, slug)
    return _renamed_where_shared(whole, lambda model: f"{whole[model]}-{content_key(model)[:6]}")


def _renamed_where_shared(names: dict[str, str], rename: Callable[[str], str]) -> dict[str, str]:
    counts = Counter(names.values())
    return {model: rename(model) if counts[name] > 1 else name for model, name in names.items()}


def _split(text: str | None, flag: str) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"{flag}={text} has an empty name: separate names by single commas")
    return tuple(dict.fromkeys(names))


def _engine_args(lines: list[str]) -> tuple[tuple[str, str], ...]:
    arguments: dict[str, str] = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"--kv-engine-arg={line} is not KEY=VALUE: write e.g. --kv-engine-arg=max_model_len=4096"
            )
        if name in ("model", "kv_cache_dtype"):
            raise UsageError(
                f"--kv-engine-arg={name}=... is set by --kv-models and --kv-dtypes: leave it out here"
            )
        if is_secret_name(name):
            raise UsageError(
                f"--kv-engine-arg={name}=... is a secret: set it in the environment, e.g. as HF_TOKEN"
            )
        if name in arguments:
            raise UsageError(f"--kv-engine-arg={name}=... is given twice: keep one")
        # A commit may look like a number; it is text all the same.
        arguments[name] = json.dumps(value.strip("\"'")) if name == "revision" else _json_text(value)
    return tuple(sorted(arguments.items()))


def _json_text(value: str) -> str:
    try:
        return json.dumps(json.loads(value), sort_keys=True)
    except ValueError:
        return json.dumps(value)


def _number(text: str | None, flag: str, kind: type[_N]) -> _N | None:
    if text is None:
        return None
    wrong = UsageError(f"{flag}={text} is not a positive {'whole ' if kind is int else ''}number")
    try:
        number = kind(text)
    except ValueError:
        raise wrong from None
    if not 0 < number < float("inf"):
        raise wrong
    return number
