"""Our side of an engine in a child process: start it, talk to it, and be rid of it.

A process may be started before its engine's turn has come. It then imports what it needs and waits: it
holds no device before it is told what to load.

Whatever the child does (crash, be killed for memory, hang), the caller gets one `EngineError` with one
line, and pytest lives on.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from pytest_kvcache.engines import ProgressReport, Turn, wire
from pytest_kvcache.errors import EngineError, RequestError
from pytest_kvcache.records import (
    Counts,
    EngineSpec,
    Output,
    Prompt,
    Provenance,
    Sampling,
    Score,
    ScoreRequest,
    ScoringPath,
)
from pytest_kvcache.text import printable

SECONDS_TO_STOP = 10.0
_R = TypeVar("_R")


class ChildProcess:
    """A child program under its supervisor, with our end of the socket to it.

    ``command`` is the program; the number of its end of the socket is appended. Raises `EngineError` if it
    cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        turn: Turn,
        *,
        environment: Mapping[str, str],
    ) -> None:
        self.log = turn.log
        self.environment = environment
        self.ended = False
        self.channel, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        cores = ",".join(map(str, turn.slot.cores)) or "-"
        supervisor = [sys.executable, "-P", "-m", "pytest_kvcache.engines.supervisor", str(lifeline), cores]
        try:
            with self.log.open("ab") as sink:
                self._process = subprocess.Popen(
                    [*supervisor, *command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    pass_fds=(lifeline, theirs.fileno()),
                    start_new_session=True,
                    env=environment,
                )
        except OSError as error:
            self.channel.close()
            os.close(self._lifeline)
            raise EngineError(f"no engine could be started for {turn.spec.model}: {error}") from None
        finally:
            theirs.close()
            os.close(lifeline)

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self.ended and self._process.poll() is None

    def end(self) -> str:
        """End all its processes, wait until they are gone, and say how the program ended."""
        if self.ended:
            return "it was closed"
        self.ended = True
        self.channel.close()
        # A crashed engine is gone by itself; give its own exit status the moment it needs.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0.5)
        ended_by_itself = self._process.returncode is not None
        os.close(self._lifeline)
        try:
            status = self._process.wait(timeout=SECONDS_TO_STOP + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return _describe_exit(status) if ended_by_itself else "it closed its side of the socket"


class ChildEngine:
    """An `Engine` in a child process. The constructor loads the model and returns when it is ready.

    ``timeout`` is the longest time, in seconds, that one step (loading, one batch) may take.
    """

    def __init__(
        self, process: ChildProcess, start: wire.Start, progress: ProgressReport, *, timeout: float
    ) -> None:
        self.spec: EngineSpec = start.spec
        self.counts = Counts()
        self._process = process
        self._progress = progress
        self._timeout = timeout
        try:
            self.provenance: Provenance = self._ask(start, wire.Ready, "loading").provenance
        except BaseException:
            self._process.end()
            raise

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> tuple[Output, ...]:
        request = wire.Generate(tuple(prompts), sampling)
        reply = self._ask(request, wire.Outputs, "generating")
        self.counts = reply.counts
        self.provenance = replace(self.provenance, scales_differ=reply.scales_differ)
        return reply.outputs

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        top_k: int = 20,
        path: ScoringPath | None = None,
        keep_prefix_cache: bool = False,
    ) -> tuple[Score, ...]:
        request = wire.ScoreTexts(tuple(requests), top_k, path, keep_prefix_cache)
        reply = self._ask(request, wire.Scores, "scoring")
        self.counts = reply.counts
        return reply.scores

    def close(self) -> int:
        if self._process.ended:
            return 0
        peak = 0
        self._timeout = SECONDS_TO_STOP
        with suppress(EngineError):
            peak = self._ask(wire.Stop(), wire.Stopped, "stopping").peak_rss_bytes
        self._process.end()
        return peak

    def _ask(self, request: wire.Request, answer: type[_R], phase: str) -> _R:
        if self._process.ended:
            raise EngineError(f"engine of {self.spec.model} is closed and cannot be asked for more ({phase})")
        try:
            reply = self._exchange(request)
        except TimeoutError:
            self._process.end()
            raise self._error(
                f"gave no answer for {self._timeout:g} s while {phase} and was killed: "
                "raise --kv-timeout if it only needs longer"
            ) from None
        except (EOFError, OSError):
            raise self._error(f"died while {phase}: {self._process.end()}") from None
        except msgspec.MsgspecError as error:
            self._process.end()
            raise self._error(
                f"sent a broken answer while {phase} ({error}): is its version another?"
            ) from None
        if isinstance(reply, wire.Failure):
            raise self._error(f"failed while {phase}: {printable(reply.message, 600)}", RequestError)
        if not isinstance(reply, answer):
            self._process.end()
            raise self._error(f"answered {type(reply).__name__} while {phase}: is its version another?")
        return reply

    def _exchange(self, request: wire.Request) -> Any:
        deadline = time.monotonic() + self._timeout
        channel = self._process.channel
        channel.settimeout(self._timeout)
        wire.send(channel, request)
        while True:
            channel.settimeout(max(0.01, deadline - time.monotonic()))
            reply = wire.receive(channel, wire.Reply)
            if not isinstance(reply, wire.Progress):
                return reply
            with suppress(OSError):  # A terminal that is gone is no reason to lose an engine.
                self._progress(reply.phase, reply.done, reply.total)

    def _error(self, what: str, kind: type[EngineError] = EngineError) -> EngineError:
        return kind(
            f"engine {self.spec.model} ({self.spec.kv_cache_dtype}) {what} (log: {self._process.log})"
        )


def _describe_exit(status: int) -> str:
    if 0 <= status <= 128:
        return f"it exited with status {status}"
    number = -status if status < 0 else status - 128
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = ", often the kernel's out-of-memory killer" if name == "SIGKILL" else ""
    return f"it was killed by {name}{hint}"
