"""Goldens of a real engine: written, written again, matched and judged by, each with an engine of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_kvcache.golden import GoldenDirectory
from pytest_kvcache.records import Golden

pytestmark = pytest.mark.vllm

OPENINGS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Water boils at a temperature of",
    "Once upon a time, in a small village,",
    "The three primary colours are",
    "To bake bread you need",
)
TESTS = """
import pytest
import pytest_kvcache as kv

@pytest.mark.kv_sensitive(prompts="openings.jsonl")
def test_verdict(kv_verdict):
    pass

@pytest.mark.kv_sensitive(prompts="openings.jsonl")
def test_writes_its_golden_again(kv_outputs, kv_golden):
    kv.assert_matches_golden(kv_outputs, kv_golden, match="exact")
"""
POLICY = """
[limits]
min_prompts = 6
min_tokens_per_prompt = 20
min_kinds = 3
baseline_degenerate = 1.0
"""


@dataclass(frozen=True)
class Ended:
    """What is left of one pytest run."""

    status: int
    output: str
    results: Any


class Project:
    """A team's repository, and pytest runs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        header = {"name": "openings", "sampling": {"max_tokens": 32}}
        prompts = [{"id": f"p{i}", "kind": f"kind-{i % 3}", "text": text} for i, text in enumerate(OPENINGS)]
        lines = [json.dumps(line) for line in (header, *prompts)]
        (root / "openings.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (root / "test_it.py").write_text(TESTS)
        (root / "policy.toml").write_text(POLICY)

    def pytest(self, *arguments: str) -> Ended:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--kv-models=ref:gqa"]
        command += ["--kv-no-cache"]
        done = subprocess.run(
            [*command, "--kv-policy=policy.toml", "--kv-engine-arg=max_model_len=512", *arguments],
            cwd=self.root,
            env={name: value for name, value in os.environ.items() if name != "CI"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        results = self.root / ".kvcache" / "results.json"
        found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else None
        results.unlink(missing_ok=True)
        return Ended(done.returncode, done.stdout + done.stderr, found)

    def goldens(self) -> dict[str, Golden | None]:
        directory = GoldenDirectory(self.root / "golden")
        return {str(name): directory.get(name) for name in directory.names()}

    def files(self) -> dict[str, tuple[bytes, int]]:
        paths = (path for path in (self.root / "golden").rglob("*") if path.is_file())
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@dataclass(frozen=True)
class Story:
    """The runs of one project, in order."""

    written: Ended
    golden: Golden
    files: dict[str, tuple[bytes, int]]
    again: Ended
    files_again: dict[str, tuple[bytes, int]]
    today: Ended
    """Today's ``auto`` against its golden."""
    gate: Ended
    """The gate on fp8 beside the golden."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    project = Project(tmp_path_factory.mktemp("team"))
    written = project.pytest("--kv-dtypes=fp8,auto", "--kv-golden-update=all")
    (golden, *_) = filter(None, project.goldens().values())
    files = project.files()
    again = project.pytest("--kv-dtypes=fp8,auto", "--kv-golden-update=all", "-k", "verdict")
    return Story(
        written,
        golden,
        files,
        again,
        project.files(),
        today=project.pytest("--kv-dtypes=auto", "--kv-baseline=golden", "-k", "golden"),
        gate=project.pytest("--kv-dtypes=fp8", "--kv-baseline=golden", "-k", "verdict"),
    )


def test_a_refresh_writes_what_the_engines_wrote_and_what_they_thought_of_it(story: Story) -> None:
    assert story.written.status == 0, story.written.output
    assert len(story.files) == 4, "a text and a sidecar of auto, and of fp8, which has a golden of its own"
    golden = story.golden
    assert golden.variant == "auto"
    assert [output.prompt_id for output in golden.outputs] == [f"p{i}" for i in range(len(OPENINGS))]
    assert golden.outputs.provenance.platform == "cpu"
    assert golden.outputs.provenance.max_num_seqs > 0
    assert golden.scores is not None
    assert golden.floor is not None
    assert [s.token_ids for s in golden.scores.scores] == [o.token_ids for o in golden.outputs]


def test_a_refresh_without_a_change_changes_no_byte_and_writes_no_file(story: Story) -> None:
    assert story.again.status == 0, story.again.output
    assert story.files_again == story.files


def test_an_unchanged_engine_matches_its_golden_token_by_token(story: Story) -> None:
    assert story.today.status == 0, story.today.output
    assert "1 passed" in story.today.output


def test_the_gate_beside_a_golden_starts_the_candidate_alone_and_judges_by_its_scores(story: Story) -> None:
    assert story.gate.results is not None, story.gate.output
    started = [engine["spec"]["kv_cache_dtype"] for engine in story.gate.results["engines"]]
    assert started == ["fp8_e4m3"]
    (verdict,) = story.gate.results["verdicts"]
    assert verdict["source"] == "golden"
    assert verdict["metrics"]["delta_nll"]["n"] == len(OPENINGS)
    assert verdict["metrics"]["kld"]["value"] > 0
    assert verdict["metrics"]["kld"]["floor"] is not None
