"""Degeneration: what is wrong with one output, and how one can see it.

Signals are ``fail`` where the one output suffices as proof, else ``warn``: those speak only beside the
baseline's output. What the prompt asks for or holds itself, or the baseline's output shows as well, is no
finding. Each detector has a module of its own, with its rule, where the rule is from, and what it misses.

============== ========== ==========================================================================
kind           severity   finding
============== ========== ==========================================================================
loop           fail, warn a unit of several tokens or characters repeated exactly
stuck          fail, warn one token or character repeated
near-loop      fail, warn a unit repeated with small changes, or with a running number
blanks         fail       a long stretch of blanks, newlines or invisible characters
special-tokens fail       tokens to be read that only the chat format should hold
soup           fail, warn tokens or words in no order that say nothing twice
small-soup     fail, warn a handful of tokens or words in no order
corruption     fail, warn stray tokens strewn into text that is otherwise fine
mixed-scripts  fail       words of many scripts interleaved
mojibake       fail, warn text that was decoded with the wrong character encoding
replacement    fail, warn U+FFFD, in place of bytes that are no character
script-flip    fail, warn text that goes on in another script for good
language-flip  warn       text that goes on in another language of the same script
improbable     fail, warn text that the baseline would not have written (needs its score)
empty          fail       nothing to read, unless the baseline's output is empty as well
early-end      warn       ended by itself at an eighth of the baseline's length, or sooner
runaway        warn       cut off at twice the length at which the baseline ended by itself, or later
============== ========== ==========================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from pytest_kvcache.measures.asked import QUOTED_RATIO, Asked
from pytest_kvcache.measures.blanks import find_blanks
from pytest_kvcache.measures.characters import Characters
from pytest_kvcache.measures.corruption import find_corruption
from pytest_kvcache.measures.encoding import find_mojibake, find_replacement
from pytest_kvcache.measures.improbability import find_improbable
from pytest_kvcache.measures.language import asks_for_translation, find_language_flip
from pytest_kvcache.measures.lengths import view_ended_early, view_ran_away
from pytest_kvcache.measures.loops import Loop, find_loops
from pytest_kvcache.measures.near_loops import find_near_loops
from pytest_kvcache.measures.scripts import find_mixed_scripts, find_script_flips
from pytest_kvcache.measures.soup import find_small_soup, find_soup
from pytest_kvcache.measures.special import find_special_tokens
from pytest_kvcache.measures.views import Outputlike, Promptlike, View, kind_of, view_output, view_prompt
from pytest_kvcache.records import Output, Prompt, Score, Signal

NONSENSE = frozenset(
    {"special-tokens", "soup", "small-soup", "corruption", "mixed-scripts", "mojibake", "replacement"}
)
"""The kinds of signals of text that no reader takes for language."""
FLIPS = frozenset({"script-flip", "language-flip"})
"""Those of text that goes on in another language."""

_ASKED_FOR = FLIPS | {"mixed-scripts"}
"""What a prompt can ask for by asking for a translation."""
_TOLD_BY_LOOPS = frozenset({"blanks", "special-tokens", "small-soup"})


def find_degeneration(
    output: Outputlike,
    *,
    prompt: Promptlike | None = None,
    baseline: Outputlike | None = None,
    score: Score | None = None,
) -> list[Signal]:
    """Return the signals of degeneration in one output, in the order of their places.

    ``output`` and ``baseline`` (what the baseline wrote for the same prompt) may be an
    :class:`~pytest_kvcache.records.Output`, a text, or token ids. An ``Output`` is judged on both, and
    a loop that its text shows is reported once, in characters. ``score`` is the baseline's of this output:
    with it, text that nothing else gives away is seen to be improbable. Takes time linear in the length, up
    to a logarithmic factor, on any input; beside a prompt or baseline that loops as well, also time for each
    pair of their loops. Raises ValueError for an argument that is none of these, and for a score of another
    number of tokens.
    """
    seen = _Looked(view_output(output))
    beside = None if baseline is None else _Looked(view_output(baseline, "baseline"))
    asked = None if prompt is None else _Looked(view_prompt(prompt))
    improbable = [] if score is None else _improbable(seen.view, score)
    return _signals(seen, asked, beside, improbable)


def find_in_pair(one: Output, other: Output, *, prompt: Prompt) -> tuple[Findings, Findings]:
    """Return what `find_degeneration` finds in two outputs for one prompt, looking at each of them once."""
    asked, left, right = map(_Looked, (view_prompt(prompt), view_output(one), view_output(other)))
    return (
        Findings(_signals(left, asked, None), _signals(left, asked, right)),
        Findings(_signals(right, asked, None), _signals(right, asked, left)),
    )


@dataclass(frozen=True, slots=True)
class Findings:
    """The signals of one of two outputs for the same prompt."""

    alone: list[Signal]
    beside: list[Signal]
    """With the other one for its baseline."""


def is_empty(output: Outputlike) -> bool:
    """Whether there is nothing to read."""
    return view_output(output).is_empty


class _Looked:
    """An output or prompt with what detectors find in it, which is looked for when first asked for."""

    def __init__(self, view: View) -> None:
        self.view = view

    @cached_property
    def loops(self) -> list[Loop]:
        """The loops, exact and near; where an exact one is, no near one is told of."""
        exact = find_loops(self.view)
        near = [loop for loop in find_near_loops(self.view) if not any(map(loop.overlaps, exact))]
        return [*exact, *near]

    @cached_property
    def others(self) -> list[Signal]:
        """What all detectors but those of loops find."""
        return list(_find_in(self.view))

    @cached_property
    def wish(self) -> Asked:
        """What a prompt asks for."""
        return Asked(self.view)


def _signals(
    seen: _Looked, asked: _Looked | None, beside: _Looked | None, improbable: Sequence[Signal] = ()
) -> list[Signal]:
    signals = [loop.signal() for loop in _unexcused_loops(seen, asked, beside)]
    signals += _unexcused(_untold(seen.others, signals), asked, beside)
    signals += improbable
    signals.sort(key=lambda signal: (signal.unit, signal.start, -signal.end))
    other = None if beside is None else beside.view
    return [*_empty(seen.view, other), *signals, *_length(seen.view, other)]


def _find_in(view: View) -> Iterator[Signal]:
    """Yield what all detectors but those of loops find in an output by itself."""
    yield from find_special_tokens(view)
    if view.is_empty:
        return
    yield from find_blanks(view)
    yield from find_soup(view)
    yield from find_small_soup(view)
    if view.text:
        characters = Characters(view.text)
        yield from find_mixed_scripts(characters)
        yield from find_script_flips(characters)
        yield from find_corruption(characters)
        yield from find_mojibake(characters)
        yield from find_replacement(characters)
        yield from find_language_flip(view)


def _untold(signals: list[Signal], loops: list[Signal]) -> list[Signal]:
    """Drop what a loop has told already, or a soup: what repeats looks odd in many ways."""
    proved = [loop for loop in loops if loop.severity == "fail"]
    if proved:
        signals = [
            signal
            for signal in signals
            if signal.kind not in _TOLD_BY_LOOPS and not any(_lies_in(signal, loop) for loop in proved)
        ]
    if any(signal.kind == "soup" for signal in signals):
        signals = [signal for signal in signals if signal.kind != "language-flip"]
    return signals


def _lies_in(signal: Signal, loop: Signal) -> bool:
    return signal.unit == loop.unit and loop.start <= signal.start and signal.end <= loop.end


def _unexcused(signals: list[Signal], asked: _Looked | None, beside: _Looked | None) -> list[Signal]:
    """Drop what the baseline's output or the prompt shows as surely, and the flips of a translation."""
    for known in (asked, beside):
        if signals and known is not None:
            shown = {(signal.kind, signal.severity) for signal in known.others}
            signals = [
                signal
                for signal in signals
                if (signal.kind, "fail") not in shown and (signal.kind, signal.severity) not in shown
            ]
    if signals and asked is not None and asks_for_translation(asked.view.text or ""):
        signals = [signal for signal in signals if signal.kind not in _ASKED_FOR]
    return signals


def _unexcused_loops(seen: _Looked, asked: _Looked | None, beside: _Looked | None) -> list[Loop]:
    loops = seen.loops
    if loops and beside is not None:
        loops = [loop for loop in loops if not any(map(loop.resembles, beside.loops))]
    if loops and asked is not None:
        loops = [
            loop
            for loop in loops
            if not asked.wish.excuses(loop)
            and not any(
                loop.resembles(each) and loop.copies <= QUOTED_RATIO * each.copies for each in asked.loops
            )
        ]
    return loops


def _improbable(seen: View, score: Score) -> list[Signal]:
    if not isinstance(score, Score):
        raise ValueError(f"score takes the Score of the output, not {kind_of(score)}")
    if seen.ids is not None and len(seen.ids) != len(score.token_ids):
        raise ValueError(f"a score of {len(score.token_ids)} tokens for an output of {len(seen.ids)}")
    return find_improbable(score)


def _empty(seen: View, beside: View | None) -> list[Signal]:
    if not seen.is_empty or (beside is not None and beside.is_empty):
        return []
    length = len(seen.text or "")
    tokens = "" if seen.ids is None else f" in {len(seen.ids)} tokens"
    return [Signal("empty", "fail", "char", 0, length, f"no text{tokens}")]


def _length(seen: View, beside: View | None) -> list[Signal]:
    if beside is None or seen.is_empty:
        return []
    lengths = f"about {seen.size:.0f} tokens, the baseline {beside.size:.0f}"
    if view_ran_away(seen, beside):
        return [_about_length("runaway", seen, lengths)]
    if view_ended_early(seen, beside):
        return [_about_length("early-end", seen, lengths)]
    return []


def _about_length(kind: str, seen: View, evidence: str) -> Signal:
    if seen.text is not None:
        return Signal(kind, "warn", "char", 0, len(seen.text), evidence)
    return Signal(kind, "warn", "token", 0, len(seen.ids or ()), evidence)
