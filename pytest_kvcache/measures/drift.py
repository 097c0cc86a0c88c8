"""Drift: answers in another language than was spoken, or about something else than was asked.

What is right is not known without another model. But the baseline answers the same prompts, and what it does
as well is no drift: either rule only means something in pairs.

A *topic* is lost in an answer that shares no content word with its prompt, and in one whose latter half
shares hardly any with its prompt and the other answer together. Content words have more than three letters,
are not a language's most common ones, and count by their first five, so that inflections are one; in scripts
without blanks they are pairs of characters.
A free answer may do without the prompt's words now and then, a text that has left it hardly finds one. Where
a text changes its topic it changes its words (Hearst, "TextTiling", 1997). A prompt is too short to hold all
of them, and what else was written to it holds more (Louis and Higgins, "Off-topic essay detection using short
prompt texts", 2010).
"""

from __future__ import annotations

import re

from pytest_kvcache.measures.commonwords import COMMON_WORDS
from pytest_kvcache.measures.language import asks_for_translation, language_of
from pytest_kvcache.measures.views import RUN_TOGETHER

SHORTEST_WORD = 4
STEM = 5
"""Letters of a content word: it has the first number at least, and is told by as many as the second."""
LEAST_WORDS = 2
"""Content words of a prompt from which on it has a topic."""
LEAST_SHARED = 0.1
"""Share of the content words of an answer's latter half from which on it keeps to the topic."""
LEAST_LATTER = 10
"""Content words of a latter half from which on it is judged by itself: of fewer, one is more than a tenth."""

_WORD = re.compile(rf"[^\W\d_{RUN_TOGETHER}]{{{SHORTEST_WORD},}}")
_PAIR = re.compile(rf"(?=([{RUN_TOGETHER}]{{2}}))")


def has_left_topic(text: str, *, prompt: str, beside: str) -> bool:
    """Whether an answer is about something else than its prompt, all of it or from its middle on.

    The middle is that of its characters, and the word that it falls into belongs to both halves. Never where
    the prompt has no topic, or the answer is about nothing; and a short answer is judged as a whole.
    """
    asked, said = _content(prompt), _content(text)
    if len(asked) < LEAST_WORDS or not said:
        return False
    if not asked & said:
        return True
    latter = _content(text, after=len(text) // 2)
    shared = latter & (asked | _content(beside))
    return len(latter) >= LEAST_LATTER and len(shared) < LEAST_SHARED * len(latter)


def has_left_language(text: str, *, prompt: str, beside: str) -> bool:
    """Whether an answer is in a language that is neither its prompt's nor the other answer's.

    Never where a language is not sure, where the prompt asks for a translation, or without the extra
    ``language``.
    """
    if asks_for_translation(prompt):
        return False
    ours, theirs = language_of(text), language_of(beside)
    if ours is None or theirs is None or ours == theirs:
        return False
    return ours != language_of(prompt, shortest=1)


def _content(text: str, after: int = 0) -> set[str]:
    """Return the content words of a text that end after so many characters."""
    words = {match[0].casefold() for match in _WORD.finditer(text) if match.end() > after}
    stems = {word[:STEM] for word in words if word not in COMMON_WORDS}
    return stems | {match[1] for match in _PAIR.finditer(text) if match.end(1) > after}
