"""Scores as the benchmark keeps them: short, in text, with what an engine said of each token."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from pytest_kvcache.records import Score

DECIMALS = 3
TINY = 1e-4
"""What is left for all other tokens at least: log-probabilities are rounded."""
LEAST = -30.0


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
        return score_of(self.id, self)


def read_scores(file: Path) -> dict[str, Scored]:
    """Return the scores kept in a file, by id; none if there is no such file."""
    return {scored.id: scored for scored in msgspec.json.Decoder(Scored).decode_lines(whole_lines(file))}


def whole_lines(file: Path) -> bytes:
    """Return a file without the last line if a killed writer left it torn; nothing if there is no file."""
    data = file.read_bytes() if file.exists() else b""
    return data[: data.rfind(b"\n") + 1]


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


class HasScores(Protocol):
    """What keeps scores: the baseline's opinion of one text, as in `Scored`."""

    @property
    def token_ids(self) -> tuple[int, ...]: ...
    @property
    def logprobs(self) -> tuple[float, ...]: ...
    @property
    def top_ids(self) -> tuple[int, ...]: ...
    @property
    def top_logprobs(self) -> tuple[float, ...]: ...
    @property
    def entropies(self) -> tuple[float, ...]: ...


def score_of(name: str, kept: HasScores) -> Score:
    """Return kept scores as an engine's, with k = 2.

    The first of the two is the most probable token. The second, with -1 for its id, stands for all others: as
    probable as makes the entropy, taken from those two as from the top 20, the one that was kept.
    """
    n = len(kept.token_ids)
    first = np.array(kept.top_logprobs, dtype=np.float64)
    others = np.maximum(1.0 - np.exp(first), TINY)
    second = -(np.array(kept.entropies) + np.exp(first) * first) / others
    return Score(
        prompt_id=name,
        token_ids=kept.token_ids,
        logprobs=np.array(kept.logprobs, dtype="<f4").tobytes(),
        top_ids=np.stack([np.array(kept.top_ids), np.full(n, -1)], axis=1).astype("<i4").tobytes(),
        top_logprobs=np.stack([first, second.clip(LEAST, first)], axis=1).astype("<f4").tobytes(),
        k=2,
    )


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), DECIMALS) for value in values)
