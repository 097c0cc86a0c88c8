"""``kvcache golden`` as a process: readers that leave, terminals of few characters, a light start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from golden_command import commit, own_set

pytestmark = pytest.mark.usefixtures("repository")


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    commit(own_set())
    program = (
        "import sys; from pytest_kvcache.cli import main; sys.exit(main(['golden', 'verify', '--json']))"
    )
    command = f'{sys.executable} -c "{program}" | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_that_knows_ascii_alone_is_shown_escapes() -> None:
    misnamed = commit(own_set()).with_name("modèle.json")
    misnamed.write_text("{}")
    program = "import sys; from pytest_kvcache.cli import main; sys.exit(main(['golden', 'verify']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 1
    assert r"mod\xe8le.json" in done.stdout


def test_help_loads_neither_numpy_nor_torch() -> None:
    program = """
import sys
from pytest_kvcache.cli import main
try:
    main(["golden", "refresh", "--help"])
except SystemExit:
    print([name for name in ("numpy", "torch", "vllm", "msgspec", "pytest") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
