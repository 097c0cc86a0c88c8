"""Evidence as two engines would give it, healthy unless damaged: for the tests of verdicts and assertions."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from pytest_kvcache.evidence import Evidence
from pytest_kvcache.policy import KnownBad, Limits
from pytest_kvcache.records import (
    EngineSpec,
    Output,
    OutputSet,
    Prompt,
    PromptSet,
    Provenance,
    ReasonCode,
    Sampling,
    Score,
    ScoreSet,
    Verdict,
    VerdictKind,
)
from pytest_kvcache.verdicts import Identity, decide

PASS, FAIL, INCONCLUSIVE, KNOWN_BAD = VerdictKind
TODAY = date(2026, 6, 1)
KINDS = ("chat", "code", "list", "zh")
PENALISED = Sampling(repetition_penalty=1.1)
IDENTITY = Identity("gqa-fp8", "ref:gqa", None, "fp8", None, "gqa-auto")
PROVENANCE = Provenance(
    model="ref:gqa",
    model_path="/models/gqa",
    model_id="sha256:aa",
    kv_cache_dtype="bfloat16",
    kv_cache_quantized=False,
    kv_scales="none",
    model_dtype="bfloat16",
    quantization=None,
    chat_template_sha256=None,
    attention_backend="CPU_ATTN",
    block_size=128,
    kv_capacity_tokens=62080,
    prefix_caching=True,
    max_model_len=2048,
    device="a processor",
    device_ids=(0,),
    threads=1,
    platform="cpu",
    cpu_flags=(),
    versions=(),
    environment=(),
    seconds_to_load=1.0,
    scoring_difference=0.001,
)
QUANTIZED = replace(PROVENANCE, kv_cache_dtype="fp8_e4m3", kv_cache_quantized=True, kv_scales="unit")

WORDS = [f"{a}{b}" for a in "bcdfghklmnprstvw" for b in ("a", "e", "in", "ol", "un", "ird", "or", "est")]
COMMON = ("the", "of", "and", "to", "is", "that", "it", "with")

_IDS = {f"{blank}{word}": k for k, word in enumerate([*COMMON, *WORDS]) for blank in ("", " ")}


def prose(seed: int, words: int = 120) -> str:
    """Return words of no language but with those among them that no text can do without."""
    rng = random.Random(seed)
    return " ".join(rng.choice(COMMON if rng.random() < 0.3 else WORDS) for _ in range(words))


def loop(i: int) -> str:
    return prose(i, 10) + " a gentle soul," * 60


def of_every(n: int, damaged: Callable[[int], str]) -> Callable[[int], str]:
    """Damage every n-th text."""
    return lambda i: damaged(i) if i % n == 0 else prose(i)


def ids_of(text: str) -> tuple[int, ...]:
    """Tokenise by words with the blanks before them: enough for whatever counts or compares tokens."""
    pieces = re.findall(r"\s*\S+|\s+", text)
    return tuple(_IDS.get(piece, 1000 + sum(map(ord, piece))) for piece in pieces)


def output(prompt_id: str, text: str, finish_reason: str = "length") -> Output:
    return Output(prompt_id, (1, 2, 3), ids_of(text), text, finish_reason)


def prompt_set(n: int = 32, kinds: Sequence[str] = KINDS, sampling: Sampling | None = None) -> PromptSet:
    prompts = tuple(
        Prompt(f"p{i:02}", kinds[i % len(kinds)], text=f"Write about number {i}.") for i in range(n)
    )
    return PromptSet("penalised" if sampling else "small", prompts, sampling or Sampling())


def output_set(
    prompts: PromptSet, provenance: Provenance, text: Callable[[int], str] = prose, dtype: str = "auto"
) -> OutputSet:
    outputs = tuple(output(prompt.id, text(i)) for i, prompt in enumerate(prompts.prompts))
    return OutputSet(EngineSpec("ref:gqa", dtype), prompts, provenance, outputs, 1.0)


def score(of: Output, logprobs: Sequence[float] | float = -1.0, top: Sequence[int] | None = None) -> Score:
    n = len(of.token_ids)
    values = np.full(n, logprobs, "<f4") if isinstance(logprobs, float) else np.asarray(logprobs, "<f4")
    ids = np.asarray(of.token_ids if top is None else top, "<i4")
    return Score(of.prompt_id, of.token_ids, values.tobytes(), ids.tobytes(), values.tobytes(), 1)


def scores(
    texts: OutputSet,
    delta: Callable[[int], float] = lambda _: 0.0,
    loss: Callable[[int], float] = lambda _: 0.0,
) -> ScoreSet:
    """Score texts: each ``delta`` nats per token below -1, its top token another at a share of ``loss``."""
    made = []
    for i, of in enumerate(texts.outputs):
        top = [
            token + 1 if k < loss(i) * len(of.token_ids) else token for k, token in enumerate(of.token_ids)
        ]
        made.append(score(of, -1.0 - delta(i), top))
    return ScoreSet(texts.spec, texts.prompt_set, texts.spec.key, tuple(made), 1.0)


def alone(of: ScoreSet) -> ScoreSet:
    """Score the beginnings of 8 texts once more, each by itself, without any noise."""
    return replace(of, scores=tuple(score.first(32) for score in of.scores[:8]))


def evidence(
    prompts: PromptSet | None = None,
    *,
    text: Callable[[int], str] = prose,
    baseline_text: Callable[[int], str] = prose,
    delta: Callable[[int], float] = lambda i: 0.05 + 0.01 * (i % 3),
    loss: Callable[[int], float] = lambda i: 0.05 + 0.02 * (i % 3),
) -> Evidence:
    """Return what a healthy fp8 candidate and its baseline give, but for what is damaged by an argument."""
    prompts = prompts or prompt_set()
    baseline = output_set(prompts, PROVENANCE, baseline_text)
    candidate = output_set(prompts, QUANTIZED, text, "fp8_e4m3")
    if prompts.sampling.penalised:
        return Evidence(prompts, baseline, candidate)
    theirs = scores(baseline)
    return Evidence(prompts, baseline, candidate, theirs, scores(baseline, delta, loss), alone(theirs))


def verdict_on(*of: Evidence, known_bad: KnownBad | None = None, **limits: Any) -> Verdict:
    return decide(IDENTITY, of, limits=Limits(**limits), known_bad=known_bad, today=TODAY)


def declared(*names: ReasonCode, expires: date | None = date(2027, 1, 1)) -> KnownBad:
    return KnownBad(model="ref:gqa", dtype="fp8", codes=names, why="#840", expires=expires, link="https://x")


def codes(verdict: Verdict) -> set[ReasonCode]:
    return {reason.code for reason in verdict.reasons}
