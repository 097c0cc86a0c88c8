"""The evidence about reference models is measured from recordings and told on one page."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence.page import page
from evidence.recorded import Recordings, adopt
from evidence.rows import Row, row_of
from recorded_samples import SETS, recorded_store

from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.store import RunStore

PROMPT_SETS = [load_prompt_set(name) for name in SETS]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    recordings = Recordings(recorded_store(tmp_path_factory.mktemp("run")), PROMPT_SETS)
    return [row_of(recordings, "gqa", dtype) for dtype in ("auto", "fp8_e4m3", "fp8_e5m2")]


def test_a_candidate_is_measured_beside_its_baseline(rows: list[Row]) -> None:
    baseline, healthy, ruined = rows
    assert baseline.against is None
    assert healthy.against
    assert healthy.against.verdict == "pass"
    assert healthy.against.metrics["delta_nll"].value == pytest.approx(0.04, abs=0.001)
    assert ruined.against
    assert ruined.against.verdict == "fail: delta-nll, kld, recall-lost"
    assert (baseline.right_answers, healthy.right_answers, ruined.right_answers) == (24, 24, 0)


def test_harm_that_is_the_same_everywhere_does_not_grow_along_the_text(rows: list[Row]) -> None:
    ruined = rows[2].against
    assert ruined
    assert ruined.growth.value == pytest.approx(0, abs=1e-6)
    assert [(each.start, each.end) for each in ruined.positions[:2]] == [(0, 16), (16, 32)]


def test_the_page_tells_what_was_measured(rows: list[Row]) -> None:
    text = "\n".join(page(rows, {}, PROMPT_SETS))
    assert "`smoke` (32 prompts, at most 160 tokens)" in text
    assert "as follows: 1 under `auto`, 1 under `fp8_e4m3`" in text
    assert "before noise floors" not in text
    assert "| ref:gqa | fp8_e5m2 | fail: delta-nll, kld, recall-lost |" in text
    assert "| ref:gqa | auto | 5120 |" in text
    assert "2x2" not in text
    assert text.count("| ref:gqa | auto | chat-01 | `") == 1


def test_earlier_runs_are_read_as_if_they_had_been_recorded_here(tmp_path: Path) -> None:
    recorded_store(tmp_path / "earlier")
    store = RunStore(tmp_path / "here")
    adopt(tmp_path / "earlier", store)
    assert row_of(Recordings(store, PROMPT_SETS), "gqa", "fp8_e4m3").prompts == 32


def test_candidates_without_a_noise_floor_are_counted(tmp_path: Path) -> None:
    store = recorded_store(tmp_path)
    for entry in store.root.glob("engines/*/floor-*"):
        entry.unlink()
    recordings = Recordings(store, PROMPT_SETS)
    rows = [row_of(recordings, "gqa", dtype) for dtype in ("auto", "fp8_e4m3", "fp8_e5m2")]
    text = "\n".join(page(rows, {}, PROMPT_SETS))
    assert "Of the 2 candidates 2 were judged with a noise floor of zero" in text


def test_tasks_that_were_not_recorded_are_said_to_be_missing(tmp_path: Path) -> None:
    store = recorded_store(tmp_path)
    recordings = Recordings(store, PROMPT_SETS)
    for entry in store.root.glob(f"engines/*fp8_e4m3*/outputs-{PROMPT_SETS[2].key}.jsonl"):
        entry.unlink()
    rows = [row_of(recordings, "gqa", dtype) for dtype in ("auto", "fp8_e4m3")]
    assert [row.tasks for row in rows] == [24, 0]
    text = "\n".join(page(rows, {}, PROMPT_SETS))
    assert "as follows: 1 under `auto`, 0 under `fp8_e4m3`" in text
    with pytest.raises(SystemExit, match="holds no outputs of ref:gqa under fp8_e4m3 for smoke-tasks"):
        recordings.evidence("gqa", "fp8_e4m3")
