"""The sidecar of a golden: prompt token ids and log-probabilities, in binary and compressed.

Arrays of all texts lie one after the other, because they compress better so. The token ids of the texts
are in the golden's text alone.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pytest_kvcache.records import Output, Score

MAX_BYTES = 512 * 2**20
"""The most that a sidecar may hold when it is unpacked."""
_MEMORY = 64 * 2**20
"""The most that unpacking may take besides; presets up to 9 need as much."""

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 1, "lc": 0, "lp": 2, "pb": 2}]
"""For numbers of four bytes. More effort takes twice as long and saves a twentieth."""

_Index = Annotated[int, Meta(ge=0, lt=2**31)]
_TokenIds = tuple[_Index, ...]


class _Scored(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A scored text: the first ``n`` tokens of an output, with ``k`` alternatives each."""

    output: _Index
    n: _Index
    k: _Index


class _Scores(msgspec.Struct, forbid_unknown_fields=True):
    texts: tuple[_Scored, ...]
    logprobs: bytes
    top_ids: bytes
    top_logprobs: bytes


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[1]
    prompt_token_ids: tuple[_TokenIds, ...]
    scores: _Scores | None
    floor: _Scores | None


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
        prompt_token_ids=tuple(output.prompt_token_ids for output in outputs),
        scores=None if scores is None else _columns(outputs, scores),
        floor=None if floor is None else _columns(outputs, floor),
    )
    return lzma.compress(msgspec.msgpack.encode(content), format=lzma.FORMAT_XZ, filters=_FILTERS)


def unpack(data: bytes, texts: Sequence[tuple[str, tuple[int, ...]]]) -> Parts:
    """Return what a sidecar holds for outputs of which prompt id and token ids are given.

    Raises ValueError, saying what is wrong, for anything that :func:`pack` would not have written.
    """
    content = _decoded(data)
    if len(content.prompt_token_ids) != len(texts):
        raise ValueError(f"it is of {len(content.prompt_token_ids)} outputs, and the text has {len(texts)}")
    return Parts(
        prompt_token_ids=content.prompt_token_ids,
        scores=None if content.scores is None else _rows(content.scores, texts),
        floor=None if content.floor is None else _rows(content.floor, texts),
    )


def _decoded(data: bytes) -> _Content:
    decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY)
    try:
        body = decompressor.decompress(data, max_length=MAX_BYTES)
    except lzma.LZMAError as error:
        raise ValueError(f"it cannot be unpacked ({error})") from None
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("it is cut off, too large, or followed by something else")
    return msgspec.msgpack.decode(body, type=_Content)


def _columns(outputs: Sequence[Output], scores: Sequence[Score]) -> _Scores:
    place = {output.prompt_id: number for number, output in enumerate(outputs)}
    texts = []
    for score in scores:
        number, n = place.get(score.prompt_id), len(score.token_ids)
        if number is None or outputs[number].token_ids[:n] != score.token_ids:
            raise ValueError(f"the scores of {score.prompt_id!r} are not of what was written for it")
        texts.append(_Scored(number, n, score.k))
    return _Scores(
        tuple(texts),
        b"".join(score.logprobs for score in scores),
        b"".join(score.top_ids for score in scores),
        b"".join(score.top_logprobs for score in scores),
    )


def _rows(columns: _Scores, texts: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[Score, ...]:
    for scored in columns.texts:
        if scored.output >= len(texts) or scored.n > len(texts[scored.output][1]):
            raise ValueError("it holds scores of more text than there is")
    if len({scored.output for scored in columns.texts}) != len(columns.texts):
        raise ValueError("it holds scores of one output twice")
    single = _ends([4 * scored.n for scored in columns.texts])
    several = _ends([4 * scored.n * scored.k for scored in columns.texts])
    sizes = (len(columns.logprobs), len(columns.top_ids), len(columns.top_logprobs))
    if sizes != (single[-1], several[-1], several[-1]):
        raise ValueError("its arrays do not have the sizes of their texts")
    return tuple(
        Score(
            prompt_id=texts[scored.output][0],
            token_ids=texts[scored.output][1][: scored.n],
            logprobs=columns.logprobs[single[i] : single[i + 1]],
            top_ids=columns.top_ids[several[i] : several[i + 1]],
            top_logprobs=columns.top_logprobs[several[i] : several[i + 1]],
            k=scored.k,
        )
        for i, scored in enumerate(columns.texts)
    )


def _ends(sizes: Sequence[int]) -> list[int]:
    return list(accumulate(sizes, initial=0))
