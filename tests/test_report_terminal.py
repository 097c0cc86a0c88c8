"""The summary on the terminal says what was decided and why, and is harmless to print."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_samples import (
    ALL_KINDS,
    EMPTY,
    EXCERPT,
    FAILED,
    FROM_GOLDEN,
    FULL,
    INCONCLUSIVE,
    KNOWN_BAD,
    PASSED,
    PERFORMANCE,
    RUN,
    hostile_results,
    results,
    verdict,
)

from pytest_kvcache.records import Metric, Verdict
from pytest_kvcache.report import MARKUP, Results, Selection, Style, plain, verdict_lines
from pytest_kvcache.report.table import headline, next_step, number


def test_the_whole_summary_reads_like_this() -> None:
    assert plain(verdict_lines(FULL, width=100)) == SUMMARY


SUMMARY = """\
4 verdicts: 1 pass, 1 fail, 1 inconclusive, 1 known-bad

model          kv dtype  verdict       delta NLL [95 %]      margin  KLD    same-top  degenerate (baseline)
ref:gqa        fp8       pass          0.050 [0.046, 0.055]  0.100   0.020  92.5 %    0.0 % (0.0 %)
ref:gqa-kbias  fp8       fail          0.338 [0.313, 0.367]  0.100   -      61.2 %    37.5 % (1.6 %)
ref:mha-kbias  fp8       known-bad     0.338 [0.313, 0.367]  0.100   -      61.2 %    37.5 % (1.6 %)
ref:gqa-kbias  fp8_e5m2  inconclusive  -                     -       -      -         -

why
  gqa-kbias-fp8
    delta-nll: delta NLL is 0.338 [0.313, 0.367], above its margin 0.100
    degenerate: 24 of 64 outputs loop, 1 of 64 in the baseline
  mha-kbias-fp8
    known-bad-reproduced: declared known-bad (delta-nll), reproduced
  gqa-fp8_e5m2
    engine-failed: the engine did not start within 600 s

harm that so many prompts show
  gqa-fp8  delta_nll 0.108, kld 0.054, recall_loss 0.310 (alpha 1.25 %, beta 20 %)

noise floor
  gqa-fp8  delta_nll 0.001
  gqa-kbias-fp8  delta_nll 0.002
  mha-kbias-fp8  delta_nll 0.002

engines that failed
  gqa-fp8_e5m2  the engine did not start within 600 s (log: /reports/gqa-fp8_e5m2.log)

evidence
  gqa-kbias-fp8  story-07  Tell me about a robot who lived on a hill.
    baseline   He was a gentle soul, and every morning he went down to the village to help.
    candidate  He was a gentle soul, a gentle soul, a gentle soul, a gentle soul, a gentle soul, a
               gentle soul, a gentle soul, a gentle soul, a gentle soul, a gentle soul, a gentle…
    found      tandem-run: "a gentle soul, " 14 times"""


def test_what_a_candidate_gains_stands_beside_its_verdict() -> None:
    _, said = plain(verdict_lines(results(PASSED, performance=PERFORMANCE), width=80)).split(
        "\nwhat it buys, beside the baseline\n"
    )
    assert (
        said
        == """\
  gqa-auto  holds 100,000, or 12.2 requests of 8,192
    tokens per second: 1,234 [1,200, 1,250]
  gqa-fp8  holds 2.00 times the tokens: 200,000, or 24.4 requests of 8,192
    tokens per second: 1.05 [1.01, 1.08] times: 1,296 [1,260, 1,300]
    not measured: pytest-benchmark is not installed"""
    )


def test_of_a_baseline_that_nobody_measured_nothing_is_said() -> None:
    baseline = replace(PERFORMANCE[0], measured={})
    assert "buys" not in plain(verdict_lines(results(PASSED, performance=(baseline,))))


def test_every_figure_that_was_judged_says_which_harm_it_would_show_however_many_there_are() -> None:
    judged = Metric(0.0, 0.0, 0.1, 64, margin=0.1, alpha=0.0025, beta=0.2, detectable=0.25)
    names = [f"excess_of_{number}" for number in range(10)]
    sample = verdict(metrics={"same_top": Metric(0.9, 0.8, 1.0, 64), **dict.fromkeys(names, judged)})
    _, said = plain(verdict_lines(results(sample), width=80)).split("\nharm that so many prompts show\n")
    assert " ".join(said.split()) == (
        "gqa-kbias-fp8 " + ", ".join(f"{name} 0.250" for name in names) + " (alpha 0.25 %, beta 20 %)"
    )
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("sample", "style"),
    [
        (PASSED, Style.GOOD),
        (KNOWN_BAD, Style.EXPECTED),
        (FAILED, Style.BAD),
        (INCONCLUSIVE, Style.BAD),
    ],
    ids=["pass", "known-bad", "fail", "inconclusive"],
)
def test_the_verdict_word_carries_its_colour(sample: Verdict, style: Style) -> None:
    segments = [segment for line in verdict_lines(results(sample)) for segment in line]
    assert [segment.text.strip() for segment in segments if segment.style is style] == [sample.verdict]


def test_every_style_has_markup() -> None:
    assert set(MARKUP) == set(Style)


def test_an_empty_run_says_that_nothing_was_judged() -> None:
    assert plain(verdict_lines(EMPTY)) == "no verdict: nothing was judged"


def test_a_clean_run_needs_no_next_step() -> None:
    assert next_step(results(PASSED, KNOWN_BAD)) is None


def test_a_partial_run_says_so_and_how_to_run_it_whole() -> None:
    command = ("pytest", "suites", "-k", "loop", "-m=slow", "-mslow", "--kv-dtypes=fp8")
    run = replace(RUN, complete=False, selection=Selection("loop", None, 7), command=command)
    partial = results(run=run)
    assert headline(partial) == "partial run: no verdict (7 kv tests deselected by -k loop)"
    assert next_step(partial) == "pytest suites --kv-dtypes=fp8"


def test_a_partial_run_shows_the_verdicts_that_it_has() -> None:
    run = replace(RUN, complete=False, selection=Selection(None, "not slow", 1))
    expected = "partial run (1 kv test deselected by -m 'not slow'); 1 verdict: 1 pass"
    assert headline(results(PASSED, run=run)) == expected


def test_a_run_without_a_command_suggests_none() -> None:
    assert next_step(results(FAILED, run=replace(RUN, command=()))) is None


def test_the_next_step_repeats_only_what_is_red_and_is_safe_to_paste() -> None:
    command = ("pytest", "--kv-dtypes", "fp8,auto", "-p", "no:xdist")
    variant = replace(FAILED, model="/models/my model", variant="fp8-skip")
    sample = results(PASSED, variant, FAILED, run=replace(RUN, command=command))
    assert next_step(sample) == (
        "pytest -p no:xdist '--kv-models=/models/my model,ref:gqa-kbias' --kv-dtypes=fp8-skip,fp8"
    )


@pytest.mark.parametrize("width", [1, 20, 80, 200])
@pytest.mark.parametrize("sample", [FULL, hostile_results()], ids=["full", "hostile"])
def test_no_line_holds_a_control_character_or_opens_with_a_workflow_command(
    sample: Results, width: int
) -> None:
    for line in plain(verdict_lines(sample, width=width)).split("\n"):
        assert line == "" or line.isprintable()
        assert not line.lstrip().startswith("::")
        assert "##[" not in line


def test_a_command_that_wrapping_brings_to_the_start_of_a_line_is_disarmed() -> None:
    excerpt = replace(EXCERPT, candidate_text="x" * 60 + " ::error::owned")
    lines = plain(verdict_lines(results(FAILED, excerpts=(excerpt,)), width=80)).split("\n")
    assert any(line.strip() == r"\x3a:error::owned" for line in lines)


def test_reasons_stay_within_the_width() -> None:
    reason = replace(FAILED.reasons[0], message="word " * 60)
    sample = results(replace(FAILED, reasons=(reason,), metrics={}))
    _, why = plain(verdict_lines(sample, width=80)).split("\nwhy\n")
    assert why.count("\n") > 3
    assert max(map(len, why.split("\n"))) <= 80


def test_an_excerpt_shows_where_the_candidate_leaves_the_baseline() -> None:
    shared = "The same beginning. " * 40
    excerpt = replace(
        EXCERPT, baseline_text=f"{shared}Then home.", candidate_text=f"{shared}!!!!!!", signals=()
    )
    text = plain(verdict_lines(results(FAILED, excerpts=(excerpt,))))
    assert "Then home." in text
    assert "!!!!!!" in text


def test_an_empty_output_is_named() -> None:
    excerpt = replace(EXCERPT, candidate_text="", signals=())
    assert "candidate  (empty)" in plain(verdict_lines(results(FAILED, excerpts=(excerpt,))))


def test_a_passing_verdict_needs_no_evidence_and_a_failing_one_shows_two_at_most() -> None:
    excerpts = tuple(replace(EXCERPT, prompt_id=f"p{number}") for number in range(5))
    of_passing = replace(EXCERPT, verdict_id=PASSED.id, prompt_id="healthy")
    text = plain(verdict_lines(results(PASSED, FAILED, excerpts=(of_passing, *excerpts))))
    assert "p0" in text
    assert "p1" in text
    assert "p2" not in text
    assert "healthy" not in text


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_not_shown_as_a_number(figure: float) -> None:
    metrics = {name: Metric(figure, 0.0, figure, 64) for name in FAILED.metrics}
    row = plain(verdict_lines(results(verdict(metrics=metrics)))).split("\n")[3]
    assert "n/a [0.000, n/a]" in row
    assert row.endswith("n/a (n/a)")
    assert number(figure) == "n/a"


def test_the_summary_is_the_same_each_time() -> None:
    assert verdict_lines(results(*ALL_KINDS)) == verdict_lines(results(*ALL_KINDS))


def test_goldens_as_baseline_are_named_with_what_wrote_them() -> None:
    text = plain(verdict_lines(results(FROM_GOLDEN, PASSED)))
    assert "\ngoldens as baseline\n  gqa-fp8  gqa-golden, written by vllm 0.31.0 on cpu\n" in text
    assert "goldens" not in plain(verdict_lines(results(PASSED)))
