"""How the engine process scores given texts, as far as that can be told without vLLM."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_kvcache.engines.vllm_scoring import (
    AGREEMENT,
    FOLLOWED,
    FOLLOWER,
    PROBE_CONTEXT,
    PROBE_TEXTS,
    PROBE_TOKENS,
    Scorer,
    following_arguments,
    mean_difference,
    probe_requests,
)
from pytest_kvcache.errors import EngineError
from pytest_kvcache.records import Score, ScoreRequest

TEXTS = (ScoreRequest("a", (1, 2), (3, 4, 5)), ScoreRequest("b", (6,), (7,)))


def config(*, v2: bool = False, **model: Any) -> SimpleNamespace:
    return SimpleNamespace(
        use_v2_model_runner=v2,
        model_config=SimpleNamespace(**{"logits_processors": None, **model}),
        scheduler_config=SimpleNamespace(max_num_batched_tokens=4),
    )


ABLE = config(logits_processors=["own:Processor", FOLLOWER])


class FakeVllm:
    """Gives each token id its hundredth as its log-probability, and a constant less to each in prefill."""

    def __init__(self, prefill_error: float = 0.0, writes: Sequence[int] | None = None) -> None:
        self.prefill_error = prefill_error
        self.writes = writes
        self.steps: list[int] = []
        self.parameters: list[Any] = []

    def __call__(self, inputs: list[list[int]], parameters: Any, steps: int) -> list[Any]:
        self.steps.append(steps)
        each = parameters if isinstance(parameters, list) else [parameters] * len(inputs)
        self.parameters += each
        return [self._result(ids, wanted) for ids, wanted in zip(inputs, each, strict=True)]

    def _result(self, ids: list[int], wanted: Any) -> SimpleNamespace:
        if hasattr(wanted, "prompt_logprobs"):
            scored = [None, *(self._position(token, -self.prefill_error) for token in ids[1:])]
            return SimpleNamespace(prompt_logprobs=scored)
        written = wanted.extra_args[FOLLOWED] if self.writes is None else self.writes
        logprobs = [self._position(token, 0.0) for token in written]
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=written, logprobs=logprobs)])

    @staticmethod
    def _position(token: int, shift: float) -> dict[int, SimpleNamespace]:
        """Return two tokens, the given one less probable than the next."""
        return {
            token: SimpleNamespace(logprob=-token / 100 + shift, rank=2),
            token + 1: SimpleNamespace(logprob=-0.001, rank=1),
        }


@pytest.fixture(autouse=True)
def _vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SimpleNamespace))


# What an engine is started with


def test_the_older_runner_follows_by_a_logits_processor_that_comes_last() -> None:
    assert following_arguments(config(), {}) == {"logits_processors": [FOLLOWER]}
    own = {"logits_processors": ["own:Processor"]}
    assert following_arguments(config(), own) == {"logits_processors": ["own:Processor", FOLLOWER]}


def test_the_newer_runner_follows_natively_where_its_version_can() -> None:
    assert following_arguments(config(v2=True, enable_trace_replay=False), {}) == {
        "enable_trace_replay": True
    }
    assert following_arguments(config(v2=True), {}) == {}


def test_an_engine_that_speculates_follows_nothing() -> None:
    for arguments in ({"speculative_config": {"method": "ngram"}}, {"spec_method": "ngram"}):
        assert following_arguments(config(), arguments) == {}


# The probe


def test_probe_texts_are_cut_to_what_is_scored_and_to_what_the_model_has_room_for() -> None:
    for longest, expected in ((8191, PROBE_TOKENS), (40, 40 - PROBE_CONTEXT)):
        requests = probe_requests(lambda text: range(len(text)), longest)
        assert len(requests) == len(PROBE_TEXTS)
        assert {(len(r.prompt_token_ids), len(r.token_ids)) for r in requests} == {(PROBE_CONTEXT, expected)}


def test_prefill_that_agrees_with_decoding_is_used() -> None:
    scorer = Scorer(ABLE, FakeVllm(prefill_error=AGREEMENT / 2))
    scorer.probe(TEXTS)
    assert scorer.path == "prefill"
    assert scorer.difference == pytest.approx(AGREEMENT / 2, rel=1e-4)


@pytest.mark.parametrize("error", [2 * AGREEMENT, math.nan])
def test_prefill_that_gives_other_figures_than_decoding_is_not_used(error: float) -> None:
    scorer = Scorer(ABLE, FakeVllm(prefill_error=error))
    scorer.probe(TEXTS)
    assert scorer.path == "decode"
    assert scorer.score(TEXTS, 2) == scorer.score(TEXTS, 2, "decode")


def test_an_engine_that_cannot_follow_is_not_probed_and_says_so() -> None:
    scorer = Scorer(config(), FakeVllm())
    scorer.probe(TEXTS)
    assert (scorer.path, scorer.difference) == ("prefill", None)
    with pytest.raises(EngineError, match="cannot follow"):
        scorer.score(TEXTS, 2, "decode")


def test_a_texts_first_token_proves_nothing() -> None:
    one, other = (
        [Score("a", (1, 2, 3), np.asarray(values, "<f4").tobytes(), b"", b"", 0)]
        for values in ((-1.0, -2.0, -3.0), (-9.0, -2.5, -2.5))
    )
    assert mean_difference(one, other) == 0.5


# Scores


def test_both_ways_score_the_given_tokens_and_rank_the_most_probable_first() -> None:
    scorer = Scorer(ABLE, FakeVllm())
    prefill, decode = scorer.score(TEXTS, 2, "prefill"), scorer.score(TEXTS, 2, "decode")
    assert prefill == decode
    assert np.frombuffer(prefill[0].logprobs, "<f4") == pytest.approx([-0.03, -0.04, -0.05])
    assert np.frombuffer(prefill[0].top_ids, "<i4").tolist() == [4, 3, 5, 4, 6, 5]
    assert np.frombuffer(prefill[1].top_logprobs, "<f4") == pytest.approx([-0.001, -0.07])


def test_no_more_than_the_wanted_number_of_tokens_is_kept() -> None:
    (score, _) = Scorer(ABLE, FakeVllm()).score(TEXTS, 1)
    assert np.frombuffer(score.top_ids, "<i4").tolist() == [4, 5, 6]
    assert score.k == 1


def test_progress_counts_passes_of_prefill_and_tokens_of_decoding() -> None:
    vllm = FakeVllm()
    scorer = Scorer(ABLE, vllm)
    scorer.score(TEXTS, 2, "prefill")
    scorer.score(TEXTS, 2, "decode")
    assert vllm.steps == [2, 3]


def test_the_newer_runner_is_asked_in_its_own_words() -> None:
    vllm = FakeVllm(writes=(3, 4, 5))
    Scorer(config(enable_trace_replay=True), vllm).score(TEXTS[:1], 2, "decode")
    assert vllm.parameters[0].trace_decode_token_ids == [3, 4, 5]


def test_scores_of_another_text_than_the_given_one_are_refused() -> None:
    with pytest.raises(EngineError, match="strayed"):
        Scorer(ABLE, FakeVllm(writes=(3, 4, 9))).score(TEXTS[:1], 2, "decode")
