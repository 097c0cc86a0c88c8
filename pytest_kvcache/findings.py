"""Findings shown to people: what proves an output bad, and where two outputs for one prompt part.

Lines come back harmless to print (:func:`~pytest_kvcache.text.printable`), whatever a model wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import Literal, NamedTuple

from pytest_kvcache.measures.degeneration import find_degeneration
from pytest_kvcache.measures.divergence import first_divergence
from pytest_kvcache.measures.penalties import N
from pytest_kvcache.measures.recall import is_right
from pytest_kvcache.measures.repetition import ngram_repetition
from pytest_kvcache.measures.views import UNSPACED, Outputlike, Promptlike
from pytest_kvcache.records import Output, Prompt, Signal
from pytest_kvcache.text import printable

SHOWN = 3
"""Outputs that a message shows; it counts or names the others."""
BEFORE, AFTER = 30, 60
"""Characters that are shown before and after a place in a text."""
IDS_BEFORE, IDS_AFTER = 3, 8
REPEATING = 0.10
"""4-gram repetition under penalties above which an output repeats itself: a reader starts to notice."""
LONGEST_WORD = 20
"""Characters by which a place inside a word moves at most, to where the word begins."""

_LETTER = re.compile(rf"[^\W{UNSPACED}]")
_BEGUN = re.compile(rf" ?{_LETTER.pattern}*\Z")
"""The word that a text ends in, with the blank before it; nothing in scripts without blanks."""


class Pair(NamedTuple):
    """Two outputs for one prompt: the golden's, and what stands beside it."""

    name: str
    prompt: Prompt
    is_task: bool
    """Whether its set is of tasks: judged by right answers and by nothing else."""
    is_penalised: bool
    old: Output
    new: Output

    @property
    def differs(self) -> bool:
        """Whether anything that was written differs; the tokens of the prompt were not."""
        return _written(self.old) != _written(self.new)

    @property
    def asked_otherwise(self) -> bool:
        """Whether the engines read different tokens for the same prompt, and wrote none of it themselves."""
        return not self.prompt.is_open and self.old.prompt_token_ids != self.new.prompt_token_ids

    @property
    def token(self) -> int | None:
        """The first token that differs; None if none does."""
        return first_divergence(self.new, self.old)

    def flaws(self) -> list[str]:
        """Return what is wrong with the new output and not with the old one, a line each."""
        if not self.is_task:
            return [
                f"{signal.kind}: {signal.evidence}" for signal in failures(self.new, self.prompt, self.old)
            ]
        if is_right(self.old.text, self.prompt) and not is_right(self.new.text, self.prompt):
            return [f'lost: the right answer "{printable(self.prompt.answer or "", AFTER)}"']
        return []


@dataclass(frozen=True, slots=True)
class Standing:
    """Of free outputs those that are degenerate or empty, or repeat themselves under penalties; of tasks
    those with the right answer."""

    free: int
    degenerate: int
    repeating: int
    tasks: int
    right: int

    @classmethod
    def of(cls, pairs: Sequence[Pair], side: Literal["old", "new"]) -> Standing:
        """Count one side of all pairs."""
        free, tasks = (
            [
                (pair.prompt, pair.old if side == "old" else pair.new)
                for pair in pairs
                if pair.is_task is is_task
            ]
            for is_task in (False, True)
        )
        degenerate = sum(bool(failures(output, prompt)) for prompt, output in free)
        penalised = [pair.old if side == "old" else pair.new for pair in pairs if pair.is_penalised]
        repeating = sum(ngram_repetition(output, N) > REPEATING for output in penalised)
        right = sum(is_right(output.text, prompt) for prompt, output in tasks)
        return cls(len(free), degenerate, repeating, len(tasks), right)

    def is_worse_than(self, other: Standing) -> bool:
        return (
            self.degenerate > other.degenerate or self.repeating > other.repeating or self.right < other.right
        )

    def told(self, before: Standing | None = None) -> str:
        """Return the counts for people, after those from ``before`` if it is given."""
        was = (before.degenerate, before.repeating, before.right) if before else None
        degenerate, repeating, right = (f"{count} -> " for count in was) if was else ("", "", "")
        told = []
        if self.free:
            told.append(f"degenerate {degenerate}{self.degenerate} of {self.free} outputs")
        if self.repeating or (before and before.repeating):
            told.append(f"repeating under penalties {repeating}{self.repeating}")
        if self.tasks:
            told.append(f"right {right}{self.right} of {self.tasks} answers")
        return ", ".join(told)


def failures(
    output: Outputlike, prompt: Promptlike | None = None, beside: Outputlike | None = None
) -> list[Signal]:
    """Return what proves an output degenerate or empty, without what ``beside`` shows as well."""
    signals = find_degeneration(output, prompt=prompt, baseline=beside)
    return [signal for signal in signals if signal.severity == "fail"]


def around(text: str, at: int, mark: str = "") -> str:
    """Return a place in a text with what stands before and after it, one harmless line.

    ``mark`` is put in between. Nothing stands after the end: then it says so.
    """
    start = max(0, at - BEFORE)
    after = printable(text[at:], AFTER) or " (ends)"
    return f"{'…' * (start > 0)}{printable(text[start:at])}{mark}{after}"


def median_parting(pairs: Iterable[Pair]) -> str:
    """Return for people the median token at which outputs part, of those that do; nothing if none does."""
    tokens = [token for pair in pairs if (token := pair.token) is not None]
    return f"they part at token {median(tokens):.0f} (median)" if tokens else ""


def show_difference(pair: Pair, labels: tuple[str, str]) -> list[str]:
    """Return a few lines: where two outputs part, both around that place, and the first flaw that is new.

    ``labels`` are for the old and the new text.
    """
    width = max(map(len, labels))
    sides = dict(zip((label.ljust(width) for label in labels), (pair.old, pair.new), strict=True))
    lines = [f"  {printable(pair.name)} {_how_they_differ(pair)}:"]
    lines += [f"    {label} {side}" for label, side in _both_sides(sides, pair.token).items()]
    lines += [f"    {flaw}" for flaw in pair.flaws()[:1]]
    return [printable(line) for line in lines]


def parting(one: str, other: str) -> int:
    """Return the character from which on two texts differ, as a place for people to look at.

    Tokens seldom begin within a word. So where a word goes on in either text it is where that word begins,
    with the blank before it. The length of both if they are equal.
    """
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    if one == other:
        return same
    begun = _BEGUN.search(one[max(0, same - LONGEST_WORD - 1) : same])
    letters = len(begun[0]) if begun else 0
    goes_on = any(_LETTER.match(text, same) for text in (one, other))
    inside = (goes_on and letters <= LONGEST_WORD) or one[same - 1 : same] == " "
    return same - letters if inside else same


def _written(output: Output) -> tuple[tuple[int, ...], str, str | None]:
    return output.token_ids, output.text, output.finish_reason


def _how_they_differ(pair: Pair) -> str:
    if pair.old.text != pair.new.text:
        return (
            "has the same tokens, but another text"
            if pair.token is None
            else f"differs from token {pair.token} on"
        )
    if pair.token is not None:
        return f"has the same text, in other tokens from token {pair.token} on"
    return f"ended by {pair.old.finish_reason}, now by {pair.new.finish_reason}"


def _both_sides(sides: Mapping[str, Output], token: int | None) -> dict[str, str]:
    """Return for each label the surroundings of the place where two outputs part, in the text if it tells."""
    old, new = sides.values()
    if old.text != new.text:
        at = parting(old.text, new.text)
        return {label: around(output.text, at, "|") for label, output in sides.items()}
    if token is not None:
        return {label: _ids_around(output.token_ids, token) for label, output in sides.items()}
    return {}


def _ids_around(ids: Sequence[int], at: int) -> str:
    start, end = max(0, at - IDS_BEFORE), at + IDS_AFTER
    before, after = (" ".join(map(str, part)) for part in (ids[start:at], ids[at:end]))
    return f"tokens {'… ' * (start > 0)}{before}| {after or '(ends)'}{' …' * (end < len(ids))}"
