"""The real engine: what only vLLM itself can prove.

Starting it takes ten seconds or more. So each of three engines is started once, asked for everything
that a test here looks at, and ended; the tests look at what is left of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import processes
import pytest
from real_engine import TIMEOUT, engine_pids, spec, started

from pytest_kvcache import refmodels
from pytest_kvcache.engines import Engine
from pytest_kvcache.engines.devices import Slot
from pytest_kvcache.engines.vllm_scoring import AGREEMENT, mean_difference
from pytest_kvcache.errors import EngineError
from pytest_kvcache.measures.divergence import compare_scores
from pytest_kvcache.records import (
    EngineSpec,
    Message,
    Output,
    Prompt,
    PromptSet,
    Provenance,
    Sampling,
    Score,
    ScoreRequest,
)

pytestmark = pytest.mark.vllm

MAX_MODEL_LEN = 512
MEBIBYTE = 1 << 20
LEAKED = 300 * MEBIBYTE
OPENINGS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Water boils at a temperature of",
    "Once upon a time, in a small village,",
    "The three primary colours are",
    "To bake bread you need",
)
QUESTIONS = ("What is a binary search?", "Name two rivers.")
SET = PromptSet(
    "probe",
    (
        *(Prompt(f"text-{i}", "completion", text=text) for i, text in enumerate(OPENINGS)),
        *(Prompt(f"chat-{i}", "chat", messages=(Message("user", q),)) for i, q in enumerate(QUESTIONS)),
    ),
    Sampling(max_tokens=32, ignore_eos=True),
)
TOO_LONG = Prompt("too-long", "completion", text="word " * (MAX_MODEL_LEN + 100))


@pytest.fixture(scope="module", autouse=True)
def mark() -> Iterator[str]:
    with processes.new_mark() as value:
        yield value


# One life each


@dataclass(frozen=True)
class Life:
    """All that is left of one engine."""

    slot: Slot
    provenance: Provenance
    allowed_cores: set[int]
    outputs: tuple[Output, ...]
    again: tuple[Output, ...]
    seconds: float
    """For the whole set, the second time."""
    seconds_for_one: float
    refusals: tuple[str, ...]
    """What it said, between the two times, to a prompt that is too long and to one that just is."""
    longest: Score
    """Of the longest text that `generate` may write for the first prompt."""
    scores: tuple[Score, ...]
    """Of the baseline's texts."""
    decoded: tuple[Score, ...]
    """Of the same texts, in steps as if the engine wrote them."""
    memory_lost: int
    processes_left: list[int]


def live(wanted: EngineSpec, directory: Path, mark: str, texts: tuple[Output, ...] | None = None) -> Life:
    before = processes.memory_left()
    with started(wanted, directory) as (engine, slot):
        (pid,) = engine_pids(mark)
        outputs = engine.generate(SET.prompts, SET.sampling)
        first = outputs[0].prompt_token_ids
        room = MAX_MODEL_LEN - 1 - len(first)
        refusals = (
            refusal(engine, [*SET.prompts, TOO_LONG], SET.sampling),
            refusal(engine, SET.prompts, Sampling(max_tokens=room + 1)),
        )
        (longest,) = engine.score([ScoreRequest("longest", first, first[:1] * room)])
        began = time.monotonic()
        again = engine.generate(SET.prompts, SET.sampling)
        ended = time.monotonic()
        engine.generate(SET.prompts[:1], SET.sampling)
        seconds_for_one = time.monotonic() - ended
        requests = [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in (texts or outputs)]
        scores = engine.score(requests, top_k=5)
        decoded = engine.score(requests, top_k=5, path="decode")
        allowed_cores = processes.allowed_cores(pid)
    return Life(
        slot=slot,
        provenance=engine.provenance,
        allowed_cores=allowed_cores,
        outputs=outputs,
        again=again,
        seconds=ended - began,
        seconds_for_one=seconds_for_one,
        refusals=refusals,
        longest=longest,
        scores=scores,
        decoded=decoded,
        memory_lost=memory_lost(before),
        processes_left=processes.marked(mark),
    )


def memory_lost(before: int) -> int:
    """Return by how many bytes less is left. Others come and go meanwhile; what leaks stays away."""
    until = time.monotonic() + 60
    while (lost := before - processes.memory_left()) >= LEAKED and time.monotonic() < until:
        time.sleep(0.5)
    return lost


def refusal(engine: Engine, prompts: Sequence[Prompt], sampling: Sampling) -> str:
    with pytest.raises(EngineError) as caught:
        engine.generate(prompts, sampling)
    return str(caught.value)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, mark: str) -> Life:
    wanted = spec("ref:gqa", "auto", max_model_len=MAX_MODEL_LEN)
    return live(wanted, tmp_path_factory.mktemp("auto"), mark)


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory, mark: str, baseline: Life) -> Life:
    wanted = spec("ref:gqa", "fp8_e4m3", max_model_len=MAX_MODEL_LEN)
    return live(wanted, tmp_path_factory.mktemp("fp8"), mark, baseline.outputs)


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory, mark: str, baseline: Life) -> Life:
    """An engine whose first two layers are kept in high precision, and whose chat template is told a word.

    The template sets that by itself, so that prompts stay as they are.
    """
    wanted = spec(
        "ref:gqa",
        "fp8_e4m3",
        max_model_len=MAX_MODEL_LEN,
        kv_cache_dtype_skip_layers=["0", "1"],
        chat_template_kwargs={"message": "of no use"},
    )
    return live(wanted, tmp_path_factory.mktemp("partial"), mark, baseline.outputs)


class TestProvenance:
    def test_auto_is_named_by_what_it_resolved_to(self, baseline: Life) -> None:
        seen = baseline.provenance
        assert (seen.kv_cache_dtype, seen.kv_cache_quantized, seen.kv_scales) == ("bfloat16", False, "none")

    def test_fp8_is_quantized_with_scales_of_one(self, candidate: Life) -> None:
        seen = candidate.provenance
        assert (seen.kv_cache_dtype, seen.kv_cache_quantized, seen.kv_scales) == ("fp8_e4m3", True, "unit")

    def test_skipped_layers_show(self, partial: Life) -> None:
        assert partial.provenance.kv_cache_dtype == "bfloat16+fp8_e4m3"
        assert partial.provenance.kv_cache_quantized

    def test_it_says_how_the_cache_is_laid_out(self, baseline: Life, candidate: Life) -> None:
        for seen in (baseline.provenance, candidate.provenance):
            assert seen.attention_backend == "CPU_ATTN"
            assert seen.block_size > 0
            assert seen.prefix_caching
            assert seen.max_model_len == MAX_MODEL_LEN
        ratio = candidate.provenance.kv_capacity_tokens / baseline.provenance.kv_capacity_tokens
        assert ratio == pytest.approx(2, rel=0.02), "half the bytes hold twice the tokens"

    def test_it_names_the_model_by_its_content_and_the_software_by_version(
        self, baseline: Life, candidate: Life
    ) -> None:
        seen = baseline.provenance
        kind, _, digest = seen.model_id.partition(":")
        assert (kind, len(bytes.fromhex(digest))) == ("sha256", 32)
        assert seen.model_id == candidate.provenance.model_id
        assert seen.chat_template_sha256
        assert {name for name, version in seen.versions if version} == {
            "pytest_kvcache", "python", "torch", "transformers", "vllm",
        }  # fmt: skip

    def test_every_thread_stays_on_the_slots_cores(self, baseline: Life) -> None:
        assert baseline.provenance.device_ids == baseline.slot.cores
        assert baseline.provenance.threads == len(baseline.slot.cores)
        assert baseline.allowed_cores == set(baseline.slot.cores)


class TestGenerating:
    def test_the_same_set_twice_gives_the_same_tokens(self, baseline: Life, candidate: Life) -> None:
        assert baseline.again == baseline.outputs
        assert candidate.again == candidate.outputs

    def test_outputs_come_in_the_prompts_order(self, baseline: Life) -> None:
        assert [output.prompt_id for output in baseline.outputs] == [prompt.id for prompt in SET.prompts]
        assert all(len(output.token_ids) == SET.sampling.max_tokens for output in baseline.outputs)
        assert "Paris" in baseline.outputs[0].text

    def test_a_set_goes_through_in_one_batch(self, baseline: Life) -> None:
        assert baseline.seconds < 0.7 * len(SET.prompts) * baseline.seconds_for_one

    def test_chats_go_through_the_models_template_and_texts_do_not(self, baseline: Life) -> None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(refmodels.ensure("gqa") / "tokenizer.json"))
        asked = [
            tokenizer.decode(output.prompt_token_ids, skip_special_tokens=False)
            for output in baseline.outputs
        ]
        assert tuple(asked[: len(OPENINGS)]) == OPENINGS
        for text, question in zip(asked[len(OPENINGS) :], QUESTIONS, strict=True):
            assert f"<|im_start|>user\n{question}<|im_end|>" in text
            assert text.endswith("<|im_start|>assistant\n")

    def test_what_is_too_long_for_the_model_is_one_line_and_harms_nothing(self, baseline: Life) -> None:
        for refused in baseline.refusals:
            assert f"more than the {MAX_MODEL_LEN - 1} that the model has room for" in refused
            assert "\n" not in refused
        assert baseline.again == baseline.outputs


class TestScoring:
    def test_every_token_gets_a_log_probability(self, baseline: Life, candidate: Life) -> None:
        for life in (baseline, candidate):
            for score, output in zip(life.scores, baseline.outputs, strict=True):
                logprobs = np.frombuffer(score.logprobs, "<f4")
                assert score.token_ids == output.token_ids
                assert logprobs.size == len(output.token_ids)
                assert np.isfinite(logprobs).all()
                assert (logprobs <= 0).all()

    def test_the_longest_text_that_may_be_generated_can_be_scored(self, baseline: Life) -> None:
        room = MAX_MODEL_LEN - 1 - len(baseline.outputs[0].prompt_token_ids)
        assert len(baseline.longest.token_ids) == room
        assert len(baseline.longest.logprobs) == 4 * room

    def test_the_most_probable_come_first_and_hold_the_given_tokens_own_value(self, baseline: Life) -> None:
        for score in baseline.scores:
            top = np.frombuffer(score.top_logprobs, "<f4").reshape(-1, score.k)
            ids = np.frombuffer(score.top_ids, "<i4").reshape(-1, score.k)
            assert (np.diff(top, axis=1) <= 0).all()
            given = np.frombuffer(score.logprobs, "<f4")
            here = ids == np.asarray(score.token_ids)[:, None]
            assert (top[here] == given[here.any(axis=1)]).all()

    def test_decoding_along_a_text_reads_the_same_cache_as_prefill(
        self, baseline: Life, candidate: Life, partial: Life
    ) -> None:
        for life in (baseline, candidate, partial):
            assert [score.token_ids for score in life.decoded] == [score.token_ids for score in life.scores]
            assert mean_difference(life.decoded, life.scores) < AGREEMENT
        assert mean_difference(candidate.decoded, baseline.decoded) > 2 * AGREEMENT

    def test_the_probe_has_found_that_prefill_reads_the_cache(self, baseline: Life, candidate: Life) -> None:
        for seen in (baseline.provenance, candidate.provenance):
            assert seen.scoring == "prefill"
            assert seen.scoring_difference is not None
            assert seen.scoring_difference < AGREEMENT

    def test_greedy_text_is_nearly_always_on_top_for_its_own_engine(self, baseline: Life) -> None:
        agreement = [
            np.frombuffer(score.top_ids, "<i4").reshape(-1, score.k)[:, 0] == np.asarray(score.token_ids)
            for score in baseline.scores
        ]
        assert np.concatenate(agreement).mean() > 0.9

    def test_rounding_the_cache_costs_probability_and_does_so_otherwise_in_fewer_layers(
        self, baseline: Life, candidate: Life, partial: Life
    ) -> None:
        assert 0 < delta_nll(candidate, baseline) < 0.5
        assert 0 < delta_nll(partial, baseline) != delta_nll(candidate, baseline)
        assert same_top(candidate, baseline) < 1


def delta_nll(candidate: Life, baseline: Life) -> float:
    pairs = zip(candidate.scores, baseline.scores, strict=True)
    return float(np.mean([compare_scores(ours, theirs).delta_nll for ours, theirs in pairs]))


def same_top(candidate: Life, baseline: Life) -> float:
    pairs = zip(candidate.scores, baseline.scores, strict=True)
    return float(np.mean([compare_scores(ours, theirs).same_top for ours, theirs in pairs]))


def test_three_engines_in_a_row_leave_nothing_behind(baseline: Life, candidate: Life, partial: Life) -> None:
    for life in (baseline, candidate, partial):
        assert life.processes_left == []
        assert life.memory_lost < LEAKED


# Ends that nobody planned


def test_an_engine_killed_at_work_is_one_line_and_leaves_nothing(tmp_path: Path, mark: str) -> None:
    def kill_at_work(phase: str, *_: int) -> None:
        if phase == "generating":
            os.kill(engine_pids(mark)[0], signal.SIGKILL)

    with started(spec("ref:tiny-qwen3", "fp8_e4m3"), tmp_path, kill_at_work) as (engine, _):
        with pytest.raises(EngineError) as caught:
            engine.generate(SET.prompts, Sampling(max_tokens=7000, ignore_eos=True))
        assert processes.marked(mark) == []
    assert "died while generating" in str(caught.value)
    assert "SIGKILL" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_outlives_a_pytest_that_is_killed_while_the_engine_loads(tmp_path: Path, mark: str) -> None:
    suite = Path(__file__).parents[1] / "suites" / "test_verdict.py"
    options = ["--kv-dtypes=fp8", "--kv-models=ref:tiny-qwen3", f"--kv-report={tmp_path}", "--kv-no-cache"]
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(suite), *options],
        stdout=subprocess.DEVNULL,
    ) as run:
        wait_for(lambda: any(log.stat().st_size for log in tmp_path.rglob("engine.log")))
        assert engine_pids(mark)
        run.kill()
    assert processes.left_after(mark, 15.0) == []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
