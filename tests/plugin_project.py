"""A team's repository whose engines are scripted: what tests of the plugin share, with `conftest.project`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

CONFTEST = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import scripted
from pytest_kvcache.engines.launch import child_engine_factory

def pytest_kvcache_engine_factory(config, timeout):
    return child_engine_factory(timeout, scripted.COMMAND)
"""

VERDICT_TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts=["smoke", "smoke-penalised"])
def test_verdict(kv_verdict):
    pass
"""

OUTPUT_TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts="smoke")
def test_outputs(kv_outputs):
    assert len(kv_outputs) == 32

def test_unrelated():
    pass
"""

GATE = ("--kv-dtypes=fp8,auto", "--kv-models=scripted/model")

ALL_CODES = ("delta-nll", "kld", "same-top", "degenerate", "suspicious", "penalties-ineffective")
BROKEN = (
    "--kv-engine-arg=candidate_script=loop",
    "--kv-engine-arg=candidate_delta_nll=0.5",
)


def engines_started(project: pytest.Pytester) -> list[str]:
    return [line.split()[1] for line in (project.path / "starts").read_text().splitlines()]


def results(project: pytest.Pytester) -> Any:
    return json.loads((project.path / ".kvcache" / "results.json").read_text())


def known_bad(project: pytest.Pytester, *codes: str, tests: Sequence[str] = (), **changes: str) -> str:
    """Declare the scripted failure, by default with all of its codes; return the option that says so."""
    entry = {"model": "scripted/model", "dtype": "fp8", "why": "seen before", "link": "https://example.org/1"}
    lines = [f'{name} = "{value}"' for name, value in (entry | changes).items()]
    if tests:
        lines.append(f"tests = {json.dumps(tests)}")
    policy = project.path / "policy.toml"
    policy.write_text(
        "\n".join(["[[known_bad]]", *lines, f"codes = {json.dumps(codes or ALL_CODES)}"]) + "\n"
    )
    return f"--kv-policy={policy}"
