"""The detection benchmark's plots and its page on speed."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from detection import speed
from detection.corpus import Damage, Document
from detection.evaluate import Found, Result

from pytest_kvcache import UsageError
from pytest_kvcache.measures import degeneration
from pytest_kvcache.records import Output

FAIL = Found("loop", "fail", 0, 400, "")
CURVES = (
    speed.Curve("healthy documents, ids and text", (0.001, 0.011, 0.12, 1.3)),
    speed.Curve("newlines", (0.001, 0.1, 61.0)),
)
SPEED = speed.Speed((speed.Throughput("ours", 523_456.7, 0.978),), (("loops", 0.75),), CURVES)


def loop(period: int, noise: float) -> Damage:
    return Damage("loop", "made", 0, 400, "severe", period, noise)


def results() -> list[Result]:
    healthy = [Result("h", kind, 100, 400, "") for kind in ("code", "prose")]
    loops = [
        Result(
            "d",
            "loop",
            100,
            400,
            "",
            Damage("loop", "made", 0, 400, "severe", period, noise),
            (FAIL,) * found,
        )
        for period in (1, 3, 10, 40, 100)
        for noise in (0.0, 0.02, 0.05, 0.1)
        for found in (0, 1)
    ]
    return [*healthy, *loops]


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    pytest.importorskip("matplotlib")
    from detection import plots

    return plots.draw(results(), SPEED)


def test_plots_are_small_and_well_formed_and_keep_their_words_as_text(drawn: dict[str, str]) -> None:
    assert drawn.keys() == {
        "recall-by-noise",
        "recall-by-period",
        "recall-by-length",
        "false-alarms",
        "scaling",
    }
    for name, svg in drawn.items():
        root = ElementTree.fromstring(svg)
        words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
        assert words & {"ours, fail", "healthy documents, ids and text"}, name
        assert len(svg) < 32_000, name


def test_plots_come_out_equal_each_time(drawn: dict[str, str]) -> None:
    from detection import plots

    assert plots.draw(results(), SPEED) == drawn
    assert not any("<dc:date>" in svg or "matplotlib.org" in svg for svg in drawn.values())


def test_every_point_of_a_recall_plot_is_the_share_that_was_found(drawn: dict[str, str]) -> None:
    svg = ElementTree.fromstring(drawn["recall-by-noise"])
    panels = [e for e in svg.iter("{http://www.w3.org/2000/svg}text") if (e.text or "").startswith("period ")]
    assert len(panels) == 5
    # Ours finds one of two loops at each noise and period, and the others find none.
    paths = [e.get("d", "").split() for e in svg.iter("{http://www.w3.org/2000/svg}path") if e.get("class")]
    curves = [path for path in paths if path[::3] == ["M", "L", "L", "L"]]
    heights = {tuple(map(float, path[2::3])) for path in curves}
    bottom, middle = sorted(heights, reverse=True)
    assert len(set(bottom)) == len(set(middle)) == 1
    top = min(float(path[2]) for path in paths if path[::3] == ["M", "L"] and path[2] == path[5])
    assert middle[0] == pytest.approx((bottom[0] + top) / 2, abs=0.2)


def test_the_page_on_speed_tells_throughput_shares_and_growth() -> None:
    page = speed.tables(SPEED)
    assert "| ours | 523,457 | 0.978 |" in page
    assert "| `loops` | 75% |" in page
    assert "| newlines | 1.00 (1.00) | 10.00 (10) | 610.00 (610) | – |" in page


def test_mixed_outputs_have_the_same_length_and_every_tenth_is_damaged() -> None:
    healthy = [Document("h", "prose", "made", "tuning", "a" * 300, (1,) * 100)]
    damaged = [Document("d", "loop", "made", "tuning", "b" * 300, (2,) * 100)]
    outputs = speed.mixed_outputs(healthy, damaged, 20)
    assert {len(output.token_ids) for output in outputs} == {512}
    assert {len(output.text) for output in outputs} == {1536}
    assert [set(output.text) for output in outputs].count({"b"}) == 2


def test_the_time_of_detectors_is_told_by_module() -> None:
    text = "It rained all day, and nobody came to the shop until the evening. "
    shares = speed.shares_of_time([Output("x", (), tuple(range(512)), text * 30, None)] * 20)
    names = [name for name, _ in shares]
    assert "loops" in names
    assert degeneration.__name__.rpartition(".")[2] not in names
    assert all(0 < share <= 1 for _, share in shares)


def test_a_measurement_that_was_never_recorded_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="speed --record"):
        speed.read_speed(tmp_path)
