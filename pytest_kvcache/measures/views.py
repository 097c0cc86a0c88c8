"""Views: what detectors see of an output or a prompt, however it was handed to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_kvcache.records import Output, Prompt

BYTES_PER_TOKEN = 4
"""UTF-8 bytes that a token stands for, about: 4 letters of English, 1.3 Chinese characters."""

UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af"
"""Kana, Han and Hangul, for a class of a regular expression: every character counts as a word."""

Outputlike = Output | str | Sequence[int]
"""An output with all it carries, its text alone, or its token ids alone."""

Promptlike = Prompt | str | Sequence[int]


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


def view_output(output: Outputlike) -> View:
    if isinstance(output, Output):
        return View(output.text, output.token_ids, output.finish_reason)
    if isinstance(output, str):
        return View(output, None)
    return View(None, tuple(output))


def view_prompt(prompt: Promptlike) -> View:
    if isinstance(prompt, Prompt):
        return View(prompt.content, None)
    return view_output(prompt)
