"""Excerpts: the outputs that show a person in a minute what a red verdict is about."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_kvcache.measures.degeneration import find_degeneration
from pytest_kvcache.measures.divergence import compare_scores
from pytest_kvcache.measures.recall import is_right
from pytest_kvcache.records import Excerpt, Output, Prompt, Signal, Verdict, VerdictKind
from pytest_kvcache.verdicts import Evidence

COUNT = 3


def choose_excerpts(verdict: Verdict, evidence: Sequence[Evidence]) -> tuple[Excerpt, ...]:
    """Return the worst prompts behind a verdict that judged quality and found harm, worst first.

    Each is shown once, however many sets hold it. Worst are outputs with a finding where the baseline's
    has none, or without the right answer where the baseline's has it; then texts that the candidate finds
    least probable.
    """
    if verdict.verdict not in (VerdictKind.FAIL, VerdictKind.KNOWN_BAD):
        return ()
    ranked = [item for entry in evidence for item in _rank(verdict.id, entry)]
    worst = sorted(ranked, key=lambda item: item[0], reverse=True)
    chosen: dict[str, Excerpt] = {}
    for _, excerpt in worst:
        chosen.setdefault(excerpt.prompt_text, excerpt)
    return tuple(chosen.values())[:COUNT]


def _rank(verdict_id: str, entry: Evidence) -> list[tuple[tuple[bool, float], Excerpt]]:
    prompts = {prompt.id: prompt for prompt in entry.prompt_set.prompts}
    baseline = {output.prompt_id: output for output in entry.baseline}
    harm = _delta_nll(entry)
    ranked = []
    for output in entry.candidate:
        prompt, beside = prompts[output.prompt_id], baseline[output.prompt_id]
        signals = tuple(find_degeneration(output, prompt=prompt, baseline=beside))
        alone = _is_bad(prompt, output, signals) and not _is_bad(
            prompt, beside, find_degeneration(beside, prompt=prompt)
        )
        excerpt = Excerpt(
            verdict_id,
            entry.prompt_set.name,
            prompt.id,
            prompt.content,
            beside.text,
            output.text,
            signals,
        )
        ranked.append(((alone, harm.get(prompt.id, 0.0)), excerpt))
    return ranked


def _is_bad(prompt: Prompt, output: Output, signals: Sequence[Signal]) -> bool:
    if prompt.answer is not None:
        return not is_right(output.text, prompt)
    return any(signal.severity == "fail" for signal in signals)


def _delta_nll(entry: Evidence) -> dict[str, float]:
    if entry.baseline_scores is None or entry.candidate_scores is None:
        return {}
    baseline = {score.prompt_id: score for score in entry.baseline_scores.scores}
    pairs = [(score, baseline[score.prompt_id]) for score in entry.candidate_scores.scores]
    compared = {ours.prompt_id: compare_scores(ours, theirs) for ours, theirs in pairs}
    return {name: each.delta_nll for name, each in compared.items() if each.is_finite}
