"""CI systems show the verdicts; what a model wrote cannot change the page, and no courtesy fails a run."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import (
    ALL_KINDS,
    EMPTY,
    FAILED,
    FROM_GOLDEN,
    FULL,
    HOSTILE,
    PASSED,
    PERFORMANCE,
    hostile_results,
    results,
    verdict,
)

from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.records import Metric, Reason, ReasonCode, Verdict, VerdictKind
from pytest_kvcache.report import append_github_summary, github_summary, junit_properties, write_reports


def test_the_summary_is_one_table_and_the_reasons() -> None:
    lines = github_summary(FULL).splitlines()
    assert lines[1].startswith("### KV cache")
    assert [line.count("|") for line in lines if line.startswith("|")] == [9] * (2 + len(ALL_KINDS))
    assert sum(line.startswith("- ") for line in lines) == 5
    assert lines[-1].startswith("<pre>pytest suites ")


@pytest.mark.parametrize("kind", VerdictKind)
def test_every_verdict_is_named(kind: VerdictKind) -> None:
    assert f" {kind} |" in github_summary(results(verdict(kind)))


def test_the_summary_tells_what_a_candidate_gains() -> None:
    summary = github_summary(results(PASSED, performance=PERFORMANCE))
    assert "- **gqa-fp8** holds 2.00 times the tokens&#58; 200,000, or 24.4 requests of 8,192" in summary
    assert "- **gqa-fp8** tokens per second&#58; 1.05 &#91;1.01, 1.08&#93; times" in summary


def test_an_empty_run_is_told() -> None:
    assert "nothing was judged" in github_summary(EMPTY)


def test_confidential_texts_stay_out_of_the_summary() -> None:
    assert FULL.excerpts[0].prompt_text not in github_summary(FULL)
    assert "every morning" not in github_summary(FULL)


def test_hostile_text_cannot_change_the_page() -> None:
    summary = github_summary(hostile_results())
    bad = replace(FAILED, reasons=FAILED.reasons[:1], golden="vllm 0.31.0 on cpu")
    harmless = replace(hostile_results(), verdicts=(bad,))
    assert skeleton(summary) == skeleton(github_summary(harmless))
    assert all(line.isprintable() for line in summary.splitlines())


def test_the_summary_is_the_same_each_time() -> None:
    assert github_summary(FULL) == github_summary(FULL)


@pytest.mark.parametrize("limit", [80, 500, 20_000])
def test_a_long_summary_is_cut_at_a_line_and_says_so(limit: int) -> None:
    reasons = (Reason(ReasonCode.DEGENERATE, None, "循环 " * 100),) * 200
    summary = github_summary(results(replace(FAILED, reasons=reasons)), limit)
    assert len(summary.encode()) <= limit
    assert summary.endswith("_The rest was left out: it is longer than GitHub shows._\n")
    whole = github_summary(results(replace(FAILED, reasons=reasons)), 10**9)
    assert set(summary.splitlines()[:-1]) <= set(whole.splitlines())


def test_the_summary_is_appended_to_what_other_steps_wrote(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    assert append_github_summary(FULL, {"GITHUB_STEP_SUMMARY": str(file)}) == []
    assert file.read_text("utf-8") == "before\n" + github_summary(FULL)


def test_all_that_is_appended_keeps_within_the_limit_of_one_step(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_bytes(b"x" * (2**20 - 300))
    environ = {"GITHUB_STEP_SUMMARY": str(file)}
    assert append_github_summary(FULL, environ) == []
    assert 2**20 - 300 < file.stat().st_size <= 2**20
    file.write_bytes(b"x" * 2**20)
    assert append_github_summary(FULL, environ) == [
        "warning: the GitHub step summary was not written: no room is left in it"
    ]
    assert file.stat().st_size == 2**20


@pytest.mark.parametrize("environ", [{}, {"GITHUB_STEP_SUMMARY": ""}])
def test_elsewhere_nothing_is_written(environ: dict[str, str]) -> None:
    assert append_github_summary(FULL, environ) == []


def test_a_summary_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    assert append_github_summary(FULL, {"GITHUB_STEP_SUMMARY": str(tmp_path)}) == [
        "warning: the GitHub step summary was not written: Is a directory"
    ]


def test_junit_properties_name_the_verdict_its_reasons_and_figures() -> None:
    assert junit_properties(FAILED) == [
        ("kv_model", "ref:gqa-kbias"),
        ("kv_dtype", "fp8"),
        ("kv_verdict", "fail"),
        ("kv_reasons", "delta-nll degenerate"),
        ("kv_delta_nll", "0.338"),
        ("kv_same_top", "0.612"),
        ("kv_degenerate_candidate", "0.375"),
        ("kv_degenerate_baseline", "0.016"),
    ]


@pytest.mark.parametrize(
    "sample", [*ALL_KINDS, *hostile_results().verdicts], ids=lambda sample: sample.verdict
)
def test_junit_properties_are_printable(sample: Verdict) -> None:
    assert all(value.isprintable() for pair in junit_properties(sample) for value in pair)


def test_junit_properties_say_when_a_figure_is_not_finite() -> None:
    sample = verdict(metrics={"delta_nll": Metric(float("inf"), 0.0, float("inf"), 64)})
    assert ("kv_delta_nll", "inf") in junit_properties(sample)


# All reports at once


def test_all_reports_are_written_and_named(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    lines = write_reports(tmp_path / "report", FULL, {"GITHUB_STEP_SUMMARY": str(summary)})
    assert lines == [
        f"results: {tmp_path}/report/results.json",
        f"report:  {tmp_path}/report/report.html",
        "next:    pytest suites --kv-models=ref:gqa-kbias --kv-dtypes=fp8,fp8_e5m2",
    ]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.html", "results.json"]
    assert summary.exists()


def test_without_jinja2_the_results_are_still_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert write_reports(tmp_path, results(PASSED), {}) == [
        f"results: {tmp_path}/results.json",
        "warning: the HTML report needs jinja2: pip install 'pytest-kvcache[report]'",
    ]


def test_results_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(KvCacheError):
        write_reports(tmp_path / "report", FULL, {})


def test_lines_about_files_are_harmless(tmp_path: Path) -> None:
    lines = write_reports(tmp_path / "\x1b[2J\n::error::", FULL, {})
    assert all(line.isprintable() for line in lines)


def test_importing_the_reports_loads_nothing_heavy() -> None:
    program = "import sys, pytest_kvcache.report; print({'jinja2', 'numpy', 'pytest'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


def skeleton(markdown: str) -> list[str]:
    """Return the markup of a page, each stretch of shown text replaced by one ``x``."""
    shown = re.sub(r"&#\d+;", "x", markdown)
    assert HOSTILE not in shown
    return [re.sub(r"[^|*`<>\[\]#_~\n]+", "x", line) for line in shown.splitlines()]


def test_the_summary_says_which_verdicts_rest_on_goldens() -> None:
    line = "- **gqa-fp8** is held against goldens: gqa-golden, written by vllm 0.31.0 on cpu"
    assert line in github_summary(results(FROM_GOLDEN)).splitlines()
    assert "goldens" not in github_summary(results(PASSED))
