"""The pool: at most one engine alive in this process, on a device that it alone holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pytest_kvcache.engines import Engine, EngineFactory, PreparingFactory, Turn
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.following import follow
from pytest_kvcache.errors import EngineError
from pytest_kvcache.records import (
    EngineReport,
    EngineSpec,
    Manner,
    OutputSet,
    PromptSet,
    ScoreRequest,
    ScoreSet,
    ScoringPath,
)

Notify = Callable[[str, str, int, int], None]
"""Called with an engine's label, its phase, done and total; total 0 means unknown."""

TOP_K = 20
"""Log-probabilities kept at each scored position: vLLM's default limit."""
FLOOR_TEXTS = 16
"""Texts that a baseline scores one at a time."""
FLOOR_TOKENS = 32
"""Tokens of each that are scored so: decoding one sequence alone is slow."""


class Life:
    """One engine from its start to its end, with what that cost."""

    def __init__(
        self,
        label: str,
        spec: EngineSpec,
        log: Path,
        begin: Callable[[str], None],
        resources: ExitStack,
    ) -> None:
        self.label = label
        self.spec = spec
        self._log = log
        self._begin = begin
        self._resources = resources
        self._engine: Engine | None = None
        self._seconds = {"start": 0.0, "generate": 0.0, "score": 0.0}
        self._tokens = {"generate": 0, "score": 0}

    @property
    def engine(self) -> Engine:
        assert self._engine is not None
        return self._engine

    def start(self, start_engine: Callable[[], Engine]) -> None:
        began = time.monotonic()
        try:
            self._engine = start_engine()
        finally:
            self._seconds["start"] = time.monotonic() - began

    def generate(self, prompt_set: PromptSet) -> OutputSet:
        """Generate a whole prompt set in one batch."""
        self._begin("generating")
        began = time.monotonic()
        outputs = self.engine.generate(prompt_set.prompts, prompt_set.sampling)
        seconds = self._count("generate", began, sum(len(output.token_ids) for output in outputs))
        return OutputSet(self.spec, prompt_set, self.engine.provenance, outputs, seconds, self.engine.counts)

    def score(self, texts: OutputSet) -> ScoreSet:
        """Score all texts of an output set that have any token, in one batch."""
        self._begin("scoring")
        requests = [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in texts if o.token_ids]
        began = time.monotonic()
        scores = self.engine.score(requests, top_k=TOP_K) if requests else ()
        seconds = self._count("score", began, sum(len(request.token_ids) for request in requests))
        return ScoreSet(self.spec, texts.prompt_set, texts.spec.key, scores, seconds)

    def follow(self, texts: OutputSet, manner: Manner, *, warm: bool = False) -> ScoreSet:
        """Score all texts of an output set that have any token, by decoding along them in one manner.

        ``warm`` says that the engine has just followed the same texts in a plain batch.
        """
        self._begin("following")
        requests = [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in texts if o.token_ids]
        began = time.monotonic()
        scores, counts = follow(self.engine, requests, manner, top_k=TOP_K, warm=warm)
        seconds = self._count("score", began, sum(len(request.token_ids) for request in requests))
        resolved = self.engine.provenance
        return ScoreSet(
            self.spec, texts.prompt_set, texts.spec.key, scores, seconds, manner, counts, resolved
        )

    def score_alone(self, texts: OutputSet) -> ScoreSet:
        """Score the beginnings of some texts again, each by itself.

        By decoding where the engine can: on a processor prefill gives the same to the last bit however
        many texts share its pass, so it is in decoding that a batch's size can change the figures.
        """
        self._begin("scoring")
        requests = floor_requests(texts)
        path: ScoringPath | None = "decode" if self.engine.provenance.can_follow else None
        began = time.monotonic()
        scores = tuple(
            score for request in requests for score in self.engine.score([request], top_k=TOP_K, path=path)
        )
        seconds = self._count("score", began, sum(len(request.token_ids) for request in requests))
        return ScoreSet(self.spec, texts.prompt_set, texts.spec.key, scores, seconds)

    def end(self, failure: str | None) -> EngineReport:
        """End the engine, free its device, and report."""
        with self._resources:
            peak = self._engine.close() if self._engine else 0
        return EngineReport(
            label=self.label,
            spec=self.spec,
            provenance=self._engine.provenance if self._engine else None,
            failure=failure,
            seconds_to_start=self._seconds["start"],
            seconds_to_generate=self._seconds["generate"],
            seconds_to_score=self._seconds["score"],
            tokens_generated=self._tokens["generate"],
            tokens_scored=self._tokens["score"],
            peak_rss_bytes=peak,
            log=str(self._log),
        )

    def _count(self, work: str, began: float, tokens: int) -> float:
        seconds = time.monotonic() - began
        self._seconds[work] += seconds
        self._tokens[work] += tokens
        return seconds


class EnginePool:
    """Starts engines one after the other. ``on_end`` receives the report of each when it has ended.

    ``ahead`` lets the process of the next engine start while this one loads: importing vLLM takes seconds
    of one core, and needs no device. It is of use where this pool starts all engines of the run.
    """

    def __init__(
        self,
        start_engine: EngineFactory,
        devices: DevicePool,
        *,
        notify: Notify,
        on_end: Callable[[EngineReport], None],
        ahead: bool,
    ) -> None:
        self._start_engine = start_engine
        self._ahead = ahead
        self._devices = devices
        self._notify = notify
        self._on_end = on_end
        self._alive: Life | None = None

    def get(
        self,
        label: str,
        spec: EngineSpec,
        log: Path,
        *,
        on_device: Callable[[], None],
        following: tuple[EngineSpec, Path] | None = None,
    ) -> Life:
        """Return the live engine of a spec, ending another one first.

        ``on_device`` is called as soon as a device is held, before loading begins. ``following`` is the
        engine, with its log, that will probably be asked for next.
        Raises `EngineError` if it does not come up; its report has then been given.
        """
        if self._alive and self._alive.spec == spec:
            return self._alive
        self.release()
        with ExitStack() as resources:
            waiting = self._devices.hold(units(spec), waiting=lambda: self._notify(label, "waiting", 0, 0))
            slot = resources.enter_context(waiting)
            on_device()
            self._notify(label, "loading", 0, 0)
            life = Life(label, spec, log, lambda phase: self._notify(label, phase, 0, 0), resources.pop_all())
        try:
            self._prepare(Turn(spec, slot, log), following)
            life.start(lambda: self._start_engine(spec, slot, log, lambda *step: self._notify(label, *step)))
        except BaseException as error:
            self._on_end(
                life.end(str(error) if isinstance(error, EngineError) else "interrupted while loading")
            )
            raise
        self._alive = life
        return life

    def release(self, failure: str | None = None) -> None:
        """End the engine that is alive, if any, and free its device."""
        if self._alive:
            life, self._alive = self._alive, None
            self._on_end(life.end(failure))

    def close(self) -> None:
        """End all that this pool has started."""
        self.release()
        if isinstance(self._start_engine, PreparingFactory):
            self._start_engine.discard()

    def _prepare(self, turn: Turn, following: tuple[EngineSpec, Path] | None) -> None:
        """Begin with this engine and the one after it: it gets the same slot if it needs as many units."""
        if self._ahead and following and isinstance(self._start_engine, PreparingFactory):
            spec, log = following
            if len(turn.slot.cores) != 1 and units(spec) == units(turn.spec):
                self._start_engine.prepare(turn, Turn(spec, turn.slot, log))


def floor_requests(texts: OutputSet) -> tuple[ScoreRequest, ...]:
    """Return the beginnings of the first texts that are long enough, or of the longest if too few are."""
    written = [output for output in texts if output.token_ids]
    longest = sorted(written, key=lambda output: -min(len(output.token_ids), FLOOR_TOKENS))[:FLOOR_TEXTS]
    return tuple(
        ScoreRequest(output.prompt_id, output.prompt_token_ids, output.token_ids[:FLOOR_TOKENS])
        for output in written
        if output in longest
    )


def units(spec: EngineSpec) -> int:
    """Return how many devices an engine takes: one for each tensor- and pipeline-parallel rank."""
    arguments = spec.arguments()
    return int(arguments.get("tensor_parallel_size", 1)) * int(arguments.get("pipeline_parallel_size", 1))
