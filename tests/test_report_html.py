"""The HTML report is one inert, self-contained page that shows what was found, and where."""

from __future__ import annotations

import re
import stat
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_samples import (
    EMPTY,
    EXCERPT,
    FAILED,
    FROM_GOLDEN,
    FULL,
    LOOP,
    PASSED,
    PERFORMANCE,
    hostile_results,
    results,
    verdict,
)

from pytest_kvcache.errors import KvCacheError
from pytest_kvcache.records import Metric, Signal
from pytest_kvcache.report import Results, html_page, write_html
from pytest_kvcache.report.html import Bar, Piece, bar, block, pieces

SAMPLES = pytest.mark.parametrize(
    "sample", [FULL, EMPTY, hostile_results()], ids=["full", "empty", "hostile"]
)


@SAMPLES
def test_the_page_is_well_formed_and_inert(sample: Results) -> None:
    page = Page(html_page(sample))
    assert page.open == []
    assert not {"script", "img", "link", "iframe", "object", "form"} & page.tags
    assert not {name for name in page.attributes if name.startswith("on") or name == "src"}
    assert all(target.startswith("#verdict-") for target in page.links)


@SAMPLES
def test_the_page_holds_no_control_character(sample: Results) -> None:
    assert html_page(sample).replace("\n", "").isprintable()


def test_links_lead_to_verdicts_of_the_page() -> None:
    page = Page(html_page(FULL))
    assert [link.removeprefix("#") for link in page.links] == [name for name in page.ids if "verdict" in name]
    assert len(page.links) == len(FULL.verdicts)


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html_page(hostile_results())


def test_the_page_tells_verdicts_reasons_evidence_and_provenance() -> None:
    text = Page(html_page(FULL)).text
    for part in (
        "1 pass, 1 fail, 1 inconclusive, 1 known-bad",
        "24 of 64 outputs loop",
        "Tell me about a robot who lived on a hill.",
        "every morning he went down to the village",
        "the engine did not start within 600 s",
        "AMD EPYC 9554",
        "2.13.0+cpu",
        "sha256:0123",
        "prefill and decoding differ by 0.0021 nats per token",
        "64 of 64 outputs",
    ):
        assert part in text


def test_the_page_tells_where_a_candidate_diverges_along_the_text_and_by_kind_of_prompt() -> None:
    text = cells(html_page(results(PASSED)))
    for part in (
        "Along the text tokens KLD [95 %] prompts 1 to 16 0.031 [0.025, 0.038] 64 17 to 27 0.018 1 Growth",
        "Growth over 100 tokens: -0.004 [-0.009, 0.001] nats",
        "code 0.052 [0.040, 0.990] 0.061 [0.040, 0.990] 90.6 % 8 chat 0.016",
    ):
        assert part in text
    assert "Along the text" not in html_page(results(FAILED))


def test_the_page_tells_alpha_beta_and_the_detectable_harm_of_each_figure() -> None:
    text = cells(html_page(results(PASSED)))
    assert "n alpha beta detectable" in text
    assert "delta_nll 0.050 [0.046, 0.055] 0.100 0.001 64 1.25 % 20 % 0.108" in text
    assert "same_top 0.925 [0.915, 0.934] 0.850 0.976 64 - - -" in text


def test_the_metrics_stand_under_what_a_verdict_makes_of_them() -> None:
    held, read = Metric(0.1, 0.0, 0.2, 64, 0.3), Metric(0.1, 0.0, 0.2, 64)
    metrics = {"baseline_recall": held, "never_diverges": read, "runaway_excess": held, "kld": held}
    text = cells(html_page(results(verdict(metrics=metrics))))
    order = ("primary:", "kld", "secondary:", "runaway_excess", "the baseline by itself", "baseline_recall")
    places = [text.index(part, text.index("primary:")) for part in (*order, "for reading:", "never_diverges")]
    assert places == sorted(places)


def test_the_loop_is_marked_where_the_signal_lies() -> None:
    assert f"<mark>{LOOP[22:]}</mark>" in html_page(FULL)


def test_the_same_results_give_the_same_page() -> None:
    assert html_page(FULL) == html_page(FULL)


def test_lines_of_an_output_stay_lines() -> None:
    assert block("def f():\n\treturn 1\r\n") == "def f():\n    return 1\\r\n"


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], [("abcdef", False)]),
        ([(2, 4)], [("ab", False), ("cd", True), ("ef", False)]),
        ([(0, 6)], [("abcdef", True)]),
        ([(3, 5), (1, 4)], [("a", False), ("bcd", True), ("e", True), ("f", False)]),
        ([(4, 99)], [("abcd", False), ("ef", True)]),
        ([(3, 3), (99, 120)], [("abcdef", False)]),
        ([(1, 5), (2, 3)], [("a", False), ("bcde", True), ("f", False)]),
    ],
)
def test_an_output_is_cut_where_its_signals_lie(
    spans: list[tuple[int, int]], expected: list[tuple[str, bool]]
) -> None:
    signals = tuple(Signal("tandem-run", "fail", "char", start, end, "") for start, end in spans)
    excerpt = replace(EXCERPT, candidate_text="abcdef", signals=signals)
    assert pieces(excerpt) == [Piece(text, marked) for text, marked in expected]


def test_a_span_in_tokens_marks_no_characters() -> None:
    signals = (Signal("tandem-run", "fail", "token", 0, 3, ""),)
    assert not any(piece.marked for piece in pieces(replace(EXCERPT, signals=signals)))


def test_a_bar_shows_the_interval_beside_its_margin() -> None:
    assert bar(Metric(0.6, 0.5, 0.75, 64, margin=0.25)) == Bar(low=50.0, high=95.0, value=68.0, margin=5.0)


def test_a_bar_of_equal_figures_is_drawn() -> None:
    assert bar(Metric(0.0, 0.0, 0.0, 64, margin=0.0)) == Bar(5.0, 5.0, 5.0, 5.0)


@pytest.mark.parametrize(
    "metric", [Metric(0.1, 0.0, 0.2, 64), Metric(float("nan"), 0.0, 0.2, 64, 0.1)], ids=["no margin", "nan"]
)
def test_there_is_no_bar_without_a_margin_or_a_finite_figure(metric: Metric) -> None:
    assert bar(metric) is None
    assert "<svg" not in html_page(results(verdict(metrics={"delta_nll": metric})))


def test_the_file_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    path = write_html(tmp_path / "report", FULL)
    assert path.read_text("utf-8") == html_page(FULL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(KvCacheError, match=r"cannot write the HTML report to .*report\.html: Is a directory"):
        write_html(tmp_path, FULL)


def test_without_jinja2_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(KvCacheError, match=r"pip install 'pytest-kvcache\[report\]'"):
        write_html(tmp_path, results(FAILED))


def cells(page: str) -> str:
    """Return a page's text with a blank between any two cells of its tables."""
    return " ".join(re.sub("<[^>]+>", " ", page).split())


class Page(HTMLParser):
    """What a browser would find in a page."""

    VOID = frozenset({"meta", "line", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_verdict_says_what_wrote_its_goldens() -> None:
    page = html_page(results(FROM_GOLDEN))
    assert "<dt>goldens</dt><dd>gqa-golden, written by vllm 0.31.0 on cpu</dd>" in page


def test_the_page_tells_what_a_candidate_gains_beside_its_verdict_and_beside_its_baseline() -> None:
    page = Page(html_page(results(PASSED, performance=PERFORMANCE)))
    gains = "holds 2.00 times the tokens: 200,000, or 24.4 requests of 8,192"
    measured = "tokens per second: 1.05 [1.01, 1.08] times: 1,296 [1,260, 1,300]"
    told = " ".join(page.text.split())
    assert all(text in told for text in (gains, measured, "not measured: pytest-benchmark is not installed"))
