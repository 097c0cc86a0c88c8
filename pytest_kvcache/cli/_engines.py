"""Engines for commands: a session over a run store of its own, which nobody needs afterwards."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.errors import EngineError
from pytest_kvcache.plan import make_plan
from pytest_kvcache.progress import ProgressLine
from pytest_kvcache.refresh import assemble, produce
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kvcache.engines import EngineFactory
    from pytest_kvcache.plan import Request
    from pytest_kvcache.records import Golden
    from pytest_kvcache.refresh import Want


def engine_factory(timeout: float) -> EngineFactory:
    """Return what starts engines: vLLM. Tests of the commands put a scripted engine in its place."""
    return child_engine_factory(timeout)


def make_goldens(wants: Sequence[Want], timeout: float) -> list[tuple[Want, Golden]]:
    """Make goldens, each engine started once. Raises `EngineError` if one broke or refused a set."""
    with engines([want.request for want in wants], timeout) as (session, store):
        for want in wants:
            produce(session, want)
        return [(want, _assembled(store, want)) for want in wants]


@contextmanager
def engines(requests: Sequence[Request], timeout: float) -> Iterator[tuple[Session, RunStore]]:
    """Give a session that has planned all requests, and the run store that it fills.

    ``timeout`` in seconds holds for each engine step. The store is a directory of mode 0700 that goes in
    the end, unless an engine broke: then the error names the log in it.
    """
    terminal = _StandardError()
    with _temporary_directory() as root, ExitStack() as at_end:
        store = RunStore(root)
        session = Session(
            make_plan(requests),
            store,
            engine_factory(timeout),
            DevicePool(),
            notify=ProgressLine(terminal),
            ahead=True,
        )
        at_end.callback(terminal.ensure_newline)
        at_end.callback(session.close)
        yield session, store


def _assembled(store: RunStore, want: Want) -> Golden:
    golden = assemble(store, want)
    assert golden is not None, "it was produced whole"
    return golden


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="kvcache-"))
    with ExitStack() as at_end:
        at_end.callback(shutil.rmtree, root, ignore_errors=True)
        try:
            yield root
        except EngineError:
            at_end.pop_all()
            raise


class _StandardError:
    """Standard error as the terminal that progress is shown on."""

    def __init__(self) -> None:
        self.isatty = sys.stderr.isatty()
        self._within_line = False

    def ensure_newline(self) -> None:
        if self._within_line:
            self.write_line("")

    def rewrite(self, line: str, erase: bool = False) -> None:
        sys.stderr.write(f"\r{line}" + "\x1b[K" * erase)
        sys.stderr.flush()
        self._within_line = True

    def write_line(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self._within_line = False
