"""What tests see of the machine: which processes were started below a mark, and what memory is left."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MARK = "KVCACHE_TEST_MARK"
"""A variable that every process inherits, wherever it ends up in the tree of processes."""


HEEDING_INTERRUPTS = ("env", "--default-signal=INT")
"""Before a command: lets Ctrl-C end it even where the tests run in the background, which ignores it."""


@contextmanager
def new_mark() -> Iterator[str]:
    """Mark every process that is started in the block, so that none can hide."""
    mark = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, mark)
        yield mark


def marked(mark: str) -> list[int]:
    """Return the processes that were started with this mark in their environment and still live."""
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid in _all() if wanted in _read(pid, "environ").split(b"\0")]


def left_after(mark: str, seconds: float) -> list[int]:
    """Return the marked processes that are still there when that time has passed."""
    deadline = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def running_module(pid: int) -> str:
    """Return MODULE of a process that runs ``python ... -m MODULE``, else nothing."""
    words = _read(pid, "cmdline").decode(errors="replace").split("\0")
    return words[words.index("-m") + 1] if "-m" in words[:-1] else ""


def leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def allowed_cores(pid: int) -> set[int]:
    """Return every core that any thread of a process may run on."""
    threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    return {core for thread in threads for core in os.sched_getaffinity(thread)}


def memory_left() -> int:
    """Return the bytes that are available, or that processes other than this one hold and will free.

    Other programs of the machine may come and go meanwhile; what this figure loses was lost for good.
    """
    available = _kibibytes(Path("/proc/meminfo").read_bytes(), "MemAvailable")
    others = (pid for pid in _all() if pid != os.getpid())
    return 1024 * (available + sum(_kibibytes(_read(pid, "status"), "RssAnon") for pid in others))


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _kibibytes(table: bytes, name: str) -> int:
    found = re.search(rb"^%s:\s+(\d+) kB" % name.encode(), table, re.MULTILINE)
    return int(found[1]) if found else 0
