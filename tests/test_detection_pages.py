"""The pages and plots of single detectors: what is counted, and that the pages tell the code's constants."""

from __future__ import annotations

import ast
import importlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from detection.corpus import Damage
from detection.detector_pages import DETECTORS, IMPROBABLE, MODULES, figures
from detection.evaluate import Evaluation, Found, Result
from detection.real import documents
from detection.speed import Speed, Throughput

from pytest_kvcache.measures import degeneration, near_loops
from pytest_kvcache.records import Score

PAGES = Path(__file__).parents[1] / "docs" / "detectors"
SPEED = Speed((Throughput("ours, all detectors", 512_000.0, 1.0),), (("soup", 0.25), ("loops", 0.1)), ())


def found(kind: str, severity: str = "fail") -> Found:
    return Found(kind, severity, 0, 100, "")


def healthy(kind: str, *signals: Found) -> Result:
    return Result("h", kind, 100, 400, "", None, signals)


def damaged(kind: str, *signals: Found, noise: float | None = None, tokens: int = 100) -> Result:
    damage = Damage(kind, "made", 0, 400, "severe", noise=noise)
    return Result("d", kind, tokens, 400, "", damage, signals)


def of_documents(*results: Result) -> Evaluation:
    return Evaluation("test", results, [], [])


def row(page: str, signal: str, *cells: str) -> list[str]:
    """Return the cells after the named ones of the first row that begins with a signal and these."""
    for line in page.splitlines():
        name, *rest = [cell.strip() for cell in line.strip("|").split("|")]
        if name.startswith(f"[{signal}]") and rest[: len(cells)] == list(cells):
            return [cell.partition(" [")[0] for cell in rest[len(cells) :]]
    raise AssertionError(f"no row {signal}, {cells}")


def test_false_alarms_are_counted_by_signal_proofs_apart_from_mere_warnings() -> None:
    both = (found("soup"), found("soup", "warn"))
    page = figures(of_documents(healthy("a", *both), healthy("b", found("soup", "warn")), healthy("c")))
    fail, warned, worst = row(page, "soup")
    assert (fail, warned) == ("33.3", "33.3")
    assert worst.startswith("a 100")
    assert row(page, "blanks")[:2] == ["0", "0"]


def test_the_worst_kinds_are_those_that_surely_are_bad() -> None:
    often = [healthy("often", found("loop")) for _ in range(40)]
    once = healthy("once", found("loop"))
    page = figures(of_documents(once, *often, *(healthy("never") for _ in range(5))))
    cells = next(line for line in page.splitlines() if line.startswith("| [loop]")).split("|")
    assert [kind.split()[0] for kind in cells[4].split(";")] == ["often", "once"]


def test_nothing_is_said_of_false_alarms_that_need_a_baseline() -> None:
    page = figures(of_documents(healthy("a")))
    false_alarms = page[page.index("## False alarms") : page.index("## Recall")]
    assert "| [empty]" in false_alarms
    assert "| [runaway]" not in false_alarms
    assert "| [early-end]" not in false_alarms


def test_recall_tells_what_a_signal_finds_of_its_damage_and_what_any_finds() -> None:
    results = [
        damaged("corruption", found("corruption"), noise=0.1),
        damaged("corruption", found("corruption", "warn"), noise=0.1),
        damaged("corruption", found("soup"), noise=0.1),
        damaged("corruption", noise=0.1),
        damaged("corruption", noise=0.3),
        damaged("paraphrase-loop", found("near-loop"), noise=0.17),
        damaged("paraphrase-loop", noise=0.18),
    ]
    page = figures(of_documents(*results))
    assert row(page, "corruption", "corruption, 10% noise") == ["4", "25.0", "50.0", "75.0"]
    assert row(page, "corruption", "corruption, 30% noise") == ["1", "0", "0", "0"]
    assert row(page, "near-loop", "paraphrase-loop") == ["2", "50.0", "50.0", "50.0"]


def test_of_outputs_with_scores_only_those_that_were_read_count() -> None:
    real = {bool(each.hand): each for each in documents("test") if each.is_broken is False}
    scored = damaged("word-salad", found("improbable"))
    outputs = [
        Result(real[read].id, "healthy", 100, 400, "", None, (found("improbable", "warn"),) * (not read))
        for read in (True, False)
    ]
    page = figures(Evaluation("test", [], [scored], outputs))
    assert row(page, "improbable", "documents", "damaged", "word-salad") == ["1", "100", "100", "100"]
    assert row(page, "improbable", "outputs", "healthy", "healthy") == ["1", "0", "0", "0"]


def test_costs_are_told_where_they_have_been_measured() -> None:
    page = figures(of_documents(healthy("a")), SPEED)
    assert "| [soup](soup.md) | `soup` | 250 |" in page
    assert "| [blanks](blanks.md) | `blanks` | – |" in page
    assert "## Cost" not in figures(of_documents(healthy("a")))


def test_every_kind_of_signal_has_a_page() -> None:
    listed = re.findall(r"^(\S+) +(?:fail|warn)", degeneration.__doc__ or "", re.MULTILINE)
    assert sorted(listed) == sorted(detector.signal for detector in (*DETECTORS, IMPROBABLE))
    pages = {detector.page for detector in (*DETECTORS, IMPROBABLE)}
    assert pages == {page.stem for page in PAGES.glob("*.md")} - {"figures"}
    assert set(MODULES.values()) <= pages


def constants_told() -> Iterator[tuple[str, str, str, str]]:
    """Yield page, module, name and value of every row ``| `NAME` | value |`` of the pages."""
    for page in sorted(PAGES.glob("*.md")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if named := re.search(r"`pytest_kvcache/measures/(\w+)\.py`", line):
                module = named[1]
            if told := re.match(r"\| `([A-Z][A-Z_0-9]+)` \| ([^|]+) \|", line):
                yield page.name, module, told[1], told[2]


@pytest.mark.parametrize(("page", "module", "name", "value"), list(constants_told()))
def test_a_page_tells_the_constants_that_the_code_has(page: str, module: str, name: str, value: str) -> None:
    held = getattr(importlib.import_module(f"pytest_kvcache.measures.{module}"), name)
    assert ast.literal_eval(value) == held, f"{page}: {module}.{name} is {held!r}"


def test_the_page_on_near_loops_tells_the_weights_that_the_code_has() -> None:
    page = (PAGES / "near-loop.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| ([a-z_]+) \| ([-\d.]+) \| ([-\d.]+) \|", page, re.MULTILINE)
    table = zip(near_loops.FEATURES, near_loops.WEIGHTS, near_loops.WEIGHTS_OF_NUMBERED, strict=True)
    assert [(name, float(one), float(other)) for name, one, other in told] == list(table)


def score(surprise: float, tokens: int = 64) -> Score:
    """A score of tokens that each lack as much against the first choice."""
    logprobs = struct.pack(f"<{tokens}f", *[-surprise] * tokens)
    top = struct.pack(f"<{tokens}f", *[0.0] * tokens)
    ids = tuple(range(tokens))
    return Score("p", ids, logprobs, struct.pack(f"<{tokens}i", *ids), top, k=1)


def drawn() -> dict[str, str]:
    from detection import detector_plots

    results = [
        damaged(kind, *(found(kind),) * hit, noise=noise, tokens=tokens)
        for kind in ("loop", "corruption", *(k for kinds in detector_plots.BY_LENGTH.values() for k in kinds))
        for noise in (0.02, 0.1)
        for tokens in (20, 50, 300)
        for hit in (0, 1) * 3
    ]
    scores = {"outputs, healthy": [score(0.5), score(1.0)], "word salad": [score(5.0), score(5.0, tokens=8)]}
    return detector_plots.draw(results, scores)


def test_plots_of_detectors_are_small_and_well_formed_and_come_out_equal() -> None:
    pytest.importorskip("matplotlib")
    plots = drawn()
    assert len(plots) == 9
    for name, svg in plots.items():
        words = {e.text for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
        assert words & {"this signal, fail", "word salad (2)"}, name
        assert len(svg) < 32_000, name
    assert drawn() == plots


def test_a_threshold_is_held_against_windows_that_the_detector_looks_at() -> None:
    pytest.importorskip("matplotlib")
    from detection.detector_plots import _worst

    assert _worst(score(3.0), 64, 64) == pytest.approx(3.0)
    assert _worst(score(3.0, tokens=40), 64, 64) == 0
    assert _worst(score(3.0, tokens=10), 32, 8) == pytest.approx(3.0)
    assert _worst(score(3.0, tokens=7), 32, 8) == 0
