"""What an engine makes of its model's baseline texts: NLL and disagreement over all tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evidence.bootstrap import Floats
from pytest_kvcache.records import PromptSet, Score, ScoreSet


@dataclass(frozen=True)
class PromptFigures:
    """What one engine made of each prompt's baseline text; one entry per prompt."""

    tokens: Floats
    nll: Floats
    """Summed over the text's tokens, in nats."""
    disagreements: Floats
    """Tokens of the text that are not the engine's most probable ones."""

    def columns(self) -> Floats:
        """Return ``float[prompts, 3]``: tokens, nll, disagreements."""
        return np.stack([self.tokens, self.nll, self.disagreements], axis=1)


def prompt_figures(scores: ScoreSet, prompt_set: PromptSet) -> PromptFigures:
    """Sum up scores in the prompts' order; an empty text has nothing to score and counts as nothing."""
    by_prompt = {score.prompt_id: score for score in scores.scores}
    sums = [_sums(by_prompt.get(prompt.id)) for prompt in prompt_set.prompts]
    return PromptFigures(*np.array(sums, dtype=np.float64).T)


def nll(sums: Floats) -> Floats:
    """Return nats per token from sums of the columns of :class:`PromptFigures`, along the last axis."""
    return np.asarray(sums[..., 1] / sums[..., 0])


def disagreement(sums: Floats) -> Floats:
    """Return the share of tokens that the engine finds less probable than another one."""
    return np.asarray(sums[..., 2] / sums[..., 0])


def _sums(score: Score | None) -> tuple[float, float, float]:
    if score is None:
        return 0, 0, 0
    n = len(score.token_ids)
    given = -float(np.frombuffer(score.logprobs, "<f4").sum(dtype=np.float64))
    top = np.frombuffer(score.top_ids, "<i4").reshape(n, score.k)[:, 0]
    return n, given, int((top != np.array(score.token_ids)).sum())
