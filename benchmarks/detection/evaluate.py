"""Evaluation: what `find_degeneration` and the published rules say of every document of a half.

Results are kept in ``CORPUS/results/HALF/PART.jsonl``, one line per document, so that tables and plots are
made without looking at the documents again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from detection.corpus import Damage, Document, Half, read_documents
from detection.document_scores import scored_documents
from detection.peers import PEERS, Peer
from detection.real import documents
from pytest_kvcache.errors import UsageError
from pytest_kvcache.files import write_atomically
from pytest_kvcache.measures.degeneration import find_degeneration
from pytest_kvcache.records import Output, Score, Signal
from pytest_kvcache.text import printable

PARTS = ("documents", "scored", "real")
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


class Evaluation(NamedTuple):
    """All results of a half."""

    half: Half
    documents: Sequence[Result]
    scored: Sequence[Result]
    """Of the documents that the baseline has scored, judged with its log-probabilities."""
    real: Sequence[Result]
    """Of what reference models wrote: healthy, or damaged by whatever broke the model. Those of which it
    is doubtful are left out."""


def evaluate(corpus: Path, half: Half, decode: Decode) -> Evaluation:
    """Look at everything in a half, once; ``decode`` turns token ids of documents to text."""
    return Evaluation(
        half,
        list(judge_documents(corpus, half, decode=decode)),
        list(judge_scored(corpus, half)),
        list(judge_real(half)),
    )


def judge_documents(
    corpus: Path,
    half: Half,
    *,
    kind: str | None = None,
    peers: Mapping[str, Peer] = PEERS,
    decode: Decode,
) -> Iterator[Result]:
    """Yield what is found in each document of a half, or of one kind of it, healthy ones first."""
    for health in ("healthy", "damaged"):
        for document in read_documents(corpus, half, health, kind):
            yield judge(document, peers=peers, decode=decode)


def judge_scored(corpus: Path, half: Half) -> Iterator[Result]:
    """Yield what is found in the documents that have scores, in the tokens of the engine that scored."""
    for document, output, score in scored_documents(corpus, half):
        yield judge(document, output, score=score)


def judge_real(half: Half) -> Iterator[Result]:
    """Yield what is found in real outputs that are known to be healthy or broken.

    The baseline's log-probabilities are at hand. Its own output tells of lengths alone: the small model
    loops by itself, and what is asked here is whether a loop is seen, whoever wrote it.
    """
    for real in documents(half):
        if real.is_broken is None:
            continue
        kind, text = real.hand or real.label, real.output.text
        damage = Damage(kind, f"{real.model} under {real.kv_dtype}", 0, len(text), "severe")
        document = Document(
            real.id,
            kind,
            real.model,
            half,
            text,
            real.output.token_ids,
            damage if real.is_broken else None,
            real.prompt,
        )
        yield judge(document, real.output, score=real.score, beside=real.baseline, peers=PEERS)


def judge(
    document: Document,
    output: Output | None = None,
    *,
    score: Score | None = None,
    beside: Output | None = None,
    peers: Mapping[str, Peer] = MappingProxyType({}),
    decode: Decode | None = None,
) -> Result:
    """Let our detectors and the peers look at one document.

    ``output`` stands for the document's own text where more is known of it, with the baseline's
    ``score``, and its own output ``beside`` to compare lengths. ``decode`` places in characters what a
    signal places in tokens; without it they are taken to
    be of equal length.
    """
    seen = output or Output(document.id, (), document.token_ids, document.text, document.finish_reason)
    signals = find_degeneration(seen, prompt=document.prompt, baseline=document.baseline, score=score)
    if beside is not None:
        paired = find_degeneration(seen, prompt=document.prompt, baseline=beside)
        signals += [signal for signal in paired if signal.kind in ("early-end", "runaway")]
    found = tuple(_found(signal, seen, decode) for signal in signals)
    alarms = tuple(name for name, alarms_at in peers.items() if alarms_at(document))
    shown = document.damage.start if document.damage else min((each.start for each in found), default=0)
    return Result(
        document.id,
        document.kind,
        len(seen.token_ids),
        len(document.text),
        printable(document.text[shown : shown + EXCERPT], EXCERPT),
        document.damage,
        found,
        alarms,
    )


def write_evaluation(corpus: Path, evaluation: Evaluation) -> None:
    encoder = msgspec.json.Encoder()
    for name in PARTS:
        path = _results_file(corpus, evaluation.half, name)
        write_atomically(path, encoder.encode_lines(getattr(evaluation, name)))


def read_evaluation(corpus: Path, half: Half) -> Evaluation:
    """Return the results of the last evaluation. Raises UsageError if there was none."""
    decoder = msgspec.json.Decoder(Result)
    parts = []
    for name in PARTS:
        path = _results_file(corpus, half, name)
        if not path.exists():
            raise UsageError(f"{path} is missing: run `python -m detection evaluate --half {half}` first")
        parts.append(decoder.decode_lines(path.read_bytes()))
    return Evaluation(half, *parts)


def _results_file(corpus: Path, half: Half, part: str) -> Path:
    return corpus / "results" / half / f"{part}.jsonl"


def _found(signal: Signal, output: Output, decode: Decode | None) -> Found:
    start, end = signal.start, signal.end
    if signal.unit == "token":
        start, end = (_character(place, output, decode) for place in (start, end))
    return Found(signal.kind, signal.severity, start, end, signal.evidence)


def _character(token: int, output: Output, decode: Decode | None) -> int:
    if decode is not None:
        return len(decode(output.token_ids[:token]))
    return round(token * len(output.text) / len(output.token_ids))


def _overlap(one: tuple[int, int], two: tuple[int, int]) -> float:
    """Return intersection over union of two half-open stretches; 1 for two equal empty ones."""
    union = max(one[1], two[1]) - min(one[0], two[0])
    if union == 0:
        return 1.0
    return max(0, min(one[1], two[1]) - max(one[0], two[0])) / union
