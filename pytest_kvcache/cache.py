"""The generation cache: what engines wrote and scored, kept across runs as the files of the run store.

An engine is known by its fingerprint, a prompt set by its key, scored texts by their tokens, and a file by
its own content. So what is found is what the engine would give again, and a file that was changed is no
file. Entries stand alone: any of them may be missing, and is then made anew.

    ROOT/generations/MODEL-DTYPE-FINGERPRINT/NAME[-TEXTS]-DIGEST.SUFFIX

Nothing that goes wrong here is an error of a run: there is a note, and the engine runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pytest_kvcache.engines.fingerprint import Fingerprint
from pytest_kvcache.files import link_or_copy, slug
from pytest_kvcache.plan import EngineJob
from pytest_kvcache.records import EngineSpec, OutputSet, PromptSet, Provenance
from pytest_kvcache.store import RunStore

LIMIT_BYTES = 2 << 30
"""What all entries may take; the engines that were used least recently go first."""

Identify = Callable[[EngineSpec], Fingerprint | None]
"""Says what an engine is, or None where that is not known."""


class GenerationCache:
    """Entries of any number of runs, below one directory; safe for many processes at once.

    What the engines in ``fresh`` give is kept, and never taken: it has to be seen again.
    """

    def __init__(
        self,
        root: Path,
        identify: Identify,
        *,
        fresh: Collection[EngineSpec] = (),
        limit: int = LIMIT_BYTES,
    ) -> None:
        self._root = root / "generations"
        self._identify = identify
        self._fresh = fresh
        self._limit = limit
        self._before: dict[EngineSpec, Fingerprint | None] = {}

    def take(self, store: RunStore, job: EngineJob) -> None:
        """Put into the run store what is kept of a job that is about to run."""
        engine = self._before[job.spec] = self._identify(job.spec)
        if engine is None or job.spec in self._fresh:
            return
        with self._trouble_noted(store):
            for entry in _entries(store, job):
                if not entry.file.exists():
                    self._take(store, self._directory(job.spec, engine), entry)

    def keep(self, store: RunStore, job: EngineJob, provenance: Provenance) -> None:
        """Keep what the run store holds of a job that has run well, unless the engine changed meanwhile."""
        engine = self._identify(job.spec)
        if engine is None or engine.model_id != provenance.model_id:
            return
        if self._before.get(job.spec) not in (None, engine):
            return
        directory = self._directory(job.spec, engine)
        with self._trouble_noted(store):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
            for entry in _entries(store, job):
                if entry.file.exists() and not _find(store, directory, entry):
                    link_or_copy(entry.file, directory / entry.name_of(entry.file))
            self._trim()

    def _directory(self, spec: EngineSpec, engine: Fingerprint) -> Path:
        return self._root / slug(f"{spec.model}-{spec.kv_cache_dtype}-{engine.key}")

    def _take(self, store: RunStore, directory: Path, entry: _Entry) -> None:
        kept = _find(store, directory, entry)
        if kept is not None:
            store.mark_cached(entry.spec, entry.prompt_set)
            link_or_copy(kept, entry.file)
            os.utime(directory)

    @contextmanager
    def _trouble_noted(self, store: RunStore) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            pass  # Another run has made room meanwhile.
        except OSError as error:
            store.put_note(
                f"the generation cache {self._root} is of no use ({error.strerror}): make room, name another "
                "--kv-cache-dir, or give --kv-no-cache"
            )

    def _trim(self) -> None:
        """Remove engines, those used least recently, until the rest is small enough."""
        with (self._root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            engines = [path for path in self._root.iterdir() if path.is_dir()]
            total = 0
            for engine in sorted(engines, key=lambda path: -path.stat().st_mtime_ns):
                total += sum(file.stat().st_size for file in engine.iterdir())
                if total > self._limit:
                    shutil.rmtree(engine, ignore_errors=True)


def no_cache() -> GenerationCache:
    """Return a cache that knows no engine, and so keeps nothing."""
    return GenerationCache(Path(), lambda _: None)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file of the run store, and what its name there does not say."""

    spec: EngineSpec
    prompt_set: PromptSet
    file: Path
    texts: str = ""
    """Of scores, which texts they are of."""

    def kept_in(self, directory: Path) -> list[Path]:
        """Return the files in a directory of the cache that hold this entry, if they are whole."""
        return sorted(directory.glob(self._name("*")))

    def name_of(self, file: Path) -> str:
        """Return the name under which a file is kept as this entry."""
        return self._name(_digest(file))

    def _name(self, digest: str) -> str:
        name, _, suffix = self.file.name.partition(".")
        return f"{'-'.join(filter(None, (name, self.texts, digest)))}.{suffix}"


def _entries(store: RunStore, job: EngineJob) -> Iterator[_Entry]:
    """Yield what a job gives, outputs first, for only texts that are known can have scores."""
    for prompt_set in job.generate:
        yield _Entry(job.spec, prompt_set, store.outputs_file(job.spec, prompt_set))
    for asked in job.score:
        written = store.outputs(asked.writer, asked.prompt_set)
        if written is not None:
            texts, prompt_set = _texts_key(written), asked.prompt_set
            scores = store.scores_file(job.spec, prompt_set, asked.writer.key)
            yield _Entry(job.spec, prompt_set, scores, texts)
            if asked.writer == job.spec:
                yield _Entry(job.spec, prompt_set, store.floor_file(job.spec, prompt_set), texts)
    for each in job.follow:
        writer, prompt_set = each.texts.writer, each.texts.prompt_set
        written = store.outputs(writer, prompt_set)
        if written is not None:
            followed = store.followed_file(job.spec, prompt_set, writer.key, each.manner)
            yield _Entry(job.spec, prompt_set, followed, _texts_key(written))


def _find(store: RunStore, directory: Path, entry: _Entry) -> Path | None:
    """Return the file that keeps an entry, removing what does not hold any more what its name says."""
    for kept in entry.kept_in(directory):
        if kept.name == entry.name_of(kept):
            return kept
        kept.unlink()
        store.put_note(f"damaged files in the generation cache were removed: {directory}")
    return None


def _texts_key(outputs: OutputSet) -> str:
    tokens = [(output.prompt_id, output.prompt_token_ids, output.token_ids) for output in outputs]
    return hashlib.sha256(msgspec.msgpack.encode(tokens)).hexdigest()[:16]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
