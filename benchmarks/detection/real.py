"""Real outputs: what reference models wrote under ``auto`` and fp8, and what a healthy one thinks of it.

The data lies beside the code (``data/real-outputs.jsonl.gz``; ``data/README.md`` says how it was made).
Every output carries the baseline's log-probabilities and two independent labels: one by a criterion on
those (:mod:`detection.criterion`), and, for a sample, one by two readers (:mod:`detection.reading`).
Models belong to one half each, as sources of documents do.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from detection.corpus import Half
from detection.criterion import Label, label_of
from detection.reading import BROKEN, DISPUTED, read_labels
from detection.scored import score_of
from pytest_kvcache.records import Output, Score, content_key

DATA = Path(__file__).parent / "data"
OUTPUTS = DATA / "real-outputs.jsonl.gz"

TEST_MODELS = frozenset(
    {
        "mha-rotated",
        "mha-rotated-kbias",
        "gqa-kbias-96",
        "gqa-kbias-256",
        "gqa-kbias-half",
        "gqa-awq",
        "gqa-kbias-awq",
    }
)
"""Their outputs are in the test half, those of all other models in the tuning half."""


class RealOutput(msgspec.Struct, frozen=True):
    """One output of a reference model, with the baseline's log-probabilities, in nats, per token."""

    id: str
    """``MODEL/DTYPE/SET/PROMPT``."""
    model: str
    kv_dtype: str
    prompt_set: str
    prompt_id: str
    prompt: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None
    logprobs: tuple[float, ...]
    top_ids: tuple[int, ...]
    """The baseline's most probable token at each position."""
    top_logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    """Of the next token's distribution, from below; see `detection.scored.Scored`."""

    @property
    def half(self) -> Half:
        return "test" if self.model in TEST_MODELS else "tuning"

    @property
    def is_penalised(self) -> bool:
        """Whether it was written with a repetition penalty, of which the baseline's scores know nothing."""
        return self.prompt_set.endswith("-penalised")

    @property
    def label(self) -> Label:
        return label_of(self.token_ids, self.logprobs, penalised=self.is_penalised)

    @property
    def reading_id(self) -> str:
        """The name under which readers see it, which tells nothing."""
        return content_key(self.id)[:8]

    def output(self) -> Output:
        return Output(self.id, self.prompt_token_ids, self.token_ids, self.text, self.finish_reason)

    def score(self) -> Score:
        """Return the baseline's score, with the k = 2 of `score_of`."""
        return score_of(self.id, self)


@dataclass(frozen=True)
class RealDocument:
    """A real output as detectors are given it, and what it is."""

    id: str
    half: Half
    model: str
    kv_dtype: str
    prompt_set: str
    prompt: str
    output: Output
    score: Score
    baseline: Output
    """What ``gqa`` under ``auto`` wrote for the same prompt."""
    label: Label
    """By the criterion on log-probabilities."""
    hand: str | None
    """By two readers: one of `detection.reading.CLASSES`, or ``disputed``; None where nobody read it."""

    @property
    def is_broken(self) -> bool | None:
        """By the readers, else by the criterion; None for what is doubtful or disputed."""
        label = self.hand or self.label
        return None if label in ("doubtful", DISPUTED) else label in BROKEN


def documents(half: Half | None = None) -> Iterator[RealDocument]:
    """Yield the real outputs of a half, or of both, with their labels."""
    outputs = read_outputs()
    baselines = {
        (o.prompt_set, o.prompt_id): o.output() for o in outputs if (o.model, o.kv_dtype) == ("gqa", "auto")
    }
    hand = {reading.id: reading.merged for reading in read_labels()}
    for real in outputs:
        if half in (None, real.half):
            yield RealDocument(
                id=real.id,
                half=real.half,
                model=real.model,
                kv_dtype=real.kv_dtype,
                prompt_set=real.prompt_set,
                prompt=real.prompt,
                output=real.output(),
                score=real.score(),
                baseline=baselines[real.prompt_set, real.prompt_id],
                label=real.label,
                hand=hand.get(real.reading_id),
            )


def read_outputs(file: Path = OUTPUTS) -> list[RealOutput]:
    return msgspec.json.Decoder(RealOutput).decode_lines(gzip.decompress(file.read_bytes()))


def write_outputs(outputs: Iterable[RealOutput], file: Path = OUTPUTS) -> None:
    """Write equal outputs to equal bytes."""
    lines = msgspec.json.Encoder().encode_lines(sorted(outputs, key=lambda output: output.id))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(gzip.compress(lines, compresslevel=9, mtime=0))
