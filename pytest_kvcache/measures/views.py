"""Views: what detectors see of an output or a prompt, however it was handed to them."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from pytest_kvcache.records import Output, Prompt

BYTES_PER_TOKEN = 4
"""UTF-8 bytes that a token stands for, about: 4 letters of English, 1.3 Chinese characters."""

UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
"""Kana, Han and Hangul, for a class of a regular expression: every character counts as a word."""

RUN_TOGETHER = UNSPACED + "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
"""The same with Thai, Lao, Burmese and Khmer: scripts without blanks between words. A character of these four
is less than a word."""

Outputlike = Output | str | Sequence[int]
"""An output with all it carries, its text alone, or its token ids alone."""

Promptlike = Prompt | str | Sequence[int]

_NO_IDS = (bytes, bytearray, memoryview, Mapping, Set)
"""What can be iterated over and yet holds no token ids in order."""


@dataclass(frozen=True, slots=True)
class View:
    """An output or prompt as text, as token ids, or both: what is not known is None."""

    text: str | None
    ids: tuple[int, ...] | None
    finish_reason: str | None = None

    @property
    def size(self) -> float:
        """Length in tokens; estimated from the text where there are no ids."""
        if self.ids is not None:
            return len(self.ids)
        return len((self.text or "").encode(errors="surrogatepass")) / BYTES_PER_TOKEN

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be read: blanks and special tokens are nothing."""
        return not self.text.strip() if self.text is not None else not self.ids


def view_output(output: Outputlike, name: str = "output") -> View:
    """Return what is known of an output. Raises ValueError for anything else; ``name`` is the argument's."""
    if isinstance(output, Output):
        return View(output.text, output.token_ids, output.finish_reason)
    if isinstance(output, str):
        return View(output, None)
    return View(None, token_ids(output, f"{name} takes an Output, a text, or token ids"))


def view_prompt(prompt: Promptlike, name: str = "prompt") -> View:
    """Return what is known of a prompt. Raises ValueError for anything else; ``name`` is the argument's."""
    if isinstance(prompt, Prompt):
        return View(prompt.content, None)
    if isinstance(prompt, str):
        return View(prompt, None)
    return View(None, token_ids(prompt, f"{name} takes a Prompt, a text, or token ids"))


def token_ids(ids: object, takes: str) -> tuple[int, ...]:
    """Return whole numbers as a tuple. Raises ValueError that begins with ``takes`` for anything else."""
    if isinstance(ids, Iterable) and not isinstance(ids, _NO_IDS):
        ids = list(ids)
        try:
            return tuple(map(operator.index, ids))
        except TypeError:
            pass
    raise ValueError(f"{takes}, not {kind_of(ids)}")


def kind_of(value: object) -> str:
    """Return what a value is, for a refusal: ``None``, ``dict``, ``list of float and str``."""
    if value is None:
        return "None"
    if isinstance(value, list | tuple) and value:
        kinds = sorted({type(each).__name__ for each in value})
        return f"list of {' and '.join(kinds)}"
    return type(value).__name__
