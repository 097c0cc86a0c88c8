"""The sidecar of a golden: prompt token ids and log-probabilities, in binary and compressed.

Arrays of all texts lie one after the other, because they compress better so. The token ids of the texts
are in the golden's text alone, and what a sidecar may hold follows from them: a few bytes cannot become
gigabytes.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from pytest_kvcache.records import Output, Score

MAX_BYTES = 512 * 2**20
"""The most that a sidecar may hold, whatever its text says."""
MAX_K = 20
"""The most alternatives that are kept at a position."""
TOKEN_BYTES = 4 + 8 * MAX_K
"""What the log-probabilities of one token take."""
MAX_PROMPT_TOKENS = 2**24
"""The most tokens that the prompts of a golden may have together: as objects they take 700 MB."""
_TOKENS_BESIDE = 2**16
"""Tokens of a prompt, on average, that its text need not account for: those of a chat template, and of what
the model itself has said in a conversation."""
_PACKED = 5
"""Bytes that a number or the head of a list takes at most."""
_HEADS = 1000
"""Bytes that the names of fields and the heads of arrays take at most."""
_MEMORY = 64 * 2**20
"""The most that unpacking may take besides; presets up to 9 need as much."""

_ROUNDING = 1e-3
"""Nats by which rounding may lift a log-probability above 0."""

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 1, "lc": 0, "lp": 2, "pb": 2}]
"""For numbers of four bytes. More effort takes twice as long and saves a twentieth."""

_Index = Annotated[int, Meta(ge=0, lt=2**31)]
_TokenIds = tuple[_Index, ...]


class _Scored(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A scored text: the first ``n`` tokens of an output, with ``k`` alternatives each."""

    output: _Index
    n: _Index
    k: Annotated[int, Meta(ge=0, le=MAX_K)]


# What becomes many objects is left as bytes until their number is known to be right.
class _Scores(msgspec.Struct, forbid_unknown_fields=True):
    texts: msgspec.Raw
    """A tuple of `_Scored`."""
    logprobs: bytes
    top_ids: bytes
    top_logprobs: bytes


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[1]
    prompt_token_ids: msgspec.Raw
    """A tuple of `_TokenIds`."""
    scores: _Scores | None
    floor: _Scores | None


@dataclass(frozen=True, slots=True)
class Texts:
    """What the text file says that bounds its sidecar."""

    outputs: Sequence[tuple[str, tuple[int, ...]]]
    """Prompt id and token ids of each."""
    max_model_len: int
    """Tokens that a prompt may have; 0 if not known."""
    size: int
    """Bytes of the text file: prompts of so many tokens stand in it in full."""

    @property
    def most_prompt_tokens(self) -> int:
        """The most tokens that all prompts may have together."""
        return min(self.size + _TOKENS_BESIDE * len(self.outputs), MAX_PROMPT_TOKENS)

    @property
    def most_bytes(self) -> int:
        """The most bytes that a sidecar may have, packed and unpacked."""
        tokens = sum(len(token_ids) for _, token_ids in self.outputs)
        scores = TOKEN_BYTES * tokens + self.most_scored_bytes
        return min(_HEADS + self.most_prompt_bytes + 2 * scores, MAX_BYTES)

    @property
    def most_prompt_bytes(self) -> int:
        return _PACKED * (self.most_prompt_tokens + len(self.outputs) + 1)

    @property
    def most_scored_bytes(self) -> int:
        return _PACKED * (4 * len(self.outputs) + 1)


class Parts(msgspec.Struct, frozen=True):
    """What a sidecar adds to the outputs of the text."""

    prompt_token_ids: tuple[tuple[int, ...], ...]
    scores: tuple[Score, ...] | None
    floor: tuple[Score, ...] | None


def pack(outputs: Sequence[Output], scores: Sequence[Score] | None, floor: Sequence[Score] | None) -> bytes:
    """Return the sidecar of outputs and of the scores of some of them.

    Raises ValueError if a score is of no output, or of other tokens than the first ones of its output.
    """
    content = _Content(
        format=1,
        prompt_token_ids=_packed([output.prompt_token_ids for output in outputs]),
        scores=None if scores is None else _columns(outputs, scores),
        floor=None if floor is None else _columns(outputs, floor),
    )
    return lzma.compress(msgspec.msgpack.encode(content), format=lzma.FORMAT_XZ, filters=_FILTERS)


def unpack(data: bytes, texts: Texts) -> Parts:
    """Return what a sidecar holds beside these texts.

    Raises ValueError, saying what is wrong, for anything that :func:`pack` would not have written.
    """
    content = _decoded(data, texts.most_bytes)
    return Parts(
        prompt_token_ids=_prompts(content.prompt_token_ids, texts),
        scores=None if content.scores is None else _rows(content.scores, texts),
        floor=None if content.floor is None else _rows(content.floor, texts),
    )


def _packed(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def _decoded(data: bytes, most: int) -> _Content:
    decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY)
    try:
        body = decompressor.decompress(data, max_length=most)
    except lzma.LZMAError as error:
        raise ValueError(f"it cannot be unpacked ({error})") from None
    if len(body) == most and not decompressor.eof:
        raise ValueError("it holds more than its text allows")
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("it is cut off, or followed by something else")
    return msgspec.msgpack.decode(body, type=_Content)


def _prompts(packed: msgspec.Raw, texts: Texts) -> tuple[_TokenIds, ...]:
    if len(packed) > texts.most_prompt_bytes:
        raise ValueError("its prompts have more tokens than their text allows")
    prompts = msgspec.msgpack.decode(packed, type=tuple[_TokenIds, ...])
    if len(prompts) != len(texts.outputs):
        raise ValueError(f"it is of {len(prompts)} outputs, and the text has {len(texts.outputs)}")
    longest = max(map(len, prompts), default=0)
    if texts.max_model_len and longest > texts.max_model_len:
        raise ValueError(f"a prompt of {longest:,} tokens is longer than max_model_len")
    if sum(map(len, prompts)) > texts.most_prompt_tokens:
        raise ValueError("its prompts have more tokens than their text allows")
    return prompts


def _columns(outputs: Sequence[Output], scores: Sequence[Score]) -> _Scores:
    place = {output.prompt_id: number for number, output in enumerate(outputs)}
    texts = []
    for score in scores:
        number, n = place.get(score.prompt_id), len(score.token_ids)
        if number is None or outputs[number].token_ids[:n] != score.token_ids:
            raise ValueError(f"the scores of {score.prompt_id!r} are not of what was written for it")
        texts.append(_Scored(number, n, score.k))
    return _Scores(
        _packed(texts),
        b"".join(score.logprobs for score in scores),
        b"".join(score.top_ids for score in scores),
        b"".join(score.top_logprobs for score in scores),
    )


def _rows(columns: _Scores, texts: Texts) -> tuple[Score, ...]:
    if len(columns.texts) > texts.most_scored_bytes:
        raise ValueError("it holds scores of more texts than there are")
    scored = msgspec.msgpack.decode(columns.texts, type=tuple[_Scored, ...])
    _check_scored(scored, texts.outputs)
    single = _ends([4 * each.n for each in scored])
    several = _ends([4 * each.n * each.k for each in scored])
    sizes = (len(columns.logprobs), len(columns.top_ids), len(columns.top_logprobs))
    if sizes != (single[-1], several[-1], several[-1]):
        raise ValueError("its arrays do not have the sizes of their texts")
    _check_numbers(columns)
    return tuple(
        Score(
            prompt_id=texts.outputs[each.output][0],
            token_ids=texts.outputs[each.output][1][: each.n],
            logprobs=columns.logprobs[single[i] : single[i + 1]],
            top_ids=columns.top_ids[several[i] : several[i + 1]],
            top_logprobs=columns.top_logprobs[several[i] : several[i + 1]],
            k=each.k,
        )
        for i, each in enumerate(scored)
    )


def _check_scored(scored: Sequence[_Scored], outputs: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    for each in scored:
        if each.output >= len(outputs) or each.n > len(outputs[each.output][1]):
            raise ValueError("it holds scores of more text than there is")
    if len({each.output for each in scored}) != len(scored):
        raise ValueError("it holds scores of one output twice")


def _check_numbers(columns: _Scores) -> None:
    if (np.frombuffer(columns.top_ids, "<i4") < 0).any():
        raise ValueError("it holds token ids below 0")
    for logprobs in (columns.logprobs, columns.top_logprobs):
        if (np.frombuffer(logprobs, "<f4") > _ROUNDING).any():
            raise ValueError("it holds log-probabilities above 0")


def _ends(sizes: Sequence[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))
