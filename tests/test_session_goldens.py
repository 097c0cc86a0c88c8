"""A golden stands in for an engine: a session reads what it holds, and starts nothing for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import scripted

from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.errors import EngineError, GoldenError
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import EngineSpec, Golden, PromptSet, ReasonCode, Verdict, VerdictKind
from pytest_kvcache.seeding import FindGolden, no_goldens
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

SET = scripted.prompt_set("plain", prompts=16, max_tokens=80)
PENALISED = scripted.prompt_set("penalised", prompts=16, max_tokens=80, repetition_penalty=1.1)
SETS = (SET, PENALISED)
TODAY = date(2026, 1, 1)
Change = Callable[[Golden], Golden]


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "starts"
    path.touch()
    monkeypatch.setenv("SCRIPTED_ENGINE_STARTS", str(path))
    return path


def session(tmp_path: Path, run: str, *requests: Request, find: FindGolden = no_goldens) -> Session:
    devices = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path)
    factory = child_engine_factory(30.0, scripted.COMMAND)
    return Session(make_plan(requests), RunStore(tmp_path / run), factory, devices, find_golden=find)


def fresh(dtype: str = "fp8_e4m3", **arguments: Any) -> Target:
    return scripted.target(scripted.spec(dtype, **arguments), scripted.spec("auto", **arguments))


def beside_golden(target: Target) -> Target:
    """Return the target with its baseline's golden as baseline."""
    golden = replace(target.baseline, golden=target.baseline.kv_cache_dtype)
    return replace(target, baseline=golden, baseline_id="model-golden")


def judge(tmp_path: Path, run: str, target: Target, find: FindGolden = no_goldens) -> Verdict:
    running = session(tmp_path, run, Request(target, SETS, with_scores=True), find=find)
    return running.verdict(target, SETS, Policy(), TODAY)


def written(tmp_path: Path, spec: EngineSpec) -> FindGolden:
    """Return what finds the goldens that an engine writes when it runs as a baseline by itself."""
    alone = scripted.target(spec, spec)
    running = session(tmp_path, "writing", Request(alone, SETS, with_scores=True))
    goldens = {
        prompt_set.key: Golden(
            spec.kv_cache_dtype,
            running.outputs(alone, prompt_set),
            running.scores(alone, prompt_set) if prompt_set == SET else None,
            running.floor(alone, prompt_set) if prompt_set == SET else None,
        )
        for prompt_set in SETS
    }
    return lambda _, prompt_set: goldens[prompt_set.key]


def changed(find: FindGolden, change: Change) -> FindGolden:
    return lambda spec, prompt_set: change(find(spec, prompt_set))


def without(find: FindGolden, name: str) -> FindGolden:
    def found(spec: EngineSpec, prompt_set: PromptSet) -> Golden:
        if prompt_set.name == name:
            raise GoldenError(f"there is no golden of {name}: write it")
        return find(spec, prompt_set)

    return found


def of_another(**provenance: Any) -> Change:
    def change(golden: Golden) -> Golden:
        outputs = golden.outputs
        return replace(golden, outputs=replace(outputs, provenance=replace(outputs.provenance, **provenance)))

    return change


@pytest.mark.parametrize("arguments", [{}, {"candidate_script": "loop"}, {"candidate_delta_nll": 0.2}])
def test_a_golden_baseline_gives_the_verdict_of_the_engine_that_wrote_it_and_starts_none(
    tmp_path: Path, starts: Path, arguments: dict[str, Any]
) -> None:
    target = fresh(**arguments)
    both = judge(tmp_path, "two-engines", target)
    find = written(tmp_path, target.baseline)
    before = len(starts.read_text().splitlines())
    verdict = judge(tmp_path, "golden", beside_golden(target), find)
    assert [line.split()[1] for line in starts.read_text().splitlines()[before:]] == ["fp8_e4m3"]
    assert (verdict.source, verdict.golden) == ("golden", "vllm scripted on cpu")
    assert replace(verdict, source="fresh", golden=None, baseline_id=both.baseline_id) == both


def test_a_missing_golden_is_red_in_its_own_words_and_spoils_no_other_set(
    tmp_path: Path, starts: Path
) -> None:
    target = fresh()
    find = without(written(tmp_path, target.baseline), "penalised")
    target = beside_golden(target)
    before = len(starts.read_text().splitlines())
    verdict = judge(tmp_path, "golden", target, find)
    assert verdict.verdict is VerdictKind.FAIL
    assert verdict.source == "golden"
    assert [(reason.code, reason.message) for reason in verdict.reasons] == [
        (ReasonCode.BASELINE_FAILED, "there is no golden of penalised: write it")
    ]
    assert len(starts.read_text().splitlines()) == before
    running = session(tmp_path, "golden", Request(target, SETS, with_scores=True), find=find)
    assert len(running.outputs(target.of_baseline(), SET)) == 16
    assert running.verdict(target, [SET], Policy(), TODAY).verdict is VerdictKind.PASS


def test_a_session_without_goldens_says_so(tmp_path: Path) -> None:
    verdict = judge(tmp_path, "golden", beside_golden(fresh()))
    assert "this session reads none" in verdict.summary


def test_a_golden_without_log_probabilities_is_no_baseline_but_its_texts_can_be_read(tmp_path: Path) -> None:
    target = fresh()
    find = changed(written(tmp_path, target.baseline), lambda g: replace(g, scores=None, floor=None))
    target = beside_golden(target)
    verdict = judge(tmp_path, "golden", target, find)
    assert [reason.code for reason in verdict.reasons] == [ReasonCode.BASELINE_FAILED]
    assert "holds no log-probabilities" in verdict.summary
    assert "--kv-golden-update=all" in verdict.summary
    running = session(tmp_path, "golden", Request(target, SETS), find=find)
    assert len(running.outputs(target.of_baseline(), SET)) == 16


def test_a_golden_without_a_noise_floor_vouches_for_nobody(tmp_path: Path) -> None:
    target = fresh()
    find = changed(written(tmp_path, target.baseline), lambda golden: replace(golden, floor=None))
    verdict = judge(tmp_path, "golden", beside_golden(target), find)
    assert [reason.code for reason in verdict.reasons] == [ReasonCode.BASELINE_FAILED]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (
            of_another(kv_cache_quantized=True, kv_cache_dtype="fp8_e5m2"),
            ReasonCode.BASELINE_QUANTIZED,
            "read them as golden:bfloat16",
        ),
        (of_another(model_id="commit:older"), ReasonCode.MODEL_CHANGED, "if the change is meant, refresh it"),
    ],
)
def test_a_golden_of_another_kind_is_refused_with_advice(
    tmp_path: Path, change: Change, code: ReasonCode, words: str
) -> None:
    target = fresh()
    verdict = judge(
        tmp_path, "golden", beside_golden(target), changed(written(tmp_path, target.baseline), change)
    )
    assert [reason.code for reason in verdict.reasons] == [code]
    assert words in verdict.summary


def test_prompts_that_became_other_tokens_make_a_golden_void(tmp_path: Path) -> None:
    def retokenised(golden: Golden) -> Golden:
        first, *rest = golden.outputs.outputs
        outputs = (replace(first, prompt_token_ids=(1, 2, 4)), *rest)
        return replace(golden, outputs=replace(golden.outputs, outputs=outputs))

    target = fresh()
    find = changed(written(tmp_path, target.baseline), retokenised)
    verdict = judge(tmp_path, "golden", beside_golden(target), find)
    assert [reason.code for reason in verdict.reasons] == [ReasonCode.MODEL_CHANGED]
    assert "1 of 16 prompts of plain (e.g. p0) became other tokens" in verdict.summary


def test_the_same_dtype_today_is_held_against_its_golden(tmp_path: Path) -> None:
    target = scripted.target(scripted.spec("auto"), scripted.spec("auto"))
    find = written(tmp_path, target.spec)
    verdict = judge(tmp_path, "golden", beside_golden(target), find)
    assert verdict.verdict is VerdictKind.PASS
    assert verdict.metrics["kld"].value == 0.0


def test_a_candidate_that_did_not_quantize_still_tests_nothing(tmp_path: Path) -> None:
    target = fresh(candidate_resolves_to="bfloat16")
    verdict = judge(tmp_path, "golden", beside_golden(target), written(tmp_path, target.baseline))
    assert [reason.code for reason in verdict.reasons] == [ReasonCode.SAME_AS_BASELINE]


def test_a_targets_own_golden_is_scored_by_its_engine_of_today(tmp_path: Path, starts: Path) -> None:
    target = fresh()
    find = written(tmp_path, target.spec)
    before = len(starts.read_text().splitlines())
    running = session(tmp_path, "own", Request(target, SETS, with_golden=True), find=find)
    golden = running.golden(target, SET)
    assert golden.variant == "fp8_e4m3"
    assert golden.outputs.spec == target.golden
    assert golden.floor is not None
    scores = running.scores(target, SET, text_of=target.golden)
    assert [s.token_ids for s in scores.scores] == [o.token_ids for o in golden.outputs]
    assert running.golden(target, PENALISED).scores is None
    assert [line.split()[1] for line in starts.read_text().splitlines()[before:]] == ["fp8_e4m3"]


def test_a_targets_missing_golden_does_not_break_its_engine(tmp_path: Path) -> None:
    target = fresh()
    running = session(tmp_path, "own", Request(target, SETS, with_golden=True))
    with pytest.raises(EngineError, match="this session reads none"):
        running.golden(target, SET)
    assert len(running.outputs(target, SET)) == 16


def test_the_store_tells_what_came_from_goldens(tmp_path: Path) -> None:
    target = fresh()
    judge(tmp_path, "golden", beside_golden(target), written(tmp_path, target.baseline))
    goldens = RunStore(tmp_path / "golden").read_goldens()
    assert sorted(outputs.prompt_set.name for outputs in goldens) == ["penalised", "plain"]
    assert RunStore(tmp_path / "writing").read_goldens() == ()
