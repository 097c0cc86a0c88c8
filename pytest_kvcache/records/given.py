"""What an engine gives back: outputs and scores, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_kvcache.records.asked import EngineSpec, PromptSet

ScoringPath = Literal["prefill", "decode"]
"""How a given text is scored: in one pass with its prompt, or in steps as if the engine wrote it."""
Manner = Literal["batch", "again", "alone", "continued"]
"""How an engine follows given texts: all in one batch on an empty prefix cache; in that batch once more, the
prefix cache as it was left; each text by itself on an empty one; or each text's beginning in a batch, and
then the rest in another, which finds prompt and beginning in the prefix cache."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an engine's scheduler did during one piece of work; None for what the engine does not tell."""

    cached_tokens: int | None = None
    """Tokens of prompts that were read from the prefix cache."""
    preemptions: int | None = None
    """Times that a sequence lost its place in the kv cache to another, to be computed anew."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            _sum(self.cached_tokens, other.cached_tokens), _sum(self.preemptions, other.preemptions)
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


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

    def followed_by(self, rest: Score) -> Score:
        """Return the score of a text of which this is the beginning, scored with the same ``k``."""
        return Score(
            prompt_id=self.prompt_id,
            token_ids=self.token_ids + rest.token_ids,
            logprobs=self.logprobs + rest.logprobs,
            top_ids=self.top_ids + rest.top_ids,
            top_logprobs=self.top_logprobs + rest.top_logprobs,
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
    """None without a template, also where the tokenizer formats chats in code."""
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
    max_num_seqs: int = 0
    """The most sequences that share a step; with the next one it decides how batches are composed."""
    max_num_batched_tokens: int = 0
    """The most tokens that share a step."""
    enforce_eager: bool | None = None
    """Whether the model runs as written, neither compiled nor captured; None if not known, as the next."""
    chunked_prefill: bool | None = None
    checkpoint_scales: int | None = None
    """Attention layers for which the checkpoint holds k or v scales; None if not known."""
    scales_differ: str | None = None
    """Where the scales of a quantized layer are not the checkpoint's: the first such layer, in one line."""
    fp8_announced_in: str | None = None
    """The checkpoint's file that announces an FP8 cache in ModelOpt's words, with or without scales."""

    @property
    def lacks_scales(self) -> str | None:
        """Say in one line that the checkpoint holds no kv scales; None if it does, or that is not known.

        None as well where `scales_differ` says what is wrong.
        """
        if self.checkpoint_scales != 0 or self.scales_differ is not None:
            return None
        if self.fp8_announced_in is None:
            return "the checkpoint holds no kv scales"
        return (
            f"the checkpoint holds no kv scales, though its {self.fp8_announced_in} announces an FP8 kv "
            "cache: a layer that needs them takes 1.0"
        )

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
    counts: Counts = Counts()

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
    scores: Sequence[Score]
    """Those in a run store are read each time they are asked for, one at a time."""
    seconds: float
    manner: Manner | None = None
    """How the engine followed the texts; None where it only had to score them."""
    counts: Counts = Counts()
    provenance: Provenance | None = None
    """What the engine resolved, where it followed the texts: a twin writes none that would tell."""


@dataclass(frozen=True, slots=True)
class PlannedScores:
    """One engine's scores of the baseline's texts, for all sets of one test that are scored.

    It iterates over scores, and gives those of one set by its name.
    """

    sets: tuple[ScoreSet, ...]

    def __iter__(self) -> Iterator[Score]:
        return (score for scores in self.sets for score in scores.scores)

    def __len__(self) -> int:
        return sum(len(scores.scores) for scores in self.sets)

    def __getitem__(self, name: str) -> ScoreSet:
        """Return the scores for one prompt set. Raises KeyError naming the sets there are."""
        for scores in self.sets:
            if scores.prompt_set.name == name:
                return scores
        raise KeyError(
            f"{name} (scored sets of this test: {', '.join(s.prompt_set.name for s in self.sets)})"
        )


@dataclass(frozen=True, slots=True)
class PlannedConditions:
    """What one engine gives the baseline's texts under each serving condition of one test.

    It is taken by a condition's name; ``batch``, which all others are held against, is always there.
    """

    scores: tuple[tuple[str, PlannedScores], ...]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, name: str) -> PlannedScores:
        """Return the scores under one condition. Raises KeyError naming the conditions there are."""
        for condition, scores in self.scores:
            if condition == name:
                return scores
        raise KeyError(f"{name} (conditions of this test: {', '.join(self)})")


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


@dataclass(frozen=True, slots=True)
class Golden:
    """A stored output set of one model under one kv dtype or variant, and what its engine thought of it."""

    variant: str
    """The kv dtype in canonical form, or the name of a variant."""
    outputs: OutputSet
    """The spec is that of the engine which wrote it, marked as a golden's; what differs between two equal
    runs (seconds, paths, device numbers, capacity) is blank in the provenance."""
    scores: ScoreSet | None
    """By that engine of its own texts; None where log-probabilities were not wanted, or are not scored."""
    floor: ScoreSet | None
    """Some of its texts, one at a time: the noise floor."""

    @property
    def prompt_set(self) -> PromptSet:
        return self.outputs.prompt_set


@dataclass(frozen=True, slots=True)
class PlannedGoldens:
    """The goldens of all prompt sets that one test declared, and one of them by its set's name."""

    goldens: tuple[Golden, ...]
    scores: tuple[ScoreSet | None, ...]
    """For each golden, what the engine under test gives its texts; None where texts are not scored."""

    def __iter__(self) -> Iterator[Golden]:
        return iter(self.goldens)

    def __len__(self) -> int:
        return len(self.goldens)

    def __getitem__(self, name: str) -> Golden:
        """Return the golden of one prompt set. Raises KeyError naming the sets there are."""
        for golden in self.goldens:
            if golden.prompt_set.name == name:
                return golden
        raise KeyError(f"{name} (this test declared: {', '.join(g.prompt_set.name for g in self.goldens)})")
