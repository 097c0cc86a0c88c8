"""Shortened evidence: what a gate would have seen if it had asked for fewer tokens."""

from __future__ import annotations

from dataclasses import replace

from pytest_kvcache.evidence import Evidence
from pytest_kvcache.records import Output, OutputSet, ScoreSet


def shortened(evidence: Evidence, tokens: int) -> Evidence:
    """Cut all texts and scores; a text's characters are cut in proportion to its tokens."""
    return replace(
        evidence,
        baseline=_outputs(evidence.baseline, tokens),
        candidate=_outputs(evidence.candidate, tokens),
        baseline_scores=_scores(evidence.baseline_scores, tokens),
        candidate_scores=_scores(evidence.candidate_scores, tokens),
    )


def _outputs(outputs: OutputSet, tokens: int) -> OutputSet:
    def cut(output: Output) -> Output:
        n = len(output.token_ids)
        if n <= tokens:
            return output
        text = output.text[: round(len(output.text) * tokens / n)]
        return replace(output, token_ids=output.token_ids[:tokens], text=text, finish_reason="length")

    return replace(outputs, outputs=tuple(map(cut, outputs)))


def _scores(scores: ScoreSet | None, tokens: int) -> ScoreSet | None:
    if scores is None:
        return None
    return replace(scores, scores=tuple(score.first(tokens) for score in scores.scores))
