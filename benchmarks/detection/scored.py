"""Scores as the benchmark keeps them: short, in text, with what an engine said of each token."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from pytest_kvcache.records import Score

DECIMALS = 3


class Scored(msgspec.Struct, frozen=True):
    """The baseline's opinion of one text, per token, in nats rounded to three decimals."""

    id: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of the given tokens."""
    top_ids: tuple[int, ...]
    """The most probable token at each position."""
    top_logprobs: tuple[float, ...]
    ranks: tuple[int, ...]
    """1 for the most probable token; 21 stands for all beyond 20."""
    entropies: tuple[float, ...]
    """Of the next token's distribution, from below: the 20 most probable tokens exactly, all others as
    if each were as probable as the 20th."""

    def score(self) -> Score:
        """Return it as a score that holds the most probable token alone."""
        return top_1_score(self.id, self.token_ids, self.logprobs, self.top_ids, self.top_logprobs)


def read_scores(file: Path) -> dict[str, Scored]:
    """Return the scores kept in a file, by id; none if there is no such file."""
    if not file.exists():
        return {}
    return {scored.id: scored for scored in msgspec.json.Decoder(Scored).decode_lines(file.read_bytes())}


def condensed(score: Score) -> Scored:
    """Reduce an engine's score to what the benchmark keeps."""
    n = len(score.token_ids)
    top_ids = np.frombuffer(score.top_ids, "<i4").reshape(n, score.k)
    top = np.frombuffer(score.top_logprobs, "<f4").reshape(n, score.k).astype(np.float64)
    given = np.array(score.token_ids)[:, None] == top_ids
    ranks = np.where(given.any(axis=1), given.argmax(axis=1) + 1, score.k + 1)
    chances = np.exp(top)
    rest = np.maximum(0.0, 1.0 - chances.sum(axis=1))
    entropies = -(chances * top).sum(axis=1) - rest * top[:, -1]
    return Scored(
        id=score.prompt_id,
        token_ids=score.token_ids,
        logprobs=_rounded(np.frombuffer(score.logprobs, "<f4")),
        top_ids=tuple(top_ids[:, 0].tolist()),
        top_logprobs=_rounded(top[:, 0]),
        ranks=tuple(ranks.tolist()),
        entropies=_rounded(entropies),
    )


def top_1_score(
    name: str,
    token_ids: Sequence[int],
    logprobs: Sequence[float],
    top_ids: Sequence[int],
    top_logprobs: Sequence[float],
) -> Score:
    """Return a score that holds, at each of ``n`` positions, the most probable token alone (k = 1)."""
    n = len(token_ids)
    return Score(
        prompt_id=name,
        token_ids=tuple(token_ids),
        logprobs=struct.pack(f"<{n}f", *logprobs),
        top_ids=struct.pack(f"<{n}i", *top_ids),
        top_logprobs=struct.pack(f"<{n}f", *top_logprobs),
        k=1,
    )


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), DECIMALS) for value in values)
