"""Records: the plain data that every stage of a run hands to the next one.

Frozen dataclasses over the standard library alone. Everything imports this module; it imports
nothing of the package. Arrays are ``bytes`` of little-endian float32 or int32, so that records stay
hashable, travel through sockets and files unchanged, and become numpy arrays without a copy
(``numpy.frombuffer(score.logprobs, "<f4")``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

Json = Any
"""A value that the ``json`` module can write: None, bool, int, float, str, list or dict."""


def content_key(value: Json) -> str:
    """Return 16 hex digits that identify a JSON value by its content (SHA-256, canonical JSON)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# What is asked of an engine


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine: a model served with one kv dtype. Equal specs give equal outputs."""

    model: str
    """A Hugging Face id, a local directory, or ``ref:NAME``, as the user named it."""
    kv_cache_dtype: str
    """Canonical: ``fp8_e4m3``, never its alias ``fp8``."""
    revision: str | None = None
    engine_args: tuple[tuple[str, str], ...] = ()
    """Further ``vllm.LLM`` arguments, sorted by name; each value is JSON text."""

    @property
    def key(self) -> str:
        return content_key(asdict(self))

    def arguments(self) -> dict[str, Json]:
        """Return :attr:`engine_args` as keyword arguments."""
        return {name: json.loads(value) for name, value in self.engine_args}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters under vLLM's names. Greedy unless said otherwise."""

    max_tokens: int = 256
    temperature: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    seed: int = 0

    @property
    def penalised(self) -> bool:
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


Check = Literal["contains", "starts", "json", "tool-call"]
"""How an output is held against a right answer: see :mod:`~pytest_kvcache.measures.recall`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: either ``text`` to be continued, or chat ``messages`` for the model's template."""

    id: str
    kind: str
    """What sort of text it asks for: ``chat``, ``code``, ``list``, ``zh``, ... (free, few, stable)."""
    text: str | None = None
    messages: tuple[Message, ...] = ()
    answer: str | None = None
    """The right answer (JSON text where :attr:`check` reads JSON); None if many texts would do."""
    check: Check = "contains"

    @property
    def content(self) -> str:
        """All that it says, as one text: messages without their roles, a line each."""
        return self.text if self.text is not None else "\n".join(m.content for m in self.messages)


@dataclass(frozen=True, slots=True)
class PromptSet:
    """A named, ordered, fixed list of prompts with sampling parameters: the unit of batching."""

    name: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling = Sampling()

    @property
    def key(self) -> str:
        """Identifies the set by its content; the name does not count."""
        prompts = [asdict(prompt) for prompt in self.prompts]
        for prompt in prompts:
            if prompt["answer"] is None:
                del prompt["answer"], prompt["check"]
        return content_key([prompts, asdict(self.sampling)])

    @property
    def is_tasks(self) -> bool:
        """Whether every prompt has a right answer: then outputs are judged by it, and by nothing else."""
        return bool(self.prompts) and all(prompt.answer is not None for prompt in self.prompts)


@dataclass(frozen=True, slots=True)
class PromptSetUse:
    """A prompt set that took part: its name, the key of its content, and its size."""

    name: str
    key: str
    prompts: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Declared:
    """What the tests of a run declared, summed up for whoever did not collect them."""

    prompt_sets: tuple[PromptSetUse, ...]
    verdicts_planned: int
    """Verdicts that the selected tests are to give."""
    verdicts_left_out: int
    """Tests with a verdict that were deselected although others of their tier run."""


# What an engine gives back

ScoringPath = Literal["prefill", "decode"]
"""How a given text is scored: in one pass with its prompt, or in steps as if the engine wrote it."""


@dataclass(frozen=True, slots=True)
class Output:
    """What one engine generated for one prompt."""

    prompt_id: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str | None
    """vLLM's: ``"stop"``, ``"length"``, ``"abort"``, or None."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A text to score: the log-probability of ``token_ids`` after ``prompt_token_ids``."""

    prompt_id: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """One engine's log-probabilities, in nats, of a given text of ``n`` tokens."""

    prompt_id: str
    token_ids: tuple[int, ...]
    logprobs: bytes
    """float32[n]: of the given tokens."""
    top_ids: bytes
    """int32[n, k]: the k most probable tokens at each position, most probable first."""
    top_logprobs: bytes
    """float32[n, k]."""
    k: int

    def first(self, n: int) -> Score:
        """Return the score of the text's first ``n`` tokens."""
        return Score(
            prompt_id=self.prompt_id,
            token_ids=self.token_ids[:n],
            logprobs=self.logprobs[: 4 * n],
            top_ids=self.top_ids[: 4 * n * self.k],
            top_logprobs=self.top_logprobs[: 4 * n * self.k],
            k=self.k,
        )


@dataclass(frozen=True, slots=True)
class Provenance:
    """What really ran: everything here is what vLLM resolved, not what was asked for."""

    model: str
    model_path: str
    model_id: str
    """``commit:HASH`` for a hub model, ``sha256:HASH`` of all files for a local directory."""
    kv_cache_dtype: str
    """The resolved dtype in canonical form: ``bfloat16``, ``fp8_e4m3``, ..."""
    kv_cache_quantized: bool
    kv_scales: str
    """``"none"`` (cache not quantized), ``"unit"`` (all 1.0) or ``"calibrated"``."""
    model_dtype: str
    quantization: str | None
    chat_template_sha256: str | None
    attention_backend: str
    block_size: int
    kv_capacity_tokens: int
    prefix_caching: bool
    max_model_len: int
    device: str
    """The processor's name, e.g. ``AMD EPYC 9554`` or ``NVIDIA L40S``."""
    device_ids: tuple[int, ...]
    """Cores (CPU) or GPU indices that the engine was pinned to."""
    threads: int
    platform: str
    """``cpu``, ``cuda``, ``rocm``, ..."""
    cpu_flags: tuple[str, ...]
    """The vector extensions that decide which CPU kernels run."""
    versions: tuple[tuple[str, str], ...]
    """``vllm``, ``torch``, ``transformers``, ``python``, ``pytest_kvcache``."""
    environment: tuple[tuple[str, str], ...]
    """The ``VLLM_*`` variables that were set, secrets left out."""
    seconds_to_load: float
    scoring: ScoringPath = "prefill"
    """How this engine scores texts."""
    scoring_difference: float | None = None
    """Mean absolute difference between both ways, in nats per token of a few probe texts; None where the
    engine cannot follow a given text, so that nothing proves that prefill reads the cache."""

    @property
    def can_follow(self) -> bool:
        """Whether this engine can score by decoding."""
        return self.scoring_difference is not None


@dataclass(frozen=True, slots=True)
class OutputSet:
    """All outputs of one engine for one prompt set, in the set's order."""

    spec: EngineSpec
    prompt_set: PromptSet
    provenance: Provenance
    outputs: tuple[Output, ...]
    seconds: float

    def __iter__(self) -> Iterator[Output]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


@dataclass(frozen=True, slots=True)
class PlannedOutputs:
    """All outputs that one test declared: iterates over outputs, and gives one set by its name."""

    sets: tuple[OutputSet, ...]

    def __iter__(self) -> Iterator[Output]:
        return (output for outputs in self.sets for output in outputs)

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def __getitem__(self, name: str) -> OutputSet:
        """Return the outputs for one prompt set. Raises KeyError naming the sets there are."""
        for outputs in self.sets:
            if outputs.prompt_set.name == name:
                return outputs
        raise KeyError(f"{name} (this test declared: {', '.join(s.prompt_set.name for s in self.sets)})")


@dataclass(frozen=True, slots=True)
class ScoreSet:
    """All scores by one engine of the texts that another engine (or itself) wrote for a set."""

    spec: EngineSpec
    prompt_set: PromptSet
    text_of: str
    """:attr:`EngineSpec.key` of the engine that wrote the scored texts."""
    scores: tuple[Score, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What one life of one engine was, and what it cost."""

    label: str
    spec: EngineSpec
    provenance: Provenance | None
    """None if it never came up."""
    failure: str | None
    """Why it broke, in one line; None if it did not."""
    seconds_to_start: float
    seconds_to_generate: float
    seconds_to_score: float
    tokens_generated: int
    tokens_scored: int
    peak_rss_bytes: int
    """Of the engine process itself; 0 if unknown."""
    log: str


# What is concluded


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
    # the run itself
    ENGINE_FAILED = "engine-failed"
    NOT_FINITE = "not-finite"
    BASELINE_FAILED = "baseline-failed"
    BASELINE_QUANTIZED = "baseline-quantized"
    BASELINE_DEGENERATE = "baseline-degenerate"
    SAME_AS_BASELINE = "same-as-baseline"
    MODEL_CHANGED = "model-changed"
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
    """The smallest harm that as many prompts, spread like these, find beyond the margin but for ``beta``."""


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

    @property
    def ok(self) -> bool:
        return self.verdict in (VerdictKind.PASS, VerdictKind.KNOWN_BAD)

    @property
    def summary(self) -> str:
        """One line: the verdict and its reasons."""
        why = "; ".join(reason.message for reason in self.reasons)
        return f"{self.id}: {self.verdict}" + (f": {why}" if why else "")


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
