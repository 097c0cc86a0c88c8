"""Evaluation: what `find_degeneration` and the published rules say of every document of a half.

Results are kept in ``CORPUS/results/HALF.jsonl``, one line per document, so that tables and plots are
made without looking at the documents again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from detection.corpus import Damage, Document, Half, read_documents
from detection.peers import PEERS, Peer
from pytest_kvcache.errors import UsageError
from pytest_kvcache.files import write_atomically
from pytest_kvcache.measures.degeneration import find_degeneration
from pytest_kvcache.records import Output, Signal
from pytest_kvcache.text import printable

EXCERPT = 80
"""Characters of a document that a result keeps, from its damage or first finding on."""

Decode = Callable[[Sequence[int]], str]


class Found(msgspec.Struct, frozen=True, array_like=True):
    """One signal, its place in characters."""

    kind: str
    severity: str
    start: int
    end: int
    evidence: str


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was found in one document, and what is known of it."""

    id: str
    kind: str
    tokens: int
    characters: int
    excerpt: str
    """Printable, at most 80 characters."""
    damage: Damage | None = None
    signals: tuple[Found, ...] = ()
    alarms: tuple[str, ...] = ()
    """Names of the peers that raised one."""

    @property
    def is_healthy(self) -> bool:
        return self.damage is None

    @property
    def fails(self) -> bool:
        return any(signal.severity == "fail" for signal in self.signals)

    @property
    def overlap(self) -> float:
        """Of the signal that fits best: characters shared with the damage, over those in either."""
        if self.damage is None:
            return 0.0
        place = (self.damage.start, self.damage.end)
        return max((_overlap(place, (signal.start, signal.end)) for signal in self.signals), default=0.0)


def evaluate(
    corpus: Path,
    half: Half,
    *,
    kind: str | None = None,
    peers: Mapping[str, Peer] = PEERS,
    decode: Decode,
) -> Iterator[Result]:
    """Yield what is found in each document of a half, or of one kind of it, healthy ones first.

    ``decode`` turns token ids to text; signals placed in tokens are placed in characters by it.
    """
    for health in ("healthy", "damaged"):
        for document in read_documents(corpus, half, health, kind):
            yield judge(document, peers, decode)


def judge(document: Document, peers: Mapping[str, Peer], decode: Decode) -> Result:
    """Let our detectors and the peers look at one document."""
    output = Output(document.id, (), document.token_ids, document.text, document.finish_reason)
    signals = find_degeneration(output, prompt=document.prompt, baseline=document.baseline)
    found = tuple(_found(signal, document, decode) for signal in signals)
    alarms = tuple(name for name, alarms_at in peers.items() if alarms_at(document))
    shown = document.damage.start if document.damage else min((each.start for each in found), default=0)
    return Result(
        document.id,
        document.kind,
        len(document.token_ids),
        len(document.text),
        printable(document.text[shown : shown + EXCERPT], EXCERPT),
        document.damage,
        found,
        alarms,
    )


def write_results(corpus: Path, half: Half, results: Iterable[Result]) -> None:
    path = _results_file(corpus, half)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.Encoder().encode_lines(results))


def read_results(corpus: Path, half: Half) -> list[Result]:
    """Return the results of the last evaluation. Raises UsageError if there was none."""
    path = _results_file(corpus, half)
    if not path.exists():
        raise UsageError(f"{path} is missing: run `python -m detection evaluate --half {half}` first")
    return msgspec.json.Decoder(Result).decode_lines(path.read_bytes())


def _results_file(corpus: Path, half: Half) -> Path:
    return corpus / "results" / f"{half}.jsonl"


def _found(signal: Signal, document: Document, decode: Decode) -> Found:
    start, end = signal.start, signal.end
    if signal.unit == "token":
        start, end = (len(decode(document.token_ids[:place])) for place in (start, end))
    return Found(signal.kind, signal.severity, start, end, signal.evidence)


def _overlap(one: tuple[int, int], two: tuple[int, int]) -> float:
    """Return intersection over union of two half-open stretches; 1 for two equal empty ones."""
    union = max(one[1], two[1]) - min(one[0], two[0])
    if union == 0:
        return 1.0
    return max(0, min(one[1], two[1]) - max(one[0], two[0])) / union
