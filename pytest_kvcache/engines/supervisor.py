"""The small process between pytest and an engine: whatever happens, nothing outlives pytest.

It is run as ``python -m pytest_kvcache.engines.supervisor LIFELINE CORES COMMAND...``. ``LIFELINE`` is
the reading end of a pipe whose writing end only pytest holds; when pytest closes it or dies, however it
dies, the supervisor kills the engine with all its descendants. Being their subreaper it adopts
grandchildren whose parent is gone, so none escapes. ``CORES`` is a comma-separated list (``-`` for no
pinning). It ends only when all are gone, with the engine's exit status (128 + N for signal N).
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SECONDS_TO_REAP = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> int:
    lifeline, cores, *command = arguments
    return supervise(int(lifeline), cores, command)


def supervise(lifeline: int, cores: str, command: list[str]) -> int:
    """Run ``command`` until it ends or ``lifeline`` is closed; return its exit status."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(lifeline, False)
    if cores != "-":
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    # This process has one thread, so code between fork and exec is safe.
    engine = subprocess.Popen(command, close_fds=False, preexec_fn=_become_engine)  # noqa: PLW1509
    ended = os.pidfd_open(engine.pid)
    watch = select.poll()
    watch.register(lifeline, select.POLLIN)
    watch.register(ended, select.POLLIN)
    watch.poll()
    # The engine first, alone: its death is what its workers wait for, and its status is ours.
    engine.kill()
    status = engine.wait()
    _kill_descendants()
    return status if status >= 0 else 128 - status


def _become_engine() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for restored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(restored, signal.SIG_DFL)
    # When memory runs out the engine goes, not pytest.
    try:
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    except OSError:
        return


def _kill_descendants() -> None:
    deadline = time.monotonic() + SECONDS_TO_REAP
    while time.monotonic() < deadline:
        for pid in _descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(0.01)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # "PID (name) state PPID ...": the name may hold spaces and parentheses.
                parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    pending = [root]
    while pending:
        pending_children = children.get(pending.pop(), [])
        found += pending_children
        pending += pending_children
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
