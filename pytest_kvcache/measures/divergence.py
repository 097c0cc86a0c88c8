"""Divergence: what two engines think of one and the same text.

The text is the baseline's own output, so its prompt and its tokens are what the model is trusted to
say. Nonsense that never loops shows here: an engine that writes it finds sensible text improbable.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.measures.kld import Known, bound_kld
from pytest_kvcache.measures.llamacpp import Estimate, statistics
from pytest_kvcache.measures.paired import Interval
from pytest_kvcache.measures.positions import (
    EDGES,
    PositionBin,
    bins,
    growth,
    means_along,
    over_prompts,
    slope_of,
)
from pytest_kvcache.measures.views import kind_of, token_ids
from pytest_kvcache.records import Output, PlannedScores, Score, ScoreSet

Floats = NDArray[np.float64]
Scores = ScoreSet | PlannedScores | Score | Iterable[Score]

HIGHEST = 1e-3
"""A log-probability may lie above 0 by rounding; what lies above this is none, and counts as not finite."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreComparison:
    """Two engines' scores of one text, token by token: arrays of the m positions finite on both sides.

    Not finite is a position where any log-probability is NaN, infinite, or above 0 by more than rounding.
    The means are over those positions; they are NaN if there are none, as in a text of no tokens.
    """

    prompt_id: str
    tokens: int
    """Length of the text; positions that are not finite are counted here as well."""
    positions: NDArray[np.int64]
    """int64[m], from 0."""
    nll: Floats
    """float64[m]: the candidate's negative log-probabilities of the given tokens, in nats."""
    nll_base: Floats
    klds: Floats
    """float64[m]: a lower bound of KLD, in nats."""
    unseen: Floats
    """float64[m]: the baseline's probability of what the bound can only take for one bucket."""
    same: NDArray[np.bool_]
    """bool[m]: whether both hold the same token for the most probable one."""
    candidate_non_finite: int
    """Positions that are not finite on the candidate's side."""
    baseline_non_finite: int

    @property
    def delta_nll(self) -> float:
        """Nats per token by which the candidate finds the text less probable than the baseline does."""
        return _mean(self.nll - self.nll_base)

    @property
    def kld(self) -> float:
        return _mean(self.klds)

    @property
    def same_top(self) -> float:
        return _mean(self.same)

    @property
    def is_finite(self) -> bool:
        """Whether any position was left to take the means of."""
        return self.positions.size > 0


@dataclass(frozen=True, slots=True, eq=False)
class Divergence:
    """How far a candidate's distributions are from the baseline's on the same texts.

    Intervals are 95 % over prompts, each of which counts once; with one prompt their ends are NaN.
    """

    texts: tuple[ScoreComparison, ...]
    """The texts that have any finite position."""
    kinds: dict[str, str]
    """The kind of each prompt, by its id, where it is known."""
    candidate_non_finite: int
    """Positions in all texts with a log-probability that is NaN, infinite, or above 0."""
    baseline_non_finite: int

    @property
    def delta_nll(self) -> Interval:
        return over_prompts([text.delta_nll for text in self.texts])

    @property
    def kld(self) -> Interval:
        """Mean KLD in nats: a lower bound, as far as the top k tells (:mod:`~.kld`)."""
        return over_prompts([text.kld for text in self.texts])

    @property
    def same_top(self) -> Interval:
        return over_prompts([text.same_top for text in self.texts])

    @property
    def unseen(self) -> float:
        """The baseline's mean probability of what KLD can only take for one bucket: 0 is exact."""
        return _mean(self._all(lambda text: text.unseen))

    @property
    def statistics(self) -> dict[str, Estimate]:
        """llama.cpp's statistics under its names, over tokens; empty for fewer than two tokens."""
        nll, base, kld, same = (
            self._all(of)
            for of in (lambda t: t.nll, lambda t: t.nll_base, lambda t: t.klds, lambda t: t.same)
        )
        return statistics(nll, base, kld, same.astype(bool)) if nll.size > 1 else {}

    @property
    def growth(self) -> Interval:
        """Nats by which KLD grows over 100 tokens of output: above 0, errors accumulate while decoding.

        The common slope of KLD on position within texts (least squares, one intercept for each text), its
        interval from the texts' influence on it. NaN if no text has 8 tokens.
        """
        return growth(slope_of(text.positions, text.klds) for text in self.texts)

    def by_position(self, edges: Sequence[int] = EDGES) -> tuple[PositionBin, ...]:
        """Return KLD in bins of the output's positions; the last one has no end but the longest text's.

        ``edges`` are where the bins begin, in tokens. Raises ValueError unless they are one or more whole
        numbers, ascending from 0 or more.
        """
        edges = _ascending(edges)
        longest = max((text.tokens for text in self.texts), default=0)
        return bins([means_along(text.positions, text.klds, edges) for text in self.texts], longest, edges)

    def by_kind(self) -> dict[str, Divergence]:
        """Return the divergence on the prompts of each kind; empty where no kinds are known."""
        groups: dict[str, list[ScoreComparison]] = defaultdict(list)
        for text in self.texts:
            if text.prompt_id in self.kinds:
                groups[self.kinds[text.prompt_id]].append(text)
        return {kind: sum_up(texts, self.kinds) for kind, texts in groups.items()}

    def __str__(self) -> str:
        lines = [f"{name:<32}{estimate}" for name, estimate in self.statistics.items()]
        return "\n".join(lines)

    def _all(self, of: Callable[[ScoreComparison], NDArray[np.float64] | NDArray[np.bool_]]) -> Floats:
        return np.concatenate([np.empty(0), *map(of, self.texts)])


def divergence(candidate: Scores, baseline: Scores) -> Divergence:
    """Compare two engines' scores of the same texts: a ``ScoreSet``, a ``Score``, or several scores each.

    Of planned scores the prompts of several sets are named ``SET/PROMPT``.
    Raises ValueError for what is no score, if they are not of the same texts, or if two are of one prompt.
    """
    ours, theirs = _by_prompt(candidate, "candidate"), _by_prompt(baseline, "baseline")
    if ours.keys() != theirs.keys():
        alone = sorted(ours.keys() ^ theirs.keys())
        raise ValueError(f"candidate and baseline scored texts of different prompts: {', '.join(alone[:5])}")
    compared = [compare_scores(score, theirs[prompt_id]) for prompt_id, score in ours.items()]
    kinds = {
        f"{prefix}{prompt.id}": prompt.kind
        for side in (candidate, baseline)
        for prefix, scores in _sets(side)
        for prompt in scores.prompt_set.prompts
    }
    return sum_up(compared, kinds)


def compare_scores(candidate: Score, baseline: Score) -> ScoreComparison:
    """Compare two scores of the same text. Raises ValueError if they are of different texts."""
    if candidate.prompt_id != baseline.prompt_id or candidate.token_ids != baseline.token_ids:
        raise ValueError(
            f"scores of different texts: {candidate.prompt_id!r} ({len(candidate.token_ids)} tokens) and "
            f"{baseline.prompt_id!r} ({len(baseline.token_ids)} tokens)"
        )
    return compare_positions(candidate, baseline)


def compare_positions(candidate: Score, baseline: Score) -> ScoreComparison:
    """Compare two scores of as many tokens, of which the caller vouches that all but the last are the same.

    Where the last ones differ, both sides' NLL there is of another token.
    """
    ours, theirs = _read(candidate), _read(baseline)
    ours_finite, theirs_finite = ours.finite, theirs.finite
    finite = ours_finite & theirs_finite
    ours_there, theirs_there = (ours, theirs) if finite.all() else (ours.at(finite), theirs.at(finite))
    cap = ours_there.top_logprobs.min(axis=1)
    bound = bound_kld(theirs_there.known(), ours_there.known(), cap)
    return ScoreComparison(
        prompt_id=candidate.prompt_id,
        tokens=finite.size,
        positions=np.flatnonzero(finite),
        nll=-ours_there.logprobs,
        nll_base=-theirs_there.logprobs,
        klds=bound.kld,
        unseen=bound.unseen,
        same=ours_there.top_ids[:, 0] == theirs_there.top_ids[:, 0],
        candidate_non_finite=int(np.count_nonzero(~ours_finite)),
        baseline_non_finite=int(np.count_nonzero(~theirs_finite)),
    )


def count_non_finite(scores: Scores) -> dict[str, int]:
    """Return by prompt the number of positions where a log-probability is none: see `ScoreComparison`.

    Raises ValueError for what are no scores, and for two of the same prompt.
    """
    return {
        name: int(np.count_nonzero(~_read(score).finite))
        for name, score in _by_prompt(scores, "scores").items()
    }


def sum_up(compared: Sequence[ScoreComparison], kinds: dict[str, str]) -> Divergence:
    """Return the divergence of compared texts, each of another prompt; ``kinds`` are the prompts', by id."""
    return Divergence(
        tuple(text for text in compared if text.is_finite),
        kinds,
        sum(text.candidate_non_finite for text in compared),
        sum(text.baseline_non_finite for text in compared),
    )


def first_divergence(candidate: Output | Sequence[int], baseline: Output | Sequence[int]) -> int | None:
    """Return the first position at which two free-running outputs differ; None if they are equal.

    An output that ends where the other one goes on differs at its end. Raises ValueError for what is neither
    an output nor token ids, such as a text.
    """
    ours, theirs = _ids(candidate, "candidate"), _ids(baseline, "baseline")
    if ours == theirs:
        return None
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(ours), len(theirs)))


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A score as arrays of n tokens."""

    token_ids: NDArray[np.int64]
    logprobs: Floats
    top_ids: NDArray[np.int32]
    top_logprobs: Floats

    @property
    def finite(self) -> NDArray[np.bool_]:
        finite: NDArray[np.bool_] = _finite(self.logprobs) & _finite(self.top_logprobs).all(axis=1)
        return finite

    def at(self, positions: NDArray[np.bool_]) -> _Read:
        return _Read(
            self.token_ids[positions],
            self.logprobs[positions],
            self.top_ids[positions],
            self.top_logprobs[positions],
        )

    def known(self) -> Known:
        return Known.of(self.top_ids, self.top_logprobs, self.token_ids, self.logprobs)


def _finite(logprobs: Floats) -> NDArray[np.bool_]:
    return np.isfinite(logprobs) & (logprobs <= HIGHEST)


def _read(score: Score) -> _Read:
    """Read a score's arrays, checked against the number of its tokens."""
    n, k = len(score.token_ids), score.k
    of = f"for {n} tokens of {score.prompt_id!r}"
    logprobs = np.frombuffer(score.logprobs, "<f4").astype(np.float64)
    if logprobs.size != n:
        raise ValueError(f"{logprobs.size} log-probabilities {of}")
    top_ids, top_logprobs = np.frombuffer(score.top_ids, "<i4"), np.frombuffer(score.top_logprobs, "<f4")
    for what, array in (("ids", top_ids), ("log-probabilities", top_logprobs)):
        if k < 1 or array.size != n * k:
            raise ValueError(f"{array.size} top {what} {of}, k={k}")
    return _Read(
        np.array(score.token_ids, dtype=np.int64),
        logprobs,
        top_ids.reshape(n, k),
        top_logprobs.reshape(n, k).astype(np.float64),
    )


def _by_prompt(scores: Scores, name: str) -> dict[str, Score]:
    found: dict[str, Score] = {}
    for score in _listed(scores, name):
        if score.prompt_id in found:
            raise ValueError(f"{name} has two scores for the prompt {score.prompt_id!r}")
        found[score.prompt_id] = score
    return found


def _listed(scores: object, name: str) -> Sequence[Score]:
    """Return one or many scores as a sequence of them. Raises ValueError for anything else."""
    if isinstance(scores, ScoreSet | PlannedScores):
        return [
            replace(score, prompt_id=f"{prefix}{score.prompt_id}")
            for prefix, of_set in _sets(scores)
            for score in of_set.scores
        ]
    if isinstance(scores, Score):
        return (scores,)
    given = list(scores) if isinstance(scores, Iterable) else scores
    if isinstance(given, list) and all(isinstance(each, Score) for each in given):
        return given
    raise ValueError(
        f"{name} takes a ScoreSet, planned scores, a Score, or a list of scores, not {kind_of(given)}"
    )


def _sets(scores: object) -> Iterator[tuple[str, ScoreSet]]:
    """Yield sets of scores with what their prompts' names begin with, to be different; nothing for others."""
    if isinstance(scores, ScoreSet):
        yield "", scores
    elif isinstance(scores, PlannedScores):
        several = len(scores.sets) > 1
        yield from ((f"{each.prompt_set.name}/" * several, each) for each in scores.sets)


def _ids(output: Output | Sequence[int], name: str) -> tuple[int, ...]:
    if isinstance(output, Output):
        return output.token_ids
    return token_ids(output, f"{name} takes an Output or token ids")


def _ascending(edges: Sequence[int]) -> tuple[int, ...]:
    takes = "edges takes whole numbers, one or more, ascending from 0 or more"
    starts = token_ids(edges, takes)
    if not starts or starts[0] < 0 or any(b <= a for a, b in pairwise(starts)):
        raise ValueError(f"{takes}, not {edges!r}")
    return starts


def _mean(values: Floats | NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else math.nan
