"""A session runs a plan: each engine once, whoever asks, however many processes share the run store."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import scripted
from scripted_engine import Script

from pytest_kvcache.engines import wire
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.engines.pool import FLOOR_TEXTS, FLOOR_TOKENS, floor_requests
from pytest_kvcache.errors import EngineError
from pytest_kvcache.handle import EngineHandle
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import Output, OutputSet, PromptSet, ReasonCode, VerdictKind
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

SET = scripted.prompt_set("plain", prompts=16, max_tokens=80)
PENALISED = scripted.prompt_set("penalised", prompts=16, max_tokens=80, repetition_penalty=1.1)
TODAY = date(2026, 1, 1)


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "starts"
    path.touch()
    monkeypatch.setenv("SCRIPTED_ENGINE_STARTS", str(path))
    return path


def make_session(tmp_path: Path, *targets: Target, sets: tuple[PromptSet, ...] = (SET, PENALISED)) -> Session:
    requests = [Request(target, sets, with_scores=True) for target in targets]
    devices = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path)
    factory = child_engine_factory(30.0, scripted.COMMAND)
    return Session(make_plan(requests), RunStore(tmp_path / "run"), factory, devices)


def make_target(**arguments: Any) -> Target:
    return scripted.target(scripted.spec("fp8_e4m3", **arguments), scripted.spec("auto", **arguments))


def test_many_questions_start_each_engine_once(tmp_path: Path, starts: Path) -> None:
    target = make_target()
    session = make_session(tmp_path, target)
    for _ in range(3):
        assert len(session.outputs(target, SET)) == 16
        assert len(session.scores(target, SET).scores) == 16
        assert session.verdict(target, [SET, PENALISED], Policy(), TODAY).verdict is VerdictKind.PASS
    assert starts.read_text().splitlines() == [
        "scripted/model auto (0,)",
        "scripted/model fp8_e4m3 (0,)",
    ]


def test_a_candidates_outputs_alone_need_no_baseline(tmp_path: Path, starts: Path) -> None:
    target = make_target()
    devices = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path)
    factory = child_engine_factory(30.0, scripted.COMMAND)
    session = Session(make_plan([Request(target, (SET,))]), RunStore(tmp_path / "run"), factory, devices)
    assert len(session.outputs(target, SET)) == 16
    assert starts.read_text().split()[1::4] == ["fp8_e4m3"]


def test_both_engines_score_the_baselines_texts(tmp_path: Path) -> None:
    target = make_target(candidate_delta_nll=0.5)
    session = make_session(tmp_path, target)
    texts = [output.token_ids for output in session.outputs(target.of_baseline(), SET)]
    for side in (target, target.of_baseline()):
        scores = session.scores(side, SET)
        assert [score.token_ids for score in scores.scores] == texts
        assert scores.text_of == target.baseline.key


def test_the_baseline_scores_some_of_its_texts_one_at_a_time_in_the_same_life(
    tmp_path: Path, starts: Path
) -> None:
    target = make_target()
    session = make_session(tmp_path, target)
    session.verdict(target, [SET, PENALISED], Policy(), TODAY)
    floor = session.floor(target, SET)
    texts = session.outputs(target.of_baseline(), SET)
    assert floor.spec == target.baseline
    assert [(score.prompt_id, score.token_ids) for score in floor.scores] == [
        (output.prompt_id, output.token_ids[:FLOOR_TOKENS]) for output in texts.outputs[:FLOOR_TEXTS]
    ]
    assert floor == session.floor(target.of_baseline(), SET)
    assert len(starts.read_text().splitlines()) == 2


def test_a_baseline_that_cannot_show_its_noise_floor_vouches_for_nobody(tmp_path: Path) -> None:
    target = make_target(refuses_single_texts=True)
    session = make_session(tmp_path, target)
    verdict = session.verdict(target, [SET, PENALISED], Policy(), TODAY)
    assert verdict.verdict is VerdictKind.FAIL
    assert [reason.code for reason in verdict.reasons] == [ReasonCode.BASELINE_FAILED]
    assert "a text alone" in verdict.reasons[0].message


def test_the_floor_is_of_the_longest_texts_where_too_few_are_long_enough() -> None:
    lengths = (32, 3, 200, 0, 70, 20, 10, 66, 65, 1, 32, 90, *[40] * 8)
    outputs = tuple(Output(f"p{i}", (1,), (5,) * n, "", "stop") for i, n in enumerate(lengths))
    provenance = Script(wire.Start(scripted.spec(), "", (0,), "")).provenance()
    requests = floor_requests(OutputSet(scripted.spec(), SET, provenance, outputs, 0.0))
    kept = [0, 2, 4, 5, 7, 8, 10, 11, *range(12, 20)]
    assert [(r.prompt_id, len(r.token_ids)) for r in requests] == [
        (f"p{i}", 20 if i == 5 else 32) for i in kept
    ]


def test_a_broken_candidate_is_a_red_verdict_and_is_not_tried_again(tmp_path: Path, starts: Path) -> None:
    target = make_target(candidate_crash_at="generating")
    session = make_session(tmp_path, target)
    for _ in range(2):
        verdict = session.verdict(target, [SET], Policy(), TODAY)
        assert verdict.verdict is VerdictKind.FAIL
        assert [reason.code for reason in verdict.reasons] == ["engine-failed"]
        assert "SIGKILL" in verdict.summary
    with pytest.raises(EngineError, match="SIGKILL"):
        session.outputs(target, SET)
    assert len(session.outputs(target.of_baseline(), SET)) == 16
    assert len(starts.read_text().splitlines()) == 2


@pytest.mark.parametrize("place", ["loading", "generating", "scoring"])
def test_a_broken_baseline_vouches_for_nobody(tmp_path: Path, place: str) -> None:
    target = scripted.target(scripted.spec("fp8_e4m3"), scripted.spec("auto", fail_at=place))
    session = make_session(tmp_path, target)
    verdict = session.verdict(target, [SET], Policy(), TODAY)
    assert verdict.verdict is VerdictKind.FAIL
    assert [reason.code for reason in verdict.reasons] == ["baseline-failed"]
    assert f"scripted failure while {place}" in verdict.summary


def test_what_was_generated_before_a_failure_is_kept(tmp_path: Path) -> None:
    target = make_target(candidate_fail_at="scoring")
    session = make_session(tmp_path, target)
    assert session.verdict(target, [SET], Policy(), TODAY).reasons[0].code == "engine-failed"
    assert len(session.outputs(target, SET)) == 16


def test_what_no_test_declared_is_generated_late(tmp_path: Path, starts: Path) -> None:
    target = make_target()
    other = scripted.prompt_set("late", prompts=2)
    session = make_session(tmp_path, target)
    session.outputs(target, SET)
    assert len(session.outputs(target, other)) == 2
    assert len(starts.read_text().splitlines()) == 3


def test_ad_hoc_work_shares_the_planned_engines_life(tmp_path: Path, starts: Path) -> None:
    target = make_target()
    requests = [Request(target, (SET,), ad_hoc=True)]
    devices = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path)
    factory = child_engine_factory(30.0, scripted.COMMAND)
    session = Session(make_plan(requests), RunStore(tmp_path / "run"), factory, devices)
    handle = EngineHandle(session, target, lambda _: SET)
    assert len(handle.outputs("any name")) == 16
    assert [o.prompt_id for o in handle.generate(["Say a.", "Say b."], max_tokens=3)] == [
        "prompt-0",
        "prompt-1",
    ]
    assert len(handle.score([1, 2, 3]).token_ids) == 2
    assert handle.provenance.kv_cache_dtype == "fp8_e4m3"
    session.close()
    assert len(starts.read_text().splitlines()) == 1


def test_reports_say_what_each_engine_cost(tmp_path: Path) -> None:
    target = make_target()
    session = make_session(tmp_path, target)
    session.verdict(target, [SET, PENALISED], Policy(), TODAY)
    reports = RunStore(tmp_path / "run").reports()
    assert [report.label for report in reports] == ["model-auto", "model-fp8_e4m3"]
    written, scored, floor = 2 * 16 * 80, 16 * 80, FLOOR_TEXTS * FLOOR_TOKENS
    assert [(r.tokens_generated, r.tokens_scored) for r in reports] == [
        (written, scored + floor),
        (written, scored),
    ]
    assert all(report.peak_rss_bytes for report in reports)


WORKER = """
import sys, time
from datetime import date
from pathlib import Path
from typing import Any
sys.path.insert(0, {tests!r})
import scripted
from test_session import SET, PENALISED
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.plan import Request, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore
root = Path({root!r})
targets = [
    scripted.target(scripted.spec(d, m, seconds=0.3), scripted.spec("auto", m, seconds=0.3))
    for m in ("a/a", "b/b") for d in ("fp8_e4m3", "fp8_e5m2")
]
session = Session(
    make_plan([Request(t, (SET, PENALISED), with_scores=True) for t in targets]),
    RunStore(root / "run"),
    child_engine_factory(30.0, scripted.COMMAND),
    DevicePool(2, kind="cpu", device_ids=[0, 1][:{cores}], lock_dir=root),
)
for target in targets:
    print(session.verdict(target, [SET, PENALISED], Policy(), date(2026, 1, 1)).verdict, flush=True)
session.close()
"""


def run_workers(tmp_path: Path, count: int, cores: int) -> list[subprocess.Popen[str]]:
    program = WORKER.format(tests=str(Path(__file__).parent), root=str(tmp_path), cores=cores)
    command = [sys.executable, "-c", program]
    return [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]


@pytest.mark.parametrize(("workers", "cores"), [(2, 2), (3, 2), (3, 1)])
def test_workers_share_the_work_and_start_no_engine_twice(
    tmp_path: Path, starts: Path, workers: int, cores: int
) -> None:
    running = run_workers(tmp_path, workers, cores)
    printed = [process.communicate(timeout=60)[0].split() for process in running]
    assert printed == [["pass"] * 4] * workers
    lines = starts.read_text().splitlines()
    assert len(lines) == 6
    assert len({line.rsplit(" ", 1)[0] for line in lines}) == 6
    if cores == 2:
        assert {line.rsplit(" ", 1)[1] for line in lines} == {"(0,)", "(1,)"}


def test_a_killed_workers_work_is_taken_over(tmp_path: Path, starts: Path) -> None:
    victim, survivor = run_workers(tmp_path, 2, 2)
    while len(starts.read_text().splitlines()) < 2:
        time.sleep(0.02)
    victim.kill()
    victim.communicate()
    assert survivor.communicate(timeout=60)[0].split() == ["pass"] * 4
