"""Texts that are continued: how they are cut in two, and both parts' score is that of the whole text."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kvcache.engines import Engine
from pytest_kvcache.engines.following import first_part, follow
from pytest_kvcache.records import Counts, Score, ScoreRequest, ScoringPath


class Recorder:
    """An engine with blocks of 16 tokens that gives every token its own number as its log-probability."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[ScoreRequest], ScoringPath | None, bool]] = []
        self.provenance = SimpleNamespace(block_size=16)

    @property
    def counts(self) -> Counts:
        return Counts(len(self.asked), 0)

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        top_k: int,
        path: ScoringPath | None = None,
        keep_prefix_cache: bool = False,
    ) -> tuple[Score, ...]:
        self.asked.append((list(requests), path, keep_prefix_cache))
        return tuple(self._score(request, top_k) for request in requests)

    @staticmethod
    def _score(request: ScoreRequest, top_k: int) -> Score:
        ids, n = request.token_ids, len(request.token_ids)
        logprobs = struct.pack(f"<{n}f", *ids)
        return Score(request.prompt_id, ids, logprobs, struct.pack(f"<{n}i", *ids), logprobs, top_k)


@pytest.mark.parametrize(
    ("prompt", "text", "part"),
    [
        (3, 16, 14),
        (3, 15, 14),
        (3, 14, None),
        (15, 3, 2),
        (16, 3, None),
        (16, 18, 17),
        (3, 160, 78),
        (0, 0, None),
    ],
)
def test_the_first_part_fills_a_block_by_decoding_and_leaves_something(
    prompt: int, text: int, part: int | None
) -> None:
    assert first_part(prompt, text, 16) == part


@given(prompt=st.integers(1, 999), text=st.integers(1, 400), block=st.sampled_from([1, 16, 32, 128]))
def test_what_is_read_back_are_whole_blocks_of_which_the_last_is_decoded(
    prompt: int, text: int, block: int
) -> None:
    part = first_part(prompt, text, block)
    boundaries = [end for end in range(prompt + 1, prompt + text - 1) if end % block == 0]
    assert (part is None) == (not boundaries)
    if part is not None:
        chosen = prompt + part - 1
        middle = prompt + text / 2
        assert chosen in boundaries
        assert abs(chosen - middle) == min(abs(end - middle) for end in boundaries)


def test_the_beginning_is_decoded_on_an_empty_cache_and_the_rest_on_what_it_left() -> None:
    engine = Recorder()
    long, short = ScoreRequest("long", (1, 2), tuple(range(30))), ScoreRequest("short", (1,), (5, 6, 7))
    scores, counts = follow(cast(Engine, engine), [long, short], "continued", top_k=1)
    assert engine.asked == [
        ([ScoreRequest("long", (1, 2), tuple(range(15))), short], "decode", False),
        ([ScoreRequest("long", (1, 2, *range(15)), tuple(range(15, 30)))], "decode", True),
    ]
    assert counts == Counts(2, 0)
    assert [(score.prompt_id, score.token_ids) for score in scores] == [
        ("long", tuple(range(30))),
        ("short", (5, 6, 7)),
    ]
    (whole, _), _ = follow(cast(Engine, engine), [long, short], "batch", top_k=1)
    assert scores[0] == whole


@pytest.mark.parametrize(("warm", "kept"), [(False, [False, True]), (True, [True])])
def test_again_follows_a_batch_that_was_just_followed_without_doing_it_anew(
    warm: bool, kept: list[bool]
) -> None:
    engine = Recorder()
    text = ScoreRequest("text", (1, 2), (3, 4))
    follow(cast(Engine, engine), [text], "again", top_k=1, warm=warm)
    assert engine.asked == [([text], "decode", keep) for keep in kept]
