"""Results as a run would leave them, for the tests of every report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from verdict_samples import QUANTIZED

from pytest_kvcache.records import (
    Coverage,
    DivergenceDetail,
    EngineReport,
    EngineSpec,
    Estimate,
    Excerpt,
    KindFigures,
    Measurement,
    Metric,
    Performance,
    PositionFigure,
    PromptSetUse,
    Ratio,
    Reason,
    ReasonCode,
    Signal,
    Verdict,
    VerdictKind,
)
from pytest_kvcache.report import SCHEMA_VERSION, Results, RunInfo, Selection

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\n::error::owned\n##[error]owned\r\n"
    "| a | `b` | **c** | <script>alert(1)</script> | [d](http://e) @team\n```\n</pre></td>&lt;\x00\ud800"
)

LOOP = "He was a gentle soul, " + "a gentle soul, " * 14


def verdict(kind: VerdictKind = VerdictKind.PASS, **changes: Any) -> Verdict:
    sample = Verdict(
        id="gqa-kbias-fp8",
        model="ref:gqa-kbias",
        revision=None,
        kv_dtype="fp8",
        resolved_kv_dtype="fp8_e4m3",
        variant=None,
        baseline_id="gqa-kbias-auto",
        verdict=kind,
        source="fresh",
        prompt_sets=("smoke",),
        metrics={
            "delta_nll": Metric(0.338, 0.313, 0.367, 64, margin=0.1, floor=0.002),
            "same_top": Metric(0.612, 0.58, 0.64, 64, margin=0.85, floor=0.97),
            "degenerate_candidate": Metric(0.375, 0.26, 0.5, 64),
            "degenerate_baseline": Metric(0.016, 0.0, 0.08, 64),
        },
        reasons=(),
        coverage=Coverage(64, 64, 0),
    )
    return replace(sample, **changes)


PASSED = verdict(
    id="gqa-fp8",
    model="ref:gqa",
    baseline_id="gqa-auto",
    metrics={
        "delta_nll": Metric(
            0.05, 0.046, 0.055, 64, margin=0.1, floor=0.001, alpha=0.0125, beta=0.2, detectable=0.108
        ),
        "kld": Metric(0.02, 0.018, 0.023, 64, margin=0.05, alpha=0.0125, beta=0.2, detectable=0.054),
        "recall_loss": Metric(0.0, -0.14, 0.14, 24, margin=0.1, alpha=0.0125, beta=0.2, detectable=0.31),
        "same_top": Metric(0.925, 0.915, 0.934, 64, margin=0.85, floor=0.976),
        "degenerate_candidate": Metric(0.0, 0.0, 0.06, 64),
        "degenerate_baseline": Metric(0.0, 0.0, 0.06, 64),
    },
    divergence=DivergenceDetail(
        growth=Estimate(-0.004, -0.009, 0.001, 64),
        bins=(
            PositionFigure(0, 16, Estimate(0.031, 0.025, 0.038, 64)),
            PositionFigure(16, 27, Estimate(0.018, None, None, 1)),
        ),
        kinds=(
            KindFigures("code", *(Estimate(value, 0.04, 0.99, 8) for value in (0.061, 0.052, 0.906))),
            KindFigures("chat", *(Estimate(value, 0.01, 0.99, 56) for value in (0.048, 0.016, 0.928))),
        ),
    ),
)
FAILED = verdict(
    VerdictKind.FAIL,
    reasons=(
        Reason(
            ReasonCode.DELTA_NLL, "delta_nll", "delta NLL is 0.338 [0.313, 0.367], above its margin 0.100"
        ),
        Reason(
            ReasonCode.DEGENERATE, "degenerate_candidate", "24 of 64 outputs loop, 1 of 64 in the baseline"
        ),
    ),
)
KNOWN_BAD = verdict(
    VerdictKind.KNOWN_BAD,
    id="mha-kbias-fp8",
    model="ref:mha-kbias",
    reasons=(Reason(ReasonCode.KNOWN_BAD_REPRODUCED, None, "declared known-bad (delta-nll), reproduced"),),
)
INCONCLUSIVE = verdict(
    VerdictKind.INCONCLUSIVE,
    id="gqa-fp8_e5m2",
    kv_dtype="fp8_e5m2",
    resolved_kv_dtype=None,
    metrics={},
    reasons=(Reason(ReasonCode.ENGINE_FAILED, None, "the engine did not start within 600 s"),),
    coverage=Coverage(64, 0, 64),
)
FROM_GOLDEN = replace(PASSED, source="golden", baseline_id="gqa-golden", golden="vllm 0.31.0 on cpu")
ALL_KINDS = (PASSED, FAILED, KNOWN_BAD, INCONCLUSIVE)

PROVENANCE = replace(
    QUANTIZED,
    model="ref:gqa-kbias",
    model_path="/models/gqa-kbias",
    model_id="sha256:0123",
    device="AMD EPYC 9554",
    cpu_flags=("avx512f", "avx512_bf16"),
    versions=(("vllm", "0.32.0"), ("torch", "2.13.0+cpu")),
    environment=(("VLLM_CPU_KVCACHE_SPACE", "2"),),
    seconds_to_load=12.5,
    scoring_difference=0.0021,
)
RAN = EngineReport(
    label="gqa-kbias-fp8",
    spec=EngineSpec("ref:gqa-kbias", "fp8_e4m3", engine_args=(("max_model_len", "2048"),)),
    provenance=PROVENANCE,
    failure=None,
    seconds_to_start=12.5,
    seconds_to_generate=20.1,
    seconds_to_score=13.2,
    tokens_generated=8000,
    tokens_scored=8000,
    peak_rss_bytes=3543348019,
    log="/reports/gqa-kbias-fp8.log",
)
BROKEN = replace(
    RAN,
    label="gqa-fp8_e5m2",
    spec=EngineSpec("ref:gqa", "fp8_e5m2"),
    provenance=None,
    failure="the engine did not start within 600 s",
    log="/reports/gqa-fp8_e5m2.log",
)
PERFORMANCE = (
    Performance(
        "gqa-auto",
        "gqa-auto",
        kv_capacity_tokens=100_000,
        max_model_len=8192,
        concurrency=100_000 / 8192,
        kv_capacity_ratio=None,
        measured={"tokens_per_second": Measurement(1234.5, 1200.0, 1250.0, 5)},
    ),
    Performance(
        "gqa-fp8",
        "gqa-auto",
        kv_capacity_tokens=200_000,
        max_model_len=8192,
        concurrency=200_000 / 8192,
        kv_capacity_ratio=2.0,
        measured={"tokens_per_second": Measurement(1296.2, 1260.0, 1300.0, 5, Ratio(1.05, 1.008, 1.083))},
        not_measured="pytest-benchmark is not installed",
    ),
)
EXCERPT = Excerpt(
    verdict_id=FAILED.id,
    prompt_set=FAILED.prompt_sets[0],
    prompt_id="story-07",
    prompt_text="Tell me about a robot who lived on a hill.",
    baseline_text="He was a gentle soul, and every morning he went down to the village to help.",
    candidate_text=LOOP,
    signals=(Signal("tandem-run", "fail", "char", 22, len(LOOP), '"a gentle soul, " 14 times'),),
)
RUN = RunInfo(
    complete=True,
    selection=Selection(keyword=None, mark=None, deselected=0),
    started="2025-06-01T12:00:00Z",
    seconds=184.2,
    command=("pytest", "suites", "--kv-dtypes=fp8,fp8_e5m2", "--kv-models=ref:gqa,ref:gqa-kbias"),
    prompt_sets=(PromptSetUse("smoke", "0123456789abcdef", 64, 128),),
)
EMPTY = Results(SCHEMA_VERSION, RUN, engines=(), verdicts=(), excerpts=())


def results(*verdicts: Verdict, **changes: Any) -> Results:
    return replace(EMPTY, verdicts=verdicts, **changes)


FULL = results(*ALL_KINDS, engines=(RAN, BROKEN), excerpts=(EXCERPT,))


def hostile_results() -> Results:
    """Return results in which every text that could come from a model or a user is hostile."""
    reason = Reason(ReasonCode.DEGENERATE, None, HOSTILE)
    bad = verdict(
        VerdictKind.FAIL,
        id=f"id{HOSTILE}",
        model=HOSTILE,
        kv_dtype=HOSTILE,
        reasons=(reason,),
        golden=HOSTILE,
    )
    excerpt = Excerpt(
        bad.id, bad.prompt_sets[0], HOSTILE, HOSTILE, HOSTILE, f"{HOSTILE} and more", EXCERPT.signals
    )
    engine = replace(BROKEN, label=HOSTILE, failure=HOSTILE, log=HOSTILE)
    run = replace(RUN, command=("pytest", HOSTILE), selection=Selection(HOSTILE, HOSTILE, 3))
    measured = {HOSTILE: Measurement(0.0, -1.0, 1e300, 0)}
    performance = Performance(bad.id, HOSTILE, 0, 0, 0.0, 0.0, measured, not_measured=HOSTILE)
    return results(bad, run=run, engines=(engine,), excerpts=(excerpt,), performance=(performance,))
