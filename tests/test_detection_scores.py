"""Scores of texts that the benchmark keeps: how they are condensed, resumed, and given back."""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from detection import baseline
from detection.corpus import Document, write_documents
from detection.document_scores import main, scored_documents
from detection.scored import Scored, condensed, read_scores

from pytest_kvcache.records import Score, ScoreRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def _score(name: str, token_ids: Sequence[int]) -> Score:
    """Return a score in which every token is the second of two equally probable ones."""
    n = len(token_ids)
    half = float(np.log(0.5))
    return Score(
        prompt_id=name,
        token_ids=tuple(token_ids),
        logprobs=struct.pack(f"<{n}f", *[half] * n),
        top_ids=np.array([[99, token] for token in token_ids], "<i4").tobytes(),
        top_logprobs=struct.pack(f"<{2 * n}f", *[half] * 2 * n),
        k=2,
    )


class _Engine:
    """Scores what it is asked for, and remembers the size of every batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, requests: Sequence[ScoreRequest], *, top_k: int) -> tuple[Score, ...]:
        assert top_k == baseline.TOP_K
        self.batches.append(len(requests))
        return tuple(_score(request.prompt_id, request.token_ids) for request in requests)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> _Engine:
    engine = _Engine()

    @contextmanager
    def started(_log: Path) -> Iterator[_Engine]:
        yield engine

    monkeypatch.setattr(baseline, "started_engine", started)
    return engine


def _requests(count: int) -> list[ScoreRequest]:
    return [ScoreRequest(f"text {i}", (0,), (5, 6, i)) for i in range(count)]


def test_a_score_is_condensed_to_rank_and_entropy() -> None:
    kept = condensed(_score("a", [5, 6]))
    assert kept == Scored("a", (5, 6), (-0.693, -0.693), (99, 99), (-0.693, -0.693), (2, 2), (0.693, 0.693))


def test_a_token_beyond_the_most_probable_has_the_rank_after_them() -> None:
    assert condensed(replace(_score("a", [5]), token_ids=(7,))).ranks == (3,)


def test_the_unknown_rest_is_counted_as_if_as_probable_as_the_last_known() -> None:
    half = struct.pack("<f", np.log(0.5))
    score = Score("a", (1,), half, struct.pack("<i", 1), half, 1)
    assert condensed(score).entropies == (0.693,)


def test_texts_are_scored_in_batches_and_kept(engine: _Engine, tmp_path: Path) -> None:
    file = tmp_path / "scores" / "texts.jsonl"
    scores = baseline.score_texts(_requests(40), file)
    assert list(scores) == [f"text {i}" for i in range(40)]
    assert scores["text 39"].token_ids == (5, 6, 39)
    assert engine.batches == [32, 8]
    assert read_scores(file) == scores


def test_what_is_kept_is_not_scored_again(engine: _Engine, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    baseline.score_texts(_requests(10), file)
    baseline.score_texts(_requests(12), file)
    baseline.score_texts(_requests(12), file)
    assert engine.batches == [10, 2]


def test_scores_of_a_recording_that_was_killed_are_there(engine: _Engine, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"

    def killed(requests: Sequence[ScoreRequest], *, top_k: int) -> Any:
        if engine.batches:
            raise KeyboardInterrupt
        return _Engine.score(engine, requests, top_k=top_k)

    engine.score = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        baseline.score_texts(_requests(40), file)
    assert len(read_scores(file)) == 32


def test_a_line_that_was_torn_by_a_kill_is_scored_again(engine: _Engine, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    whole = baseline.score_texts(_requests(2), file)
    file.write_bytes(file.read_bytes()[:-9])
    assert len(read_scores(file)) == 1
    assert baseline.score_texts(_requests(2), file) == whole
    assert engine.batches == [2, 1]


def test_kept_scores_are_given_back_as_an_engines() -> None:
    score = condensed(_score("a", [5, 6])).score()
    first, second = np.frombuffer(score.top_logprobs, "<f4").reshape(2, 2).T
    assert score.token_ids == (5, 6)
    np.testing.assert_allclose(-np.exp(first) * first - (1 - np.exp(first)) * second, 0.693, atol=1e-3)


def test_a_sample_of_documents_outlives_the_corpus_it_was_drawn_from(
    engine: _Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Words:
        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            assert not add_special_tokens
            return [len(word) for word in text.split()]

    monkeypatch.setattr("detection.document_scores._tokenizer", Words)
    write_documents(tmp_path, [_document("kept", "a few plain words")])
    assert main(["--corpus", str(tmp_path)]) == 0
    write_documents(tmp_path, [_document("another", "and others")])
    assert main(["--corpus", str(tmp_path)]) == 0
    assert engine.batches == [1]
    [(document, output, score)] = scored_documents(tmp_path, "tuning")
    assert document.id == "kept"
    assert output.text == "a few plain words"
    assert output.token_ids == score.token_ids == (1, 3, 5, 5)
    assert list(scored_documents(tmp_path, "test")) == []


def _document(name: str, text: str) -> Document:
    return Document(name, "prose-en", "a book", "tuning", text, (1, 2, 3))
