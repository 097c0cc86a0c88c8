"""``kvcache golden`` in a team's repository: what tests of its actions share, with `conftest.repository`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import scripted

from pytest_kvcache import cli
from pytest_kvcache.cli import _engines
from pytest_kvcache.golden import GoldenDirectory, read
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Golden, PromptSet, Sampling
from pytest_kvcache.refresh import Want

NEW = ("refresh", "--kv-models=scripted/model", "--prompts=own.jsonl")
OWN = Path("golden/scripted--model/own-80.auto.cpu.json")
HEADLINE = "scripted--model auto own (80 tokens, cpu)"


def kvcache(*arguments: str | Path) -> int:
    return cli.main(["golden", *map(str, arguments)])


def engines_started() -> list[str]:
    starts = Path("starts")
    return [line.split()[1] for line in starts.read_text().splitlines()] if starts.exists() else []


def own_set(name: str = "own", **sampling: Any) -> PromptSet:
    return PromptSet(name, load_prompt_set("own.jsonl").prompts, Sampling(**{"max_tokens": 80, **sampling}))


def commit(prompt_set: PromptSet, dtype: str = "auto", **engine_args: Any) -> Path:
    """Put a golden there that an engine with these instructions has written; return its file."""
    [path] = GoldenDirectory(Path("golden")).commit(
        [written(scripted.spec(dtype, **engine_args), prompt_set)]
    )
    Path("starts").unlink(missing_ok=True)
    return path


@cache
def written(spec: EngineSpec, prompt_set: PromptSet) -> Golden:
    want = Want(scripted.target(spec, spec), prompt_set, is_baseline=False)
    [(_, golden)] = _engines.make_goldens([want], 30.0)
    return golden


def change(path: Path, provenance: dict[str, Any] | None = None, **spec: Any) -> None:
    """Write a golden again with another spec or provenance."""
    golden = read(path)
    outputs = replace(
        golden.outputs,
        spec=replace(golden.outputs.spec, **spec),
        provenance=replace(golden.outputs.provenance, **(provenance or {})),
    )
    GoldenDirectory(Path("golden")).commit([replace(golden, outputs=outputs)])


def commit_outdated(prompt_set: PromptSet | None = None) -> Path:
    """Put a golden there whose engine writes otherwise today; return its file."""
    path = commit(prompt_set or own_set())
    change(path, engine_args=scripted.spec(says="other").engine_args)
    return path


def contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path("golden").rglob("*") if path.is_file()}


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error, which must be all that was printed and harmless."""
    shown = capsys.readouterr()
    [line] = shown.err.splitlines()
    assert not shown.out
    assert line.isprintable()
    return line
