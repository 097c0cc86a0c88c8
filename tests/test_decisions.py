"""The simulation of decisions judges draws of recorded outputs as verdicts would be judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import decisions
import numpy as np
import pytest
from evidence.draws import Draw
from recorded_samples import recorded_store

from pytest_kvcache.measures.noninferiority import Means
from pytest_kvcache.records import ReasonCode


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> decisions.Bench:
    monkeypatch.setattr(decisions, "HEALTHY", ("gqa",))
    monkeypatch.setattr(decisions, "QUANTIZED", ())
    monkeypatch.setattr(decisions, "FRAGILE", ())
    return decisions.Bench(recorded_store(tmp_path), draws=5)


def test_healthy_draws_pass_and_ruined_ones_fail(bench: decisions.Bench) -> None:
    healthy = bench.tally(bench.candidate("gqa", "fp8_e4m3"), 16)
    assert (healthy.failed, healthy.open, healthy.void, healthy.failures) == (0, 0, 0, {})
    ruined = bench.tally(bench.candidate("gqa", "fp8_e5m2"), 16)
    assert (ruined.failed, ruined.failures[ReasonCode.RECALL]) == (5, 5)


def test_draws_do_not_depend_on_what_was_drawn_before(bench: decisions.Bench) -> None:
    candidate = bench.candidate("gqa", "fp8_e4m3")
    first = bench.tally(candidate, 8)
    bench.tally(candidate, 12)
    assert bench.tally(candidate, 8) == first


def test_every_endpoint_is_judged_on_the_prompts_that_were_drawn_of_its_sets(bench: decisions.Bench) -> None:
    candidate = bench.candidate("gqa", "fp8_e5m2")
    assert (candidate.plain, candidate.penalised, candidate.tasks) == (32, 16, 24)
    rows = np.arange(16)
    losing, keeping = (Draw(rows, rows[:8], np.array(tasks)) for tasks in ([*range(12)], [0]))
    codes = [{reason.code for reason in candidate.reasons(draw) or ()} for draw in (losing, keeping)]
    assert ReasonCode.RECALL in codes[0]
    assert ReasonCode.RECALL not in codes[1]
    assert ReasonCode.DELTA_NLL in codes[0] & codes[1]


def test_texts_are_cut_to_the_tokens_asked_for(bench: decisions.Bench) -> None:
    short = bench.candidate("gqa", "fp8_e4m3", 32)
    whole = bench.candidate("gqa", "fp8_e4m3")
    assert short.plain == whole.plain == 32
    sample = short.samples["delta_nll"]
    assert isinstance(sample, Means)
    assert sample.values.mean() == pytest.approx(0.04, abs=0.001)


def test_a_baseline_that_degenerates_voids_a_draw(bench: decisions.Bench) -> None:
    candidate = bench.candidate("gqa", "fp8_e4m3")
    looping = [replace(fault, degenerate=(False, True)) for fault in candidate.faults]
    rows = np.arange(8)
    assert replace(candidate, faults=looping).reasons(Draw(rows, rows, rows)) is None
    assert candidate.reasons(Draw(rows, rows, rows)) == []


def test_what_is_not_recorded_is_said_in_one_line(bench: decisions.Bench) -> None:
    with pytest.raises(SystemExit, match="holds no outputs and scores of ref:llama under fp8_e4m3 for smoke"):
        bench.candidate("llama", "fp8_e4m3")


def test_the_document_has_every_table(bench: decisions.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_effects", lambda: iter(()))
    text = "\n".join(bench.document())
    assert "| pass |" in text
    assert "given these 1 recordings" in text
    assert "A noise floor that was not\nrecorded is taken as zero." in text
    assert "| fail: delta-nll, kld, recall-lost |" in text
    assert "| gqa | 0 / 0 |" in text
    assert "| gqa fp8_e5m2 | 0.610 |" in text
    assert "| gqa fp8_e5m2 | 1.000 | 0 | 0 | 100 | 100 | 100 |" in text
    assert "Of 30 healthy runs 0 failed (0.00%" in text
