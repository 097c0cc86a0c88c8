"""Excerpts: the outputs that show a person in a minute what a red verdict is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from pytest_kvcache.measures.degeneration import find_degeneration, find_in_pair
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
    by_harm = sorted((pair for entry in evidence for pair in _pairs(entry)), key=lambda pair: -pair.harm)
    chosen: dict[str, Excerpt] = {}
    for pair in chain(filter(_is_alone, by_harm), by_harm):
        if pair.prompt.content not in chosen:
            chosen[pair.prompt.content] = _excerpt(verdict.id, pair)
        if len(chosen) == COUNT:
            break
    return tuple(chosen.values())


@dataclass(frozen=True, slots=True)
class _Pair:
    """What both sides wrote for one prompt."""

    prompt_set: str
    prompt: Prompt
    ours: Output
    theirs: Output
    harm: float
    """Delta NLL; 0 where nothing was scored."""


def _pairs(entry: Evidence) -> Iterator[_Pair]:
    harm = {prompt.id: text.delta_nll for prompt, text in entry.compared.texts if text.is_finite}
    for prompt, ours, theirs in entry.pairs():
        yield _Pair(entry.prompt_set.name, prompt, ours, theirs, harm.get(prompt.id, 0.0))


def _is_alone(pair: _Pair) -> bool:
    """Whether the candidate's output is bad and the baseline's is not."""
    if pair.prompt.answer is not None:
        return not is_right(pair.ours.text, pair.prompt) and is_right(pair.theirs.text, pair.prompt)
    ours, theirs = find_in_pair(pair.ours, pair.theirs, prompt=pair.prompt)
    return _is_proof(ours.beside) and not _is_proof(theirs.alone)


def _is_proof(signals: Sequence[Signal]) -> bool:
    return any(signal.severity == "fail" for signal in signals)


def _excerpt(verdict_id: str, pair: _Pair) -> Excerpt:
    return Excerpt(
        verdict_id,
        pair.prompt_set,
        pair.prompt.id,
        pair.prompt.content,
        pair.theirs.text,
        pair.ours.text,
        tuple(find_degeneration(pair.ours, prompt=pair.prompt, baseline=pair.theirs)),
    )
