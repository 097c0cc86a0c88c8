"""Faults in real engines: each strikes under its own condition, and leaves everything else as it was.

What the suites make of them is the matrix: see ``benchmarks/matrix``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_engine import spec, started

from pytest_kvcache.conditions import SHIPPED
from pytest_kvcache.engines import Engine
from pytest_kvcache.engines.vllm_scoring import PROBE_TEXTS
from pytest_kvcache.errors import EngineError
from pytest_kvcache.policy import load_policy
from pytest_kvcache.records import EngineSpec, Prompt, Sampling, Score, ScoreRequest

pytestmark = pytest.mark.vllm

MODEL = "ref:gqa"
HERE = Path(__file__).parent
VARIANTS = load_policy(HERE / "faults" / "policy.toml").variants
PROMPT = 300
"""Tokens of each prompt: two whole blocks of 128, which the prefix cache can keep, and some."""
TEXT = 40
"""Tokens of each text: enough for four of them to outgrow the cache of the preempted twin."""
HARM = 0.1
"""Nats per token: five times what any healthy condition changes."""

Figures = np.ndarray[Any, np.dtype[np.float32]]
"""float32[texts, tokens]: log-probabilities of the same texts."""


@pytest.fixture(scope="module", autouse=True)
def _faults_can_be_imported() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE))
        yield


def variant(name: str, condition: str = "batch") -> EngineSpec:
    """Return the engine of a fault, in the twin that a condition asks for."""
    asked = dict(VARIANTS[name].engine_args)
    plain = spec(MODEL, VARIANTS[name].kv_cache_dtype, **asked)
    return EngineSpec(
        MODEL, plain.kv_cache_dtype, None, (*plain.engine_args, *SHIPPED[condition].engine_args)
    )


def requests(engine: Engine) -> list[ScoreRequest]:
    """Return four texts whose prompts differ from their first block on, and which repeat what those say."""
    rotated = ((2 * "".join(PROBE_TEXTS[i:] + PROBE_TEXTS[:i]))[:1300] for i in range(4))
    prompts = [Prompt(f"text-{i}", "test", text=text) for i, text in enumerate(rotated)]
    tokens = [output.prompt_token_ids for output in engine.generate(prompts, Sampling(max_tokens=1))]
    return [
        ScoreRequest(f"text-{i}", ids[:PROMPT], ids[PROMPT : PROMPT + TEXT]) for i, ids in enumerate(tokens)
    ]


def in_all_manners(engine: Engine) -> dict[str, Figures]:
    texts = requests(engine)
    batch = figures(engine.score(texts, path="decode"))
    again = figures(engine.score(texts, path="decode", keep_prefix_cache=True))
    alone = figures(engine.score(texts[:1], path="decode"))
    return {"batch": batch, "again": again, "alone": alone}


def figures(scores: Sequence[Score]) -> Figures:
    return np.stack([np.frombuffer(score.logprobs, "<f4") for score in scores])


def harm(found: Figures, healthy: Figures) -> float:
    return float(np.abs(found - healthy).mean())


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figures]:
    with started(spec(MODEL, "fp8"), tmp_path_factory.mktemp("healthy")) as (engine, _):
        return in_all_manners(engine)


@pytest.mark.parametrize(
    ("name", "struck"),
    [
        ("stale-prefix-block", {"again"}),
        ("neighbours-block", {"batch", "again"}),
        ("wrong-alone", {"alone"}),
    ],
)
def test_a_fault_strikes_under_its_condition_and_changes_nothing_else(
    name: str, struck: set[str], healthy: dict[str, Figures], tmp_path: Path
) -> None:
    with started(variant(name), tmp_path) as (engine, _):
        found = in_all_manners(engine)
    harmed = {manner for manner in found if harm(found[manner], healthy[manner]) > HARM}
    untouched = {manner for manner in found if np.array_equal(found[manner], healthy[manner])}
    assert (harmed, untouched) == (struck, set(found) - struck)


@pytest.mark.parametrize(
    ("name", "condition"), [("chunk-scale", "chunked"), ("lost-after-preemption", "preempted")]
)
def test_a_fault_strikes_in_the_twin_of_its_condition(
    name: str, condition: str, healthy: dict[str, Figures], tmp_path: Path
) -> None:
    with started(variant(name, condition), tmp_path) as (engine, _):
        found = figures(engine.score(requests(engine), path="decode"))
    assert harm(found, healthy["batch"]) > HARM


def test_numbers_are_lost_from_one_position_on(healthy: dict[str, Figures], tmp_path: Path) -> None:
    with started(variant("nan-layer"), tmp_path) as (engine, _):
        late = figures(engine.score(requests(engine), path="decode"))
        [early] = engine.generate([Prompt("early", "test", text="Once")], Sampling(max_tokens=8))
    assert np.isfinite(healthy["batch"]).all()
    assert not np.isfinite(late).any()
    assert early.text


def test_what_is_written_is_wrong_while_scores_are_right(healthy: dict[str, Figures], tmp_path: Path) -> None:
    with started(variant("stuck-token"), tmp_path) as (engine, _):
        scored = figures(engine.score(requests(engine), path="decode"))
        [written] = engine.generate([Prompt("stuck", "test", text="Once")], Sampling(max_tokens=64))
    assert np.array_equal(scored, healthy["batch"])
    assert written.text.endswith("!" * 40)
    assert not written.text.startswith("!")


def test_an_engine_that_refuses_to_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match="does not support a quantized KV cache"),
        started(variant("refused-start"), tmp_path),
    ):
        pass
