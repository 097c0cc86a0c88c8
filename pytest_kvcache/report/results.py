"""The results file: everything a run found out, as one JSON document that other tools can rely on.

All other reports are written from a :class:`Results`; ``results.json`` is its faithful copy on disk.
Its JSON Schema is in the package (``schemas/results.schema.json``), its promise of stability in
``docs/results.md``. A figure that is not finite is written as ``null`` and read back as NaN.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final, Literal

import msgspec

from pytest_kvcache.errors import KvCacheError, UsageError
from pytest_kvcache.files import write_atomically
from pytest_kvcache.records import EngineReport, Excerpt, Json, Performance, PromptSetUse, Verdict
from pytest_kvcache.redact import redact, redact_command, redact_spec
from pytest_kvcache.text import printable

SCHEMA_VERSION: Final = 1
RESULTS_NAME = "results.json"


@dataclass(frozen=True, slots=True)
class Selection:
    """What narrowed the run: pytest's ``-k`` and ``-m``, and how many kv tests they left out."""

    keyword: str | None
    mark: str | None
    deselected: int


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run as a whole."""

    complete: bool
    """False if planned kv tests were left out: such a run gives no verdict."""
    selection: Selection
    started: str
    """UTC, ISO 8601: ``2025-06-01T12:00:00Z``."""
    seconds: float
    command: tuple[str, ...]
    """``pytest`` and its arguments, kept without secrets."""
    prompt_sets: tuple[PromptSetUse, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", redact_command(self.command))


@dataclass(frozen=True, slots=True)
class Goldens:
    """Golden files, by their paths in the golden directory."""

    used: tuple[str, ...] = ()
    """Read by this run."""
    unused: tuple[str, ...] | None = None
    """Of this run's models and variants, and asked for by none of its tests; None if the run cannot know:
    it left tests out, or read no goldens."""
    unused_sha256: dict[str, str] | None = None
    """Of the text of each unused golden, as it was; None in results of an older version."""


@dataclass(frozen=True, slots=True)
class Results:
    """A run's results. Secrets that engines or reasons quote are taken out here, for all reports."""

    schema_version: Literal[1]
    run: RunInfo
    engines: tuple[EngineReport, ...]
    verdicts: tuple[Verdict, ...]
    excerpts: tuple[Excerpt, ...]
    goldens: Goldens = Goldens()
    performance: tuple[Performance, ...] = ()
    """Of every target and baseline of which it is known, also without a verdict."""
    notes: tuple[str, ...] = ()
    """What else a reader of the verdicts should know, a line each."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "engines", tuple(map(_redacted_engine, self.engines)))
        object.__setattr__(self, "verdicts", tuple(map(_redacted_verdict, self.verdicts)))
        object.__setattr__(self, "performance", tuple(map(_redacted_performance, self.performance)))
        object.__setattr__(self, "notes", tuple(map(redact, self.notes)))

    def performance_of(self, verdict: Verdict) -> Performance | None:
        """Return what the verdict's candidate holds and how fast it is; None if nothing is known of it."""
        return next((each for each in self.performance if each.id == verdict.id), None)

    def excerpts_of(self, verdict: Verdict) -> tuple[Excerpt, ...]:
        """Return the evidence for a verdict. Two verdicts of one id, on two tiers, have sets of their own."""
        return tuple(
            excerpt
            for excerpt in self.excerpts
            if excerpt.verdict_id == verdict.id and excerpt.prompt_set in verdict.prompt_sets
        )


def write_results(directory: Path, results: Results) -> Path:
    """Write ``directory/results.json`` and return its path.

    The file appears whole or not at all, and only its owner may read it: it quotes prompts and
    outputs. Raises :class:`~pytest_kvcache.errors.KvCacheError` if it cannot be written.
    """
    path = directory / RESULTS_NAME
    document = json.dumps(_json_value(msgspec.to_builtins(results)), indent=1, allow_nan=False)
    try:
        write_atomically(path, f"{document}\n".encode())
    except OSError as error:
        why = error.strerror or str(error)
        raise KvCacheError(f"cannot write the results to {printable(str(path))}: {why}") from error
    return path


def read_results(path: Path) -> Results:
    """Read a results file, or the one in a report's directory.

    Raises :class:`~pytest_kvcache.errors.UsageError` if there is none, or if it is foreign, broken,
    or of a newer schema.
    """
    file = path / RESULTS_NAME if path.is_dir() else path
    try:
        return _results_of(json.loads(file.read_bytes(), object_hook=_with_nan))
    except OSError as error:
        problem = error.strerror or str(error)
    except (ValueError, RecursionError):
        problem = "it is not JSON"
    except _ForeignError as error:
        problem = str(error)
    raise UsageError(f"cannot read results from {printable(str(file))}: {problem}")


def results_schema() -> dict[str, Json]:
    """Return the JSON Schema (draft 2020-12) of a results file."""
    schema = json.loads(msgspec.json.encode(msgspec.json.schema(Results)))
    metric = schema["$defs"]["Metric"]["properties"]
    for figure in _FIGURES:
        metric[figure] = {"anyOf": [{"type": "number"}, {"type": "null"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pytest-kvcache results",
        **schema,
    }


def shipped_schema() -> dict[str, Json]:
    """Return the JSON Schema that the package ships for other tools."""
    text = resources.files("pytest_kvcache").joinpath("schemas/results.schema.json").read_text("utf-8")
    schema: dict[str, Json] = json.loads(text)
    return schema


_FIGURES = ("value", "ci_low", "ci_high")
"""The fields of a metric that may be no finite number, hence ``null`` in the file."""


class _ForeignError(Exception):
    """The document is JSON, but no results file that this version can read."""


def _results_of(document: Json) -> Results:
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int:
        raise _ForeignError("it is not a results file of pytest-kvcache")
    if version > SCHEMA_VERSION:
        raise _ForeignError(
            f"its schema is version {version}, newer than {SCHEMA_VERSION}: upgrade pytest-kvcache"
        )
    try:
        return msgspec.convert(document, Results)
    except msgspec.ValidationError as error:
        raise _ForeignError(f"it does not fit its schema: {printable(str(error), 200)}") from error


def _with_nan(item: dict[str, Json]) -> dict[str, Json]:
    if "ci_low" not in item:
        return item
    return item | {name: math.nan for name in _FIGURES if item.get(name, 0) is None}


def _json_value(value: Json) -> Json:
    """Return ``value`` with null for what is not finite, and lone surrogates written as escapes."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _json_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_json_value(item) for item in value]
        case _:
            return value


def _redacted_engine(engine: EngineReport) -> EngineReport:
    failure = None if engine.failure is None else redact(engine.failure)
    return replace(engine, spec=redact_spec(engine.spec), failure=failure)


def _redacted_performance(performance: Performance) -> Performance:
    why = performance.not_measured
    return replace(performance, not_measured=None if why is None else redact(why))


def _redacted_verdict(verdict: Verdict) -> Verdict:
    reasons = tuple(replace(reason, message=redact(reason.message)) for reason in verdict.reasons)
    return replace(verdict, reasons=reasons)
