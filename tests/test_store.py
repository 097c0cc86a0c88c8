"""The run store: entries whole or not at all, claims that die with their owner."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest
import scripted
from scripted_engine import Script

from pytest_kvcache.engines import wire
from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.records import (
    EngineReport,
    EngineSpec,
    OutputSet,
    Provenance,
    ScoreRequest,
    ScoreSet,
)
from pytest_kvcache.store import RunStore

SPEC = scripted.spec("fp8_e4m3", seconds=0)
SET = scripted.prompt_set()


def entries() -> tuple[OutputSet, ScoreSet]:
    script = Script(wire.Start(SPEC, SPEC.model, (0,), ""))
    outputs = tuple(script.generate(prompt, SET.sampling) for prompt in SET.prompts)
    scores = tuple(
        script.score(ScoreRequest(o.prompt_id, o.prompt_token_ids, o.token_ids), 3) for o in outputs
    )
    return OutputSet(SPEC, SET, script.provenance(), outputs, 1.5), ScoreSet(SPEC, SET, SPEC.key, scores, 0.5)


def test_what_is_put_is_read_by_another_store_of_the_same_directory(tmp_path: Path) -> None:
    outputs, scores = entries()
    store = RunStore(tmp_path)
    assert store.outputs(SPEC, SET) is None
    store.put_outputs(outputs)
    store.put_scores(scores)
    assert store.floor(SPEC, SET) is None
    store.put_floor(scores)
    other = RunStore(tmp_path)
    assert other.outputs(SPEC, SET) == outputs
    assert other.scores(SPEC, SET, SPEC) == other.floor(SPEC, SET) == scores


def test_what_engines_resolved_is_known_of_those_that_ran_and_of_those_whose_outputs_were_kept(
    tmp_path: Path,
) -> None:
    outputs, _ = entries()
    store = RunStore(tmp_path)
    assert store.provenances() == {}
    store.put_outputs(outputs)
    assert store.provenances() == {SPEC: outputs.provenance}
    today = replace(outputs.provenance, kv_capacity_tokens=7)
    store.put_report(report(SPEC, today))
    store.put_report(report(replace(SPEC, model="broken"), None))
    assert store.provenances() == {SPEC: today}


def report(spec: EngineSpec, provenance: Provenance | None) -> EngineReport:
    return EngineReport(spec.model, spec, provenance, None, 1.0, 0.0, 0.0, 0, 0, 0, "")


def test_text_that_breaks_lines_survives(tmp_path: Path) -> None:
    outputs, _ = entries()
    hostile = replace(outputs.outputs[0], text="a\nb\r\x85\u2028\x00\ud83d\ude00 ::error::")
    hostile = replace(hostile, text=hostile.text.encode("utf-16", "surrogatepass").decode("utf-16"))
    entry = replace(outputs, outputs=(hostile, *outputs.outputs[1:]))
    RunStore(tmp_path).put_outputs(entry)
    assert RunStore(tmp_path).outputs(SPEC, SET) == entry


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    store.put_outputs(entries()[0])
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert files
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in [tmp_path / "run", *files])


def test_a_damaged_entry_is_named_with_the_cure(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.put_outputs(entries()[0])
    [file] = tmp_path.rglob("outputs-*.jsonl")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(KvCacheError, match=r"outputs-.*is damaged.*remove") as caught:
        store.outputs(SPEC, SET)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "harm", [lambda data: data[40:], lambda data: data.replace(b'"bfloat16"', b'"\xff"')]
)
@pytest.mark.parametrize("read", [lambda store: store.outputs(SPEC, SET), RunStore.provenances])
def test_a_damaged_header_is_named_with_the_cure_whatever_is_read(
    tmp_path: Path, read: Callable[[RunStore], object], harm: Callable[[bytes], bytes]
) -> None:
    store = RunStore(tmp_path)
    store.put_outputs(entries()[0])
    [file] = tmp_path.rglob("outputs-*.jsonl")
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(KvCacheError, match=r"outputs-.*is damaged.*remove") as caught:
        read(store)
    assert "\n" not in str(caught.value)


def test_a_verdict_of_bytes_that_are_no_text_is_named_with_the_cure(tmp_path: Path) -> None:
    verdicts = tmp_path / "verdicts"
    verdicts.mkdir()
    (verdicts / "gqa-fp8.json").write_bytes(b'{"verdict": {"id": "\xff"}}')
    with pytest.raises(KvCacheError, match=r"gqa-fp8.json is damaged.*remove"):
        RunStore(tmp_path).verdicts()


@pytest.mark.parametrize("harm", [lambda data: data[:-40], lambda _: b"", lambda _: b"\0\0\0\2{}"])
def test_damaged_scores_are_named_with_the_cure(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    store = RunStore(tmp_path)
    store.put_scores(entries()[1])
    [file] = tmp_path.rglob("scores-*")
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(KvCacheError, match=r"scores-.*is damaged.*remove") as caught:
        store.scores(SPEC, SET, SPEC)
    assert "\n" not in str(caught.value)


def test_scores_that_are_damaged_or_removed_after_the_set_was_read_are_named_with_the_cure(
    tmp_path: Path,
) -> None:
    store = RunStore(tmp_path)
    store.put_scores(entries()[1])
    scores = store.scores(SPEC, SET, SPEC)
    assert scores
    [file] = tmp_path.rglob("scores-*")
    file.write_bytes(file.read_bytes()[:-40] + bytes(40))
    assert scores.scores[0] == entries()[1].scores[0]
    with pytest.raises(KvCacheError, match=r"scores-.*is damaged.*remove"):
        list(scores.scores)
    file.unlink()
    with pytest.raises(KvCacheError, match=r"scores-.*is damaged.*remove"):
        list(scores.scores)


def test_scores_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)
    written = entries()[1]
    store.put_scores(written)
    inflate = Mock(side_effect=zlib.decompress)
    monkeypatch.setattr("zlib.decompress", inflate)
    scores = store.scores(SPEC, SET, SPEC)
    assert scores
    assert len(scores.scores) == len(written.scores)
    assert inflate.call_count == 0
    assert scores.scores[-1] == written.scores[-1]
    assert next(iter(scores.scores)) == written.scores[0]
    assert inflate.call_count == 2
    assert scores.scores[1:3] == written.scores[1:3]


def test_scores_in_a_format_of_another_version_are_refused_by_its_number(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.put_scores(entries()[1])
    [file] = tmp_path.rglob("scores-*")
    header = msgspec.msgpack.encode({"format": 99, "entry": "of another shape"})
    file.write_bytes(len(header).to_bytes(4, "big") + header)
    with pytest.raises(KvCacheError, match="format 99"):
        store.scores(SPEC, SET, SPEC)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RunStore(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(KvCacheError, match=r"cannot write .*No space left.*--kv-report"):
        store.put_outputs(entries()[0])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert store.outputs(SPEC, SET) is None


def test_a_claim_is_exclusive_and_ends_with_the_block(tmp_path: Path) -> None:
    one, two = RunStore(tmp_path), RunStore(tmp_path)
    with one.claim(SPEC) as ours:
        assert ours
        with two.claim(SPEC) as theirs:
            assert not theirs
    with two.claim(SPEC) as theirs:
        assert theirs


def test_a_killed_owner_frees_its_claim_and_is_not_running(tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import SPEC
from pathlib import Path
from pytest_kvcache.store import RunStore
store = RunStore(Path({str(tmp_path)!r}))
with store.claim(SPEC):
    store.mark_running(SPEC)
    print("running", flush=True)
    time.sleep(60)
"""
    store = RunStore(tmp_path)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        assert store.is_running(SPEC)
        owner.send_signal(signal.SIGKILL)
    assert not store.is_running(SPEC)
    with store.claim(SPEC) as ours:
        assert ours
        assert not RunStore(tmp_path).is_running(SPEC)


def test_a_failure_is_kept_for_all(tmp_path: Path) -> None:
    RunStore(tmp_path).put_failure(SPEC, "engine died")
    assert RunStore(tmp_path).failure(SPEC) == "engine died"
    assert RunStore(tmp_path).failure(scripted.spec()) is None
