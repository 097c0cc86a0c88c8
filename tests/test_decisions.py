"""The simulation of decisions judges draws of recorded outputs as verdicts would be judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import decisions
import numpy as np
import pytest
from verdict_samples import PROVENANCE, QUANTIZED, output_set, prose, scores

from pytest_kvcache.measures.noninferiority import Means
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import VerdictKind
from pytest_kvcache.store import RunStore


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> decisions.Bench:
    """A recorded run of one model: healthy under one dtype, ruined under the other."""
    store = RunStore(tmp_path)
    for name in ("smoke", "smoke-penalised"):
        prompts = load_prompt_set(name)
        baseline = output_set(prompts, PROVENANCE, lambda i: prose(i, 160))
        store.put_outputs(baseline)
        store.put_scores(scores(baseline))
        for dtype, delta in (("fp8_e4m3", 0.03), ("fp8_e5m2", 0.6)):
            candidate = output_set(prompts, QUANTIZED, lambda i: prose(900 + i, 160), dtype)
            store.put_outputs(candidate)
            judged = scores(baseline, lambda i, d=delta: d + 0.01 * (i % 3), lambda _: 0.05)  # type: ignore[misc]
            store.put_scores(replace(judged, spec=candidate.spec))
    monkeypatch.setattr(decisions, "HEALTHY", ("gqa",))
    monkeypatch.setattr(decisions, "QUANTIZED", ())
    monkeypatch.setattr(decisions, "FRAGILE", ())
    return decisions.Bench(store, draws=5)


def test_healthy_draws_pass_and_ruined_ones_fail(bench: decisions.Bench) -> None:
    healthy = bench.tally(bench.recorded("gqa", "fp8_e4m3"), 16)
    assert (healthy.failed, healthy.open, healthy.void) == (0, 0, 0)
    assert bench.tally(bench.recorded("gqa", "fp8_e5m2"), 16).failed == 5


def test_draws_do_not_depend_on_what_was_drawn_before(bench: decisions.Bench) -> None:
    recorded = bench.recorded("gqa", "fp8_e4m3")
    first = bench.tally(recorded, 8)
    bench.tally(recorded, 12)
    assert bench.tally(recorded, 8) == first


def test_texts_are_cut_to_the_tokens_asked_for(bench: decisions.Bench) -> None:
    short = bench.recorded("gqa", "fp8_e4m3", 32)
    whole = bench.recorded("gqa", "fp8_e4m3")
    assert short.plain == whole.plain == 32
    sample = short.samples["delta_nll"]
    assert isinstance(sample, Means)
    assert sample.values.mean() == pytest.approx(0.04, abs=0.001)


def test_a_baseline_that_degenerates_voids_a_draw(bench: decisions.Bench) -> None:
    recorded = bench.recorded("gqa", "fp8_e4m3")
    looping = [replace(fault, degenerate=(False, True)) for fault in recorded.faults]
    sick = replace(recorded, faults=looping)
    rows = np.arange(8)
    assert sick.verdict(rows, rows) is None
    assert recorded.verdict(rows, rows) is VerdictKind.PASS


def test_what_is_not_recorded_is_said_in_one_line(bench: decisions.Bench) -> None:
    with pytest.raises(SystemExit, match="holds no outputs and scores of ref:llama under fp8_e4m3"):
        bench.recorded("llama", "fp8_e4m3")


def test_the_document_has_every_table(bench: decisions.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_effects", lambda: iter(()))
    text = "\n".join(bench.document())
    assert "| pass |" in text
    assert "| fail: delta-nll, kld |" in text
    assert "| gqa | 0 / 0 |" in text
    assert "| gqa fp8_e5m2 | 0.610 |" in text
    assert "Of 30 healthy runs 0 failed (0.00%" in text
