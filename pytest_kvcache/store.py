"""The run store: where the outputs and scores of a run live on disk, shared by all its workers.

One directory per engine, named by its spec. Entries are written whole or not at all, and carry what
they belong to, so that any worker can read what any other has produced. Locks belong to a process and
are free when it dies.

    ROOT/engines/SPEC/outputs-SET.jsonl           a header line, then one `Output` a line
    ROOT/engines/SPEC/scores-SET-TEXT.scores      a `ScoreSet` (:mod:`~pytest_kvcache.score_files`)
    ROOT/engines/SPEC/floor-SET.scores            a `ScoreSet`: some texts, one at a time
    ROOT/engines/SPEC/followed-MANNER-SET-TEXT.scores  a `ScoreSet` of a serving condition
    ROOT/engines/SPEC/failure.txt                 why the engine broke, one line
    ROOT/engines/SPEC/refused-SET.txt             why the engine refused one set and lived on, one line
    ROOT/engines/SPEC/refused-MANNER-SET.txt      why it did not follow the texts of one set in one manner
    ROOT/engines/SPEC/cached-SET                  a mark: something for this set comes from another run
    ROOT/engines/SPEC/report-TIME.json            an `EngineReport` for each life of the engine that has ended
    ROOT/engines/SPEC/reserved                    a mark: only the worker that has the engine's tests runs it
    ROOT/engines/SPEC/engine.log                  what the engine printed
    ROOT/verdicts/ID-SETS.json                    a `Verdict` with its `Excerpt`s
    ROOT/notes/KEY.txt                            one line that the run's summary is to say
    ROOT/declared.json                            what the run's collection declared
    ROOT/refused.txt                              which declaration was wrong, one line
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.files import slug, write_atomically
from pytest_kvcache.records import (
    Counts,
    Declared,
    EngineReport,
    EngineSpec,
    Excerpt,
    Manner,
    Output,
    OutputSet,
    PromptSet,
    Provenance,
    ScoreSet,
    Verdict,
    content_key,
)
from pytest_kvcache.score_files import damaged, packed, read_scores

OUTPUTS_FORMAT = 1
_R = TypeVar("_R")


class _OutputsHeader(msgspec.Struct, frozen=True):
    spec: EngineSpec
    prompt_set: PromptSet
    provenance: Provenance
    seconds: float
    counts: Counts = Counts()
    format: int = OUTPUTS_FORMAT


class _Judged(msgspec.Struct, frozen=True):
    verdict: Verdict
    excerpts: tuple[Excerpt, ...]


class RunStore:
    """The outputs, scores, failures and verdicts of one run, below one directory of mode 0700.

    Reading raises `KvCacheError` for an entry that is damaged, and writing where there is no room; what
    is absent is None.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def outputs(self, spec: EngineSpec, prompt_set: PromptSet) -> OutputSet | None:
        entry = _read_outputs(self.outputs_file(spec, prompt_set))
        if entry is None:
            return None
        header, outputs = entry
        # The set under its present name: equal sets share one entry whatever they are called.
        return OutputSet(header.spec, prompt_set, header.provenance, outputs, header.seconds, header.counts)

    def read_goldens(self) -> tuple[OutputSet, ...]:
        """Return what goldens have put here, in an order of their own."""
        files = sorted(self.root.glob("engines/*-golden-*/outputs-*.jsonl"))
        entries = map(_read_outputs, files)
        return tuple(
            OutputSet(header.spec, header.prompt_set, header.provenance, outputs, header.seconds)
            for header, outputs in filter(None, entries)
            if header.spec.golden is not None
        )

    def put_outputs(self, entry: OutputSet, *, under: EngineSpec | None = None) -> None:
        """Keep outputs; a golden's ``under`` the engine that it stands for, which may be asked otherwise."""
        header = _OutputsHeader(entry.spec, entry.prompt_set, entry.provenance, entry.seconds, entry.counts)
        _write_lines(self.outputs_file(under or entry.spec, entry.prompt_set), header, entry.outputs)

    def scores(self, spec: EngineSpec, prompt_set: PromptSet, text_of: EngineSpec) -> ScoreSet | None:
        """Return the scores by ``spec`` of the texts that ``text_of`` wrote for the set."""
        return _read_scores(self.scores_file(spec, prompt_set, text_of.key), prompt_set)

    def put_scores(self, entry: ScoreSet) -> None:
        _write(self.scores_file(entry.spec, entry.prompt_set, entry.text_of), packed(entry))

    def floor(self, spec: EngineSpec, prompt_set: PromptSet) -> ScoreSet | None:
        """Return what ``spec`` gave some of its own texts for the set, one at a time."""
        return _read_scores(self.floor_file(spec, prompt_set), prompt_set)

    def put_floor(self, entry: ScoreSet) -> None:
        _write(self.floor_file(entry.spec, entry.prompt_set), packed(entry))

    def followed(
        self, spec: EngineSpec, prompt_set: PromptSet, text_of: EngineSpec, manner: Manner
    ) -> ScoreSet | None:
        """Return what ``spec`` gave the texts that ``text_of`` wrote for the set, followed in one manner."""
        return _read_scores(self.followed_file(spec, prompt_set, text_of.key, manner), prompt_set)

    def put_followed(self, entry: ScoreSet) -> None:
        assert entry.manner is not None, "it was followed in some manner"
        _write(self.followed_file(entry.spec, entry.prompt_set, entry.text_of, entry.manner), packed(entry))

    def has_followed(
        self, spec: EngineSpec, prompt_set: PromptSet, text_of: EngineSpec, manner: Manner
    ) -> bool:
        return self.followed_file(spec, prompt_set, text_of.key, manner).exists()

    def has_floor(self, spec: EngineSpec, prompt_set: PromptSet) -> bool:
        return self.floor_file(spec, prompt_set).exists()

    def has_outputs(self, spec: EngineSpec, prompt_set: PromptSet) -> bool:
        return self.outputs_file(spec, prompt_set).exists()

    def has_scores(self, spec: EngineSpec, prompt_set: PromptSet, text_of: EngineSpec) -> bool:
        return self.scores_file(spec, prompt_set, text_of.key).exists()

    def failure(
        self, spec: EngineSpec, prompt_set: PromptSet | None = None, manner: Manner | None = None
    ) -> str | None:
        """Return why the engine broke, or refused this set, in one line; None if neither.

        With a manner: why it did not follow the set's texts so.
        """
        broke = _read_text(self._engine(spec) / "failure.txt")
        if broke is not None or prompt_set is None:
            return broke
        return _read_text(self._engine(spec) / _refusal(prompt_set, manner))

    def put_failure(
        self,
        spec: EngineSpec,
        message: str,
        prompt_set: PromptSet | None = None,
        manner: Manner | None = None,
    ) -> None:
        """Keep why the engine broke, or, with a set, why it refused that set alone, or to follow it so."""
        name = "failure.txt" if prompt_set is None else _refusal(prompt_set, manner)
        _write(self._engine(spec) / name, message.encode())

    def put_report(self, report: EngineReport) -> None:
        _write(self._engine(report.spec) / f"report-{time.time_ns()}.json", msgspec.json.encode(report))

    def reports(self) -> tuple[EngineReport, ...]:
        """Return the reports of all engines that have ended, by label."""
        files = sorted(self.root.glob("engines/*/report-*.json"))
        return tuple(sorted((_read_json(f, EngineReport) for f in files), key=lambda r: r.label))

    def provenances(self) -> dict[EngineSpec, Provenance]:
        """Return what engines resolved: those that ran, and those whose outputs another run or a golden gave.

        What a golden keeps of it has blanks.
        """
        headers = (_read_header(file) for file in sorted(self.root.glob("engines/*/outputs-*.jsonl")))
        written = {header.spec: header.provenance for header in headers}
        return written | {r.spec: r.provenance for r in self.reports() if r.provenance is not None}

    def put_verdict(self, verdict: Verdict, excerpts: tuple[Excerpt, ...], *, key: str) -> None:
        """Keep a verdict; ``key`` identifies the engines and sets that it is about."""
        name = f"{slug(verdict.id)}-{key}.json"
        _write(self.root / "verdicts" / name, msgspec.json.encode(_Judged(verdict, excerpts)))

    def verdicts(self) -> tuple[tuple[Verdict, tuple[Excerpt, ...]], ...]:
        """Return all verdicts, each with its excerpts, in the order of their names."""
        entries = (_read_json(f, _Judged) for f in sorted(self.root.glob("verdicts/*.json")))
        return tuple((entry.verdict, entry.excerpts) for entry in entries)

    def outputs_file(self, spec: EngineSpec, prompt_set: PromptSet) -> Path:
        return self._engine(spec) / f"outputs-{prompt_set.key}.jsonl"

    def scores_file(self, spec: EngineSpec, prompt_set: PromptSet, text_of: str) -> Path:
        """Return where scores of what the engine of key ``text_of`` wrote belong."""
        return self._engine(spec) / f"scores-{prompt_set.key}-{text_of}.scores"

    def floor_file(self, spec: EngineSpec, prompt_set: PromptSet) -> Path:
        return self._engine(spec) / f"floor-{prompt_set.key}.scores"

    def followed_file(self, spec: EngineSpec, prompt_set: PromptSet, text_of: str, manner: Manner) -> Path:
        """Return where scores belong of what the engine of key ``text_of`` wrote, followed in one manner."""
        return self._engine(spec) / f"followed-{manner}-{prompt_set.key}-{text_of}.scores"

    def mark_cached(self, spec: EngineSpec, prompt_set: PromptSet) -> None:
        """Say that something of this engine for this set comes from another run."""
        (self._made_engine(spec) / f"cached-{prompt_set.key}").touch(mode=0o600)

    def is_cached(self, spec: EngineSpec, prompt_set: PromptSet) -> bool:
        return (self._engine(spec) / f"cached-{prompt_set.key}").exists()

    def put_note(self, message: str) -> None:
        """Keep one line that the run's summary is to say, once however often it is put."""
        _write(self.root / "notes" / f"{content_key(message)}.txt", message.encode())

    def notes(self) -> tuple[str, ...]:
        return tuple(sorted(file.read_text(encoding="utf-8") for file in self.root.glob("notes/*.txt")))

    def put_declared(self, declared: Declared) -> None:
        _write(self.root / "declared.json", msgspec.json.encode(declared))

    def declared(self) -> Declared:
        """Return what the collection declared; nothing if no kv test was collected."""
        path = self.root / "declared.json"
        return _read_json(path, Declared) if path.exists() else Declared((), 0, 0)

    def put_refusal(self, message: str) -> None:
        _write(self.root / "refused.txt", message.encode())

    def refusal(self) -> str | None:
        """Return which declaration of a test was wrong, in one line; None if none was."""
        return _read_text(self.root / "refused.txt")

    def log(self, spec: EngineSpec) -> Path:
        """Return the file that the engine's own words go to."""
        return self._made_engine(spec) / "engine.log"

    @contextmanager
    def claim(self, spec: EngineSpec) -> Iterator[bool]:
        """Try to become the one worker that runs this engine; yields whether it is us."""
        handle = os.open(self._made_engine(spec) / "job.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                # A mark left by an owner that died: whoever claims has no device yet.
                self._running_mark(spec).unlink(missing_ok=True)
                yield True
        finally:
            os.close(handle)

    def mark_running(self, spec: EngineSpec) -> None:
        """Say, while holding the claim, that the engine has its device and waits for nobody."""
        self._running_mark(spec).touch(mode=0o600)

    def reserve(self, spec: EngineSpec) -> None:
        """Leave this engine to the worker that has its own tests, until `free` is called."""
        (self._made_engine(spec) / "reserved").touch(mode=0o600)

    def free(self, spec: EngineSpec) -> None:
        """Let whoever needs this engine run it."""
        (self._engine(spec) / "reserved").unlink(missing_ok=True)

    def is_reserved(self, spec: EngineSpec) -> bool:
        return (self._engine(spec) / "reserved").exists()

    def is_running(self, spec: EngineSpec) -> bool:
        """Whether another worker runs this engine on its device now."""
        if not self._running_mark(spec).exists():
            return False
        with self.claim(spec) as free:
            return not free

    def _engine(self, spec: EngineSpec) -> Path:
        kind = spec.kv_cache_dtype if spec.golden is None else f"{spec.golden}-golden"
        return self.root / "engines" / slug(f"{spec.model}-{kind}-{spec.key}")

    def _made_engine(self, spec: EngineSpec) -> Path:
        directory = self._engine(spec)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    def _running_mark(self, spec: EngineSpec) -> Path:
        return self._engine(spec) / "running"


def _refusal(prompt_set: PromptSet, manner: Manner | None) -> str:
    return f"refused-{prompt_set.key}.txt" if manner is None else f"refused-{manner}-{prompt_set.key}.txt"


def _write_lines(path: Path, header: msgspec.Struct, records: Sequence[Any]) -> None:
    _write(path, msgspec.json.Encoder().encode_lines([header, *records]))


def _read_scores(path: Path, prompt_set: PromptSet) -> ScoreSet | None:
    """Return a score set under the present name of its prompt set, or None if there is none."""
    entry = read_scores(path)
    return entry and replace(entry, prompt_set=prompt_set)


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise KvCacheError(
            f"cannot write {path} ({error.strerror}): make room, or name another --kv-report"
        ) from None


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Turn what decoding raises, ValueError where bytes are no UTF-8, into the error of a damaged file."""
    try:
        yield
    except (ValueError, msgspec.MsgspecError) as error:
        raise damaged(path, error) from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[_OutputsHeader, BinaryIO]]:
    """Yield the header of an outputs file, and the file from where its outputs begin."""
    with path.open("rb") as lines, _naming_damage(path):
        yield msgspec.json.decode(lines.readline(), type=_OutputsHeader), lines


def _read_header(path: Path) -> _OutputsHeader:
    with _opened(path) as (header, _):
        return header


def _read_outputs(path: Path) -> tuple[_OutputsHeader, tuple[Output, ...]] | None:
    try:
        with _opened(path) as (header, lines):
            outputs = map(msgspec.json.Decoder(Output).decode, lines)
            return header, tuple(_with_shared_tokens(outputs))
    except FileNotFoundError:
        return None


def _with_shared_tokens(outputs: Iterable[Output]) -> Iterator[Output]:
    """Yield the outputs with equal token ids as one object, which takes a fifth of the memory."""
    known: dict[int, int] = {}
    for output in outputs:
        prompt, text = (
            tuple(map(known.setdefault, ids, ids)) for ids in (output.prompt_token_ids, output.token_ids)
        )
        yield replace(output, prompt_token_ids=prompt, token_ids=text)


def _read_json(path: Path, kind: type[_R]) -> _R:
    with _naming_damage(path):
        return msgspec.json.decode(path.read_bytes(), type=kind)
