"""Importing the package is free, and every public name is there when it is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_kvcache as kv

HEAVY = ("numpy", "torch", "vllm", "transformers", "jinja2", "msgspec", "pytest", "_pytest", "hypothesis")


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = f"import sys, pytest_kvcache; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", kv.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(kv, name) is not None
    assert name in dir(kv)


def test_what_type_checkers_see_is_what_loads() -> None:
    tree = ast.parse(Path(kv.__file__).read_text(encoding="utf-8"))
    imports = (
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"
    )
    seen = {alias.name for node in imports for alias in node.names} - {"TYPE_CHECKING", "version"}
    assert {*seen, "__version__"} == set(kv.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'generate'"):
        _ = kv.generate
