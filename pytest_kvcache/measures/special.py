"""Special tokens that can be read: chat markers, padding and sentinels that a tokenizer keeps to itself.

The rule: at least 3 of them that are not quoted, or 8 in a row, ``fail``. Texts about special tokens quote
them: in backticks, in quotation marks, in a fenced block of code. HTML has ``<s>`` too, in pairs on one line,
and they do not count.

Missed: one or two of them; those that the engine's decoder has left out, whose text is then empty or
short.
"""

from __future__ import annotations

import re
from collections import Counter

from pytest_kvcache.measures.views import View
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

ENOUGH = 3
CHAIN = 8
"""Special tokens in a row that nothing excuses."""
SHOWN = 60
"""Characters of the tokens that evidence shows."""

_SPECIAL = re.compile(
    r"<[|｜](?!\s)[^|｜<>\n]{1,48}[|｜]>"
    r"|</?s>|<<SYS>>|<</SYS>>|\[/?INST\]"
    r"|\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS|TOOL_CALLS|AVAILABLE_TOOLS|control_\d+|unused\d+)\]"
    r"|<(?:pad|unk|bos|eos|sep|cls|fim_\w+|unused_?\d+|extra_id_\d+|(?:start|end)_of_\w+|SPECIAL_\d+"
    r"|reserved_\d+|(?:begin|end)▁of▁\w+|0x[0-9A-F]{2})>"
)
_ELSEWHERE = re.compile(
    r"^(`{3,}|~{3,})[^\n]*\n.*?(?:^\1|\Z)|`[^`\n]+`|<s>(?:(?!</?s>)[^\n])+</s>",
    re.DOTALL | re.MULTILINE,
)
"""Code, fenced or in backticks, and what HTML strikes through."""
_QUOTES = frozenset("\"'“”‘’«»「」`")


def find_special_tokens(view: View) -> list[Signal]:
    """Return at most one ``fail`` signal of kind ``special-tokens``, over all that the text shows."""
    text = view.text or ""
    if _cannot_hold_one(text):
        return []
    every = list(_SPECIAL.finditer(text))
    found = _unquoted(every, text) if len(every) >= ENOUGH else []
    if len(found) < ENOUGH:
        found = _chain(every)
    if not found:
        return []
    start, end = found[0].start(), found[-1].end()
    return [Signal("special-tokens", "fail", "char", start, end, _evidence(found))]


def _cannot_hold_one(text: str) -> bool:
    return ("<" not in text or ">" not in text) and "[" not in text


def _unquoted(every: list[re.Match[str]], text: str) -> list[re.Match[str]]:
    """Return those that no quotation mark touches and that are not in code."""
    bare = _ELSEWHERE.sub(lambda match: " " * len(match[0]), text)
    return [
        match
        for match in every
        if not bare[match.start()].isspace()
        and text[match.start() - 1 : match.start()] not in _QUOTES
        and text[match.end() : match.end() + 1] not in _QUOTES
    ]


def _chain(every: list[re.Match[str]]) -> list[re.Match[str]]:
    """Return the first special tokens that follow one another without a gap, if they are many."""
    chain: list[re.Match[str]] = []
    for match in every:
        if chain and chain[-1].end() != match.start():
            if len(chain) >= CHAIN:
                break
            chain = []
        chain.append(match)
    return chain if len(chain) >= CHAIN else []


def _evidence(found: list[re.Match[str]]) -> str:
    counts = Counter(match[0] for match in found)
    shown = " ".join(token for token, _ in counts.most_common(3))
    return f"{len(found)} special tokens: {printable(shown, SHOWN)}"
