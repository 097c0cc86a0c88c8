"""Drafts: damaged documents in the making, with the place of their damage and its share.

Severity is decided by the share of the document that is damaged, in tokens (in characters where the
damage was done to characters): *mild* below a quarter, *moderate* below a half, else *severe*. Damage
that is scattered over a place counts three-fold there, since a wrong word spoils its neighbours: 3 %
wrong tokens everywhere are mild, 10 % moderate, 30 % severe. What only shows beside the baseline counts
the share of the answer that is missing, or of the text that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from unicodedata import normalize

from detection.corpus import Severity
from detection.tokenizers import QwenTokenizer

Ids = Sequence[int]

MAX_TOKENS = 512
MAX_TOKENS_OF_LONG_LOOPS = 1024
SPREAD = 3
"""Tokens that a scattered wrong one spoils, itself included."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A damaged text with its label. ``start`` and ``end`` are characters, half-open."""

    text: str
    token_ids: tuple[int, ...]
    start: int
    end: int
    share: float
    """Of the document that is damaged, between 0 and 1."""
    period: int | None = None
    noise: float | None = None
    baseline: str | None = None
    finish_reason: str | None = None

    @property
    def severity(self) -> Severity:
        return severity_of(self.share)

    def labelled(
        self,
        *,
        period: int | None = None,
        noise: float | None = None,
        baseline: str | None = None,
        finish_reason: str | None = None,
    ) -> Draft:
        return replace(self, period=period, noise=noise, baseline=baseline, finish_reason=finish_reason)

    def hidden(self) -> Draft:
        """The damage is in the ids alone, as skipped special tokens are: nothing of it is in the text."""
        return replace(self, text=self.text[: self.start] + self.text[self.end :], end=self.start)

    def scattered(self, density: float) -> Draft:
        """The damage is not all over its place, but in ``density`` of its tokens or characters."""
        return replace(self, share=self.share * min(1.0, SPREAD * density))


def severity_of(share: float) -> Severity:
    if share < 0.25:
        return "mild"
    return "moderate" if share < 0.5 else "severe"


def join_tokens(
    tokenizer: QwenTokenizer, before: Ids, damaged: Ids, after: Ids = (), *, most: int = MAX_TOKENS
) -> Draft:
    """Return tokens of which the middle part is damaged, cut off after ``most``.

    ``before`` and ``after`` must begin and end with whole characters.
    """
    ids = (*before, *damaged, *after)[:most]
    past = min(len(ids), len(before) + len(damaged))
    start, end = len(tokenizer.decode(before)), len(tokenizer.decode(ids[:past]))
    return Draft(tokenizer.decode(ids), ids, start, end, (past - len(before)) / len(ids))


def join_text(
    tokenizer: QwenTokenizer, before: str, damaged: str, after: str = "", *, most: int = MAX_TOKENS
) -> Draft:
    """Return text of which the middle part is damaged, cut off after ``most`` tokens and whole characters.

    It is normalised to NFC, as the tokenizer wants it.
    """
    text = normalize("NFC", before + damaged + after)
    start, end = (len(normalize("NFC", part)) for part in (before, before + damaged))
    ids = tokenizer.encode(text)[:most]
    while not text.startswith(tokenizer.decode(ids)):
        ids = ids[:-1]
    text = tokenizer.decode(ids)
    end = min(end, len(text))
    return Draft(text, ids, start, end, (end - start) / len(text))
