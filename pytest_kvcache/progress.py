"""Progress: tells the person at the terminal what the engines are doing.

Under xdist the workers have no terminal: they append to a file, which the controller follows.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol

POLL_SECONDS = 0.5


class Terminal(Protocol):
    """What is needed of pytest's terminal reporter."""

    @property
    def isatty(self) -> bool: ...
    def ensure_newline(self) -> None: ...
    def rewrite(self, line: str, erase: bool = False) -> None: ...
    def write_line(self, line: str) -> None: ...


class ProgressLine:
    """Called with an engine's label, phase, done and total; shows them on a terminal reporter.

    On a terminal one line is rewritten; in a log every phase gets one line when it begins.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._phase: tuple[str, str] | None = None
        self._began = time.monotonic()

    def __call__(self, label: str, phase: str, done: int, total: int) -> None:
        is_new = (label, phase) != self._phase
        if is_new:
            self._phase, self._began = (label, phase), time.monotonic()
            self._terminal.ensure_newline()
        if self._terminal.isatty:
            part = f" {done}/{total}" if total else ""
            seconds = time.monotonic() - self._began
            self._terminal.rewrite(f"kvcache: {label} {phase}{part} ({seconds:.0f} s)", erase=True)
        elif is_new:
            self._terminal.write_line(f"kvcache: {label} {phase}")


class ProgressFile:
    """Called like `ProgressLine`, in a worker: appends a line to a file when a phase begins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._phase: tuple[str, str] | None = None

    def __call__(self, label: str, phase: str, done: int, total: int) -> None:  # noqa: ARG002
        if (label, phase) != self._phase:
            self._phase = (label, phase)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"kvcache: {label} {phase}\n")


class ProgressFollower:
    """Shows on the controller's terminal what the workers' `ProgressFile` s say, until stopped."""

    def __init__(self, path: Path, terminal: Terminal) -> None:
        self._path = path
        self._terminal = terminal
        self._shown = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="kvcache-progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            self._show()
        self._show()

    def _show(self) -> None:
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        new, self._shown = text[self._shown :], len(text)
        if new:
            self._terminal.ensure_newline()
        for line in new.splitlines():
            self._terminal.write_line(line)
