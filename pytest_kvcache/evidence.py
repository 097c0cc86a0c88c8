"""Evidence: what two engines made of the same prompts, and what is wrong with it, prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from pytest_kvcache.measures.degeneration import Findings, find_in_pair, is_empty
from pytest_kvcache.measures.divergence import ScoreComparison, compare_scores
from pytest_kvcache.measures.figures import TextFigures, figures_of
from pytest_kvcache.measures.lengths import ran_away
from pytest_kvcache.measures.penalties import pair_outputs
from pytest_kvcache.measures.recall import is_right
from pytest_kvcache.records import Output, OutputSet, Prompt, PromptSet, Score, ScoreSet


@dataclass(frozen=True)
class Evidence:
    """What baseline and candidate made of one prompt set. Scores are of the baseline's texts, by both."""

    prompt_set: PromptSet
    baseline: OutputSet
    candidate: OutputSet
    baseline_scores: ScoreSet | None = None
    candidate_scores: ScoreSet | None = None
    floor_scores: ScoreSet | None = None
    """The baseline's own, of the beginnings of some of its texts, each scored alone."""

    @property
    def penalised(self) -> bool:
        return self.prompt_set.sampling.penalised

    @cached_property
    def compared(self) -> Compared:
        """What is left of all scores when each has been read, once. Raises ValueError as `scored` does."""
        texts = tuple((prompt, figures_of(ours, theirs)) for prompt, ours, theirs in self.scored())
        return Compared(texts, tuple(_alone_beside_batch(self)))

    def pairs(self) -> Iterator[tuple[Prompt, Output, Output]]:
        """Yield each prompt with the candidate's and the baseline's output.

        Raises ValueError if they are not of the same prompts.
        """
        prompts = {prompt.id: prompt for prompt in self.prompt_set.prompts}
        for ours, theirs in pair_outputs(self.candidate, self.baseline):
            yield prompts[ours.prompt_id], ours, theirs

    def scored(self) -> Iterator[tuple[Prompt, Score, Score]]:
        """Yield the prompt of each text of the baseline's, with the candidate's and the baseline's score.

        Left out are texts of no tokens, for which there is nothing to score, and those without scores. Raises
        ValueError if the two sides did not score the texts of the same prompts.
        """
        if self.candidate_scores is None or self.baseline_scores is None:
            return
        ours, theirs = _InOrder(self.candidate_scores), _InOrder(self.baseline_scores)
        prompts = {prompt.id: prompt for prompt in self.prompt_set.prompts}
        alone = []
        for text in filter(lambda text: text.token_ids, self.baseline):
            mine, score = ours.take(text.prompt_id), theirs.take(text.prompt_id)
            if mine is not None and score is not None and score.token_ids == text.token_ids:
                yield prompts[text.prompt_id], mine, score
            elif (mine is None) != (score is None):
                alone.append(text.prompt_id)
        alone += ours.left() ^ theirs.left()
        if alone:
            raise ValueError(f"only one side scored the texts of {len(alone)} prompts (e.g. {min(alone)})")


@dataclass(frozen=True, slots=True)
class Compared:
    """The figures of all texts that were scored."""

    texts: tuple[tuple[Prompt, TextFigures], ...]
    """Of the texts that both sides scored."""
    alone: tuple[ScoreComparison, ...]
    """Of the beginnings that the baseline scored alone as well, beside what it gave them in a batch."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with the two outputs for one prompt; each pair is (candidate's, baseline's)."""

    penalised: bool
    degenerate: tuple[bool, bool]
    """By proof in the output itself; empty ones are counted by themselves."""
    empty: tuple[bool, bool]
    ran_away: tuple[bool, bool]
    suspicious: tuple[bool, bool]
    """By any signal beside the prompt and the other output, also one that is no proof."""


def find_faults(evidence: Sequence[Evidence]) -> list[Faults]:
    """Look for faults in all outputs but those of tasks, in the order of the evidence."""
    return [
        _faults(each, prompt, ours, theirs)
        for each in evidence
        if not each.prompt_set.is_tasks
        for prompt, ours, theirs in each.pairs()
    ]


def wrong_answers(evidence: Sequence[Evidence]) -> list[tuple[bool, bool]]:
    """Return for each task whether the candidate's and the baseline's answer are wrong."""
    return [
        (not is_right(ours.text, prompt), not is_right(theirs.text, prompt))
        for each in evidence
        if each.prompt_set.is_tasks
        for prompt, ours, theirs in each.pairs()
    ]


class _InOrder:
    """One side's scores by prompt. What is asked for in the order in which they are kept is never held."""

    def __init__(self, scores: ScoreSet) -> None:
        self._coming = (score for score in scores.scores if score.token_ids)
        self._passed: dict[str, Score] = {}

    def take(self, prompt_id: str) -> Score | None:
        """Return the score of a prompt's text, once; None if there is none."""
        if prompt_id in self._passed:
            return self._passed.pop(prompt_id)
        for score in self._coming:
            if score.prompt_id == prompt_id:
                return score
            self._passed[score.prompt_id] = score
        return None

    def left(self) -> set[str]:
        """Return the prompts that nobody has asked for."""
        return {*self._passed, *(score.prompt_id for score in self._coming)}


def _alone_beside_batch(evidence: Evidence) -> Iterator[ScoreComparison]:
    """Yield what the floor's texts give beside the batch's; scores of other texts do not count."""
    if evidence.floor_scores is None or evidence.baseline_scores is None:
        return
    waiting = {score.prompt_id: score for score in evidence.floor_scores.scores if score.token_ids}
    for batch in evidence.baseline_scores.scores:
        if not waiting:
            break
        alone = waiting.pop(batch.prompt_id, None)
        if alone is not None and batch.token_ids[: len(alone.token_ids)] == alone.token_ids:
            yield compare_scores(alone, batch.first(len(alone.token_ids)))


def _faults(of: Evidence, prompt: Prompt, ours: Output, theirs: Output) -> Faults:
    candidates, baselines = find_in_pair(ours, theirs, prompt=prompt)
    return Faults(
        of.penalised,
        degenerate=(_is_degenerate(candidates), _is_degenerate(baselines)),
        empty=(is_empty(ours), is_empty(theirs)),
        ran_away=(ran_away(ours, beside=theirs), ran_away(theirs, beside=ours)),
        suspicious=(bool(candidates.beside), bool(baselines.beside)),
    )


def _is_degenerate(findings: Findings) -> bool:
    """Whether one signal suffices; empty outputs are counted by themselves."""
    return any(signal.severity == "fail" and signal.kind != "empty" for signal in findings.alone)
