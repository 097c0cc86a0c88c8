"""What is concluded: signals, figures, reasons and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Signal:
    """One detector's finding on one output, with its place and its evidence."""

    kind: str
    severity: Literal["fail", "warn"]
    """``fail`` only where this one output suffices as proof."""
    unit: Literal["token", "char"]
    start: int
    end: int
    """Half-open: the finding covers ``[start, end)`` in tokens or characters of the output."""
    evidence: str
    """One short line for a person, e.g. ``"a gentle soul, " 14 times``."""


class VerdictKind(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    KNOWN_BAD = "known-bad"


class ReasonCode(StrEnum):
    """Why a verdict is what it is. A closed list: results files and policies rely on it."""

    # quality: the only codes that a known-bad declaration may name
    DELTA_NLL = "delta-nll"
    KLD = "kld"
    SAME_TOP = "same-top"
    DEGENERATE = "degenerate"
    SUSPICIOUS = "suspicious"
    EMPTY = "empty"
    RUNAWAY = "runaway-length"
    REPETITION = "repetition"
    RECALL = "recall-lost"
    PENALTIES = "penalties-ineffective"
    NONSENSE = "nonsense"
    EARLY_END = "early-end"
    LANGUAGE = "language-drift"
    TOPIC = "topic-drift"
    STOPS = "stops-disobeyed"
    CONDITIONS = "conditions-differ"
    # the run itself
    ENGINE_FAILED = "engine-failed"
    NOT_FINITE = "not-finite"
    BASELINE_FAILED = "baseline-failed"
    BASELINE_QUANTIZED = "baseline-quantized"
    BASELINE_DEGENERATE = "baseline-degenerate"
    SAME_AS_BASELINE = "same-as-baseline"
    MODEL_CHANGED = "model-changed"
    SETTING_LOST = "setting-lost"
    SCALES_LOST = "scales-lost"
    TOO_LITTLE_EVIDENCE = "too-little-evidence"
    NOISE = "noise"
    UNDECIDED = "undecided"
    # declarations
    KNOWN_BAD_REPRODUCED = "known-bad-reproduced"
    KNOWN_BAD_NOT_REPRODUCED = "known-bad-not-reproduced"
    KNOWN_BAD_EXPIRED = "known-bad-expired"


QUALITY_CODES = frozenset(
    {
        ReasonCode.DELTA_NLL,
        ReasonCode.KLD,
        ReasonCode.SAME_TOP,
        ReasonCode.DEGENERATE,
        ReasonCode.SUSPICIOUS,
        ReasonCode.EMPTY,
        ReasonCode.RUNAWAY,
        ReasonCode.REPETITION,
        ReasonCode.RECALL,
        ReasonCode.PENALTIES,
        ReasonCode.NONSENSE,
        ReasonCode.EARLY_END,
        ReasonCode.LANGUAGE,
        ReasonCode.TOPIC,
        ReasonCode.STOPS,
        ReasonCode.CONDITIONS,
    }
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured figure with its 95 % interval and the margin it was held against."""

    value: float
    ci_low: float
    ci_high: float
    n: int
    """Sample size: the number of prompts that were paired."""
    margin: float | None = None
    floor: float | None = None
    alpha: float | None = None
    """How often chance alone would prove a harm of just the margin to be beyond it, at most."""
    beta: float | None = None
    """How often a harm of :attr:`detectable` is not proven to be beyond the margin."""
    detectable: float | None = None
    """The smallest harm that as many prompts find beyond the margin but for ``beta``; None if none is."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over ``n`` prompts with its 95 % interval, which one prompt alone has not."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class PositionFigure:
    """KLD in the tokens ``[start, end)`` of the baseline's texts, over the prompts whose text is as long."""

    start: int
    end: int
    kld: Estimate


@dataclass(frozen=True, slots=True)
class KindFigures:
    """What the prompts of one kind show."""

    kind: str
    delta_nll: Estimate
    kld: Estimate
    same_top: Estimate


@dataclass(frozen=True, slots=True)
class DivergenceDetail:
    """Where a candidate diverges from its baseline: for people to read, nothing is decided by it."""

    # A prompt that several sets hold counts once, by its first text; intervals are over prompts.

    growth: Estimate | None
    """Nats by which KLD grows over 100 tokens of text: above 0, errors pile up in the cache. None where all
    texts are too short to tell."""
    bins: tuple[PositionFigure, ...]
    """Along the text, from its beginning."""
    kinds: tuple[KindFigures, ...]
    """By kind of prompt, the largest KLD first."""


@dataclass(frozen=True, slots=True)
class Reason:
    code: ReasonCode
    metric: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """Outputs planned for a verdict, outputs judged, and outputs left out."""

    planned: int
    ran: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision for one model and candidate, with every figure it rests on."""

    id: str
    model: str
    revision: str | None
    kv_dtype: str
    """As the user wrote it, or the variant's kv dtype."""
    resolved_kv_dtype: str | None
    variant: str | None
    baseline_id: str
    verdict: VerdictKind
    source: Literal["fresh", "cached", "golden"]
    prompt_sets: tuple[str, ...]
    metrics: dict[str, Metric] = field(hash=False)
    reasons: tuple[Reason, ...]
    coverage: Coverage
    golden: str | None = None
    """What wrote the goldens that were the baseline, e.g. ``vllm 0.32.0 on cpu``, and in what it was made
    otherwise than the candidate, besides the kv dtype; None if it ran itself."""
    divergence: DivergenceDetail | None = None
    """None where no texts were scored, or nothing was compared."""

    @property
    def ok(self) -> bool:
        return self.verdict in (VerdictKind.PASS, VerdictKind.KNOWN_BAD)

    @property
    def summary(self) -> str:
        """One line: the verdict and its reasons."""
        why = "; ".join(reason.message for reason in self.reasons)
        return f"{self.id}: {self.verdict}" + (f": {why}" if why else "")


@dataclass(frozen=True, slots=True)
class Ratio:
    """A candidate's figure divided by its baseline's: medians, and the extremes that any two rounds give."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure that was measured in rounds of equal work: their median and their extremes."""

    value: float
    low: float
    high: float
    rounds: int
    ratio: Ratio | None = None
    """None for a baseline, and where the baseline's was not measured."""


@dataclass(frozen=True, slots=True)
class Performance:
    """What one target's engine holds and how fast it is, beside its baseline's. No verdict rests on it."""

    id: str
    baseline_id: str
    kv_capacity_tokens: int | None
    """Tokens that the kv cache has room for; None if the engine does not tell, as the next two."""
    max_model_len: int | None
    """The longest context, in tokens."""
    concurrency: float | None
    """How many requests of that length the cache holds at once."""
    kv_capacity_ratio: float | None
    """Its capacity divided by the baseline's; None for a baseline, and where one of them is not known."""
    measured: dict[str, Measurement] = field(default_factory=dict, hash=False)
    """By figure: ``tokens_per_second``, ``seconds_to_first_token``, ``seconds_to_first_token_long``."""
    not_measured: str | None = None
    """Why not, in one line, where it should have been; None otherwise."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One prompt with what baseline and candidate wrote: evidence for a verdict."""

    verdict_id: str
    prompt_set: str
    prompt_id: str
    prompt_text: str
    baseline_text: str
    candidate_text: str
    signals: tuple[Signal, ...]
    """Findings on the candidate's text; only spans in characters can be shown in place."""
