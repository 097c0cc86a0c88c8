"""Settings: what the command line and the ini file say, checked, as one frozen `Settings`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pytest_kvcache.cachedir import cache_directory
from pytest_kvcache.dtypes import canonical_dtype
from pytest_kvcache.errors import UsageError
from pytest_kvcache.options import DEFAULT_BASELINE, DEFAULT_GOLDEN_DIR, DEFAULT_REPORT, DEFAULT_TIMEOUT
from pytest_kvcache.prompts.needles import LONGEST_LIMIT, SHORTEST_LIMIT
from pytest_kvcache.records import CHAT_TEMPLATE_KWARGS
from pytest_kvcache.redact import is_secret_name
from pytest_kvcache.surroundings import is_ci

if TYPE_CHECKING:
    import pytest

_N = TypeVar("_N", bound=float)

GOLDEN = "golden"
MAX = "max"


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
    prompts: tuple[Path, ...]
    max_tokens: int | None
    context: int | Literal["max"] | None
    """How long the longest texts of the long-context suite are, in tokens; ``max`` as all engines of the run
    serve them, None as they are shipped."""
    report: Path
    timeout: float
    policy: Path | None
    golden_dir: Path
    golden_update: str | None
    """``new`` or ``all`` if kv tests are to make goldens instead of judging."""
    golden_allow_ci: bool
    cache_dir: Path | None
    """Where outputs are kept across runs; None if every engine is to run."""

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


def read_settings(config: pytest.Config) -> Settings:
    """Check all options; raise `UsageError` with one line for the first that is wrong."""

    def text(name: str) -> str | None:
        value = config.getoption(f"kv_{name}")
        if value == "":
            raise _empty(name)
        return value or config.getini(f"kv_{name}") or None

    def path(name: str) -> Path | None:
        value = text(name)
        given = config.getoption(f"kv_{name}") is not None
        return Path(config.invocation_params.dir if given else config.rootpath, value) if value else None

    arguments = config.getoption("kv_engine_arg") or config.getini("kv_engine_arg").splitlines()
    policy = path("policy")
    if policy is not None:
        _check_file(policy, "--kv-policy")
    dtypes = _split(text("dtypes"), "--kv-dtypes")
    update = config.getoption("kv_golden_update")
    if update and not dtypes:
        raise UsageError(
            f"--kv-golden-update={update} was given without kv dtypes: add --kv-dtypes={DEFAULT_BASELINE}"
        )
    baseline = text("baseline") or DEFAULT_BASELINE
    if baseline == f"{GOLDEN}:":
        raise UsageError(f"--kv-baseline={baseline} names no kv dtype: write golden or golden:DTYPE")
    return Settings(
        dtypes=dtypes,
        dtypes_on_command_line=config.getoption("kv_dtypes") is not None,
        models=_split(text("models"), "--kv-models"),
        baseline=baseline,
        engine_args=_engine_args([line.strip() for line in arguments if line.strip()]),
        prompts=_prompt_files(config),
        max_tokens=_number(text("max_tokens"), "--kv-max-tokens", int),
        context=_context(text("context")),
        report=path("report") or Path(config.rootpath, DEFAULT_REPORT),
        timeout=_number(text("timeout"), "--kv-timeout", float) or DEFAULT_TIMEOUT,
        policy=policy,
        golden_dir=path("golden_dir") or Path(config.rootpath, DEFAULT_GOLDEN_DIR),
        golden_update=update,
        golden_allow_ci=config.getoption("kv_golden_allow_ci"),
        cache_dir=(path("cache_dir") or cache_directory()) if _is_cache_wanted(config) else None,
    )


def _empty(name: str) -> UsageError:
    flag = f"--kv-{name.replace('_', '-')}"
    return UsageError(f"{flag} is given but empty: is a variable unset? Give it a value or leave it out")


def _check_file(file: Path, flag: str) -> None:
    if not file.is_file():
        raise UsageError(f"{flag}: there is no file {file}: check the path")


def _prompt_files(config: pytest.Config) -> tuple[Path, ...]:
    """Return the files of prompts: each time that the option is given, or each line of its ini twin."""
    given = config.getoption("kv_prompts") or []
    if "" in given:
        raise _empty("prompts")
    directory = config.invocation_params.dir if given else config.rootpath
    lines = given or [line.strip() for line in config.getini("kv_prompts").splitlines()]
    files = tuple(Path(directory, line) for line in lines if line)
    for file in files:
        _check_file(file, "--kv-prompts")
    return files


def _is_cache_wanted(config: pytest.Config) -> bool:
    """Whether outputs of earlier runs will do: never for goldens, in CI if the command line says so."""
    if config.getoption("kv_no_cache") or config.getoption("kv_golden_update"):
        return False
    if config.getoption("kv_cache_dir") is not None:
        return True
    return not (config.getini("kv_no_cache") or is_ci(os.environ))


def _context(text: str | None) -> int | Literal["max"] | None:
    if text == MAX:
        return "max"
    tokens = _number(text, "--kv-context", int)
    if tokens is not None and not SHORTEST_LIMIT <= tokens <= LONGEST_LIMIT:
        raise UsageError(
            f"--kv-context={tokens} is out of range: give {SHORTEST_LIMIT} to {LONGEST_LIMIT} tokens"
        )
    return tokens


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
        if name == CHAT_TEMPLATE_KWARGS:
            raise UsageError(
                f"--kv-engine-arg={name}=... is no argument of an engine: give it to the model in the "
                f'policy, as [{name}."MODEL"]'
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


_PYTHON_CONSTANTS = {"True": True, "False": False, "None": None}


def _json_text(value: str) -> str:
    """Return a value as JSON: what is JSON or a constant of Python's as it is, anything else as text."""
    if value in _PYTHON_CONSTANTS:
        return json.dumps(_PYTHON_CONSTANTS[value])
    try:
        return json.dumps(json.loads(value), sort_keys=True)
    except (ValueError, RecursionError):
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
