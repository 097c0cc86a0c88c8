"""Following: the manners in which an engine decodes along given texts, and what its scheduler did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pytest_kvcache.engines import Engine
from pytest_kvcache.records import Counts, Manner, Score, ScoreRequest

Followed = tuple[tuple[Score, ...], Counts]


def follow(
    engine: Engine, requests: Sequence[ScoreRequest], manner: Manner, *, top_k: int, warm: bool = False
) -> Followed:
    """Return the scores of all texts, in the requests' order, and the counts that show the manner.

    ``warm`` says that the engine has just followed them in a plain batch, which need not be done again then.
    """
    if warm and manner == "again":
        return _on_kept_cache(engine, requests, top_k)
    return _MANNERS[manner](engine, requests, top_k)


def first_part(prompt_tokens: int, text_tokens: int, block_size: int) -> int | None:
    """Return how many tokens of a text are followed first, so that the rest reads back what they wrote.

    It ends one token beyond a block boundary, the nearest to the text's middle: an engine never computes the
    last token that it writes, and never takes the last token of a prompt from the prefix cache. None for a
    text that crosses no boundary, or of which nothing would be left.
    """
    next_boundary = block_size * (prompt_tokens // block_size + 1)
    boundaries = range(next_boundary, prompt_tokens + text_tokens - 1, block_size)
    middle = prompt_tokens + text_tokens / 2
    nearest = min(boundaries, key=lambda boundary: abs(boundary - middle), default=None)
    return None if nearest is None else nearest + 1 - prompt_tokens


def _batch(engine: Engine, requests: Sequence[ScoreRequest], top_k: int) -> Followed:
    return engine.score(requests, top_k=top_k, path="decode"), engine.counts


def _again(engine: Engine, requests: Sequence[ScoreRequest], top_k: int) -> Followed:
    _batch(engine, requests, top_k)
    return _on_kept_cache(engine, requests, top_k)


def _on_kept_cache(engine: Engine, requests: Sequence[ScoreRequest], top_k: int) -> Followed:
    return engine.score(requests, top_k=top_k, path="decode", keep_prefix_cache=True), engine.counts


def _alone(engine: Engine, requests: Sequence[ScoreRequest], top_k: int) -> Followed:
    scores: tuple[Score, ...] = ()
    counts = Counts(0, 0)
    for request in requests:
        score, counted = _batch(engine, [request], top_k)
        scores += score
        counts += counted
    return scores, counts


def _continued(engine: Engine, requests: Sequence[ScoreRequest], top_k: int) -> Followed:
    block_size = engine.provenance.block_size
    parts = [first_part(len(r.prompt_token_ids), len(r.token_ids), block_size) for r in requests]
    begun = [replace(r, token_ids=r.token_ids[:part]) for r, part in zip(requests, parts, strict=True)]
    rests = [
        ScoreRequest(r.prompt_id, r.prompt_token_ids + r.token_ids[:part], r.token_ids[part:])
        for r, part in zip(requests, parts, strict=True)
        if part is not None
    ]
    scores, counts = _batch(engine, begun, top_k)
    if not rests:
        return scores, counts
    rest, counts = _on_kept_cache(engine, rests, top_k)
    ends = {score.prompt_id: score for score in rest}
    return tuple(_joined(score, ends.get(score.prompt_id)) for score in scores), counts


def _joined(begun: Score, end: Score | None) -> Score:
    return begun if end is None else begun.followed_by(end)


_MANNERS: Mapping[Manner, Callable[[Engine, Sequence[ScoreRequest], int], Followed]] = {
    "batch": _batch,
    "again": _again,
    "alone": _alone,
    "continued": _continued,
}
