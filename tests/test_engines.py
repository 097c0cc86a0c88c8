"""An engine in a child process: whatever happens to it, pytest lives on and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import scripted
from processes import HEEDING_INTERRUPTS

from pytest_kvcache.engines.child import ChildEngine
from pytest_kvcache.engines.devices import Slot
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.errors import EngineError
from pytest_kvcache.records import EngineSpec, ScoreRequest

SET = scripted.prompt_set()
CORE = min(os.sched_getaffinity(0))

Starter = Callable[..., ChildEngine]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    started: list[ChildEngine] = []

    def start_engine(spec: EngineSpec, timeout: float = 30.0) -> ChildEngine:
        factory = child_engine_factory(timeout, scripted.COMMAND)
        engine = factory(spec, Slot("cpu", (CORE,)), tmp_path / "engine.log", lambda *_: None)
        assert isinstance(engine, ChildEngine)
        started.append(engine)
        return engine

    yield start_engine
    for engine in started:
        engine.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


def test_it_answers_in_the_order_of_the_prompts(start: Starter) -> None:
    engine = start(scripted.spec())
    outputs = engine.generate(SET.prompts, SET.sampling)
    assert [output.prompt_id for output in outputs] == [prompt.id for prompt in SET.prompts]
    scores = engine.score(
        [ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids) for o in outputs], top_k=3
    )
    assert [len(score.logprobs) for score in scores] == [4 * len(output.token_ids) for output in outputs]


def test_it_is_pinned_to_its_slot(start: Starter) -> None:
    assert start(scripted.spec()).provenance.threads == 1


@pytest.mark.parametrize("place", ["loading", "generating", "scoring"])
def test_a_crash_is_one_line_that_names_the_signal_and_the_log(
    start: Starter, place: str, tmp_path: Path
) -> None:
    def work() -> None:
        engine = start(scripted.spec(crash_at=place))
        outputs = engine.generate(SET.prompts, SET.sampling)
        engine.score([ScoreRequest("p", (1,), outputs[0].token_ids)])

    with pytest.raises(EngineError) as caught:
        work()
    message = str(caught.value)
    assert place in message
    assert "SIGKILL" in message
    assert str(tmp_path / "engine.log") in message
    assert "\n" not in message


@pytest.mark.parametrize("place", ["loading", "generating"])
def test_a_hang_ends_at_the_timeout_and_says_which_option_gives_more(start: Starter, place: str) -> None:
    with pytest.raises(EngineError, match=rf"no answer for 1 s while {place}.*--kv-timeout"):
        start(scripted.spec(hang_at=place), timeout=1.0).generate(SET.prompts, SET.sampling)


def test_a_refusal_is_passed_on_in_the_engines_own_words(start: Starter) -> None:
    with pytest.raises(EngineError, match="scripted failure while loading"):
        start(scripted.spec(fail_at="loading"))


def test_a_failed_batch_leaves_the_engine_usable(start: Starter) -> None:
    engine = start(scripted.spec(fail_at="scoring"))
    with pytest.raises(EngineError, match="scripted failure while scoring"):
        engine.score([ScoreRequest("p", (1,), (2,))])
    assert len(engine.generate(SET.prompts, SET.sampling)) == len(SET.prompts)


def test_a_closed_engine_says_so(start: Starter) -> None:
    engine = start(scripted.spec())
    engine.close()
    assert engine.close() == 0
    with pytest.raises(EngineError, match="closed"):
        engine.generate(SET.prompts, SET.sampling)


def test_closing_takes_grandchildren_along_that_left_its_session(start: Starter, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    engine = start(scripted.spec(grandchild=str(pid_file)))
    pid = int(pid_file.read_text())
    assert is_alive(pid)
    engine.close()
    assert not is_alive(pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_a_killed_parent(tmp_path: Path, how: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    program = tmp_path / "parent.py"
    program.write_text(
        f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import scripted
from processes import HEEDING_INTERRUPTS
from pathlib import Path
from pytest_kvcache.engines.devices import Slot
from pytest_kvcache.engines.launch import child_engine_factory
factory = child_engine_factory(30, scripted.COMMAND)
spec = scripted.spec(grandchild={str(pid_file)!r})
engine = factory(spec, Slot("cpu", ({CORE},)), Path({str(tmp_path / "log")!r}), print)
print("up", engine._process.pid, flush=True)
time.sleep(60)
""",
        encoding="utf-8",
    )
    command = [*HEEDING_INTERRUPTS, sys.executable, str(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        supervisor = next(int(line.split()[1]) for line in parent.stdout if line.startswith("up"))
        grandchild = int(pid_file.read_text())
        parent.send_signal(how)
    assert gone_within(grandchild, 10.0)
    assert gone_within(supervisor, 10.0)


def test_without_vllm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"vllm is not installed.*pytest-kvcache\[vllm\]"):
        child_engine_factory(1.0)(scripted.spec(), Slot("cpu", (CORE,)), tmp_path / "log", lambda *_: None)
