"""The matrix's page: how old its rows are, what each test has caught, and what only the full tier finds."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from matrix.catalogue import ROOT, Catalogue, Control, Fault, Tier, read_catalogue
from matrix.outcomes import Outcome, Recorded, Red, keep, read_record
from matrix.page import PAGE, page

LOOP = Fault(name="loop", symptom="s", imitates="i", injected="h", suite="degeneration", red_by="any")
LOST = Fault(name="lost", symptom="s", imitates="i", injected="h", suite="preemption", tier="full")


def outcome(test: str, red: Red | None = None, target: str = "gqa-loop", **more: Any) -> Outcome:
    state: Literal["passed", "failed"] = "passed" if red is None else "failed"
    return Outcome(test, f"test_{test}", target, state, red, "m" * bool(red), **more)


def run(*outcomes: Outcome, tier: Tier = "smoke", **more: Any) -> Recorded:
    return Recorded("run", tier, date(2026, 1, 1), 60.0, 1.5, outcomes, **more)


def written(*runs: Recorded, faults: tuple[Fault, ...] = (LOOP,)) -> str:
    return page(Catalogue(faults, ()), runs)


def test_rows_say_on_which_commits_they_rest() -> None:
    old = run(outcome("degeneration", target="gqa-lost"))
    mixed = [run(outcome("degeneration"), commit="abc"), run(outcome("drift"), commit="def")]
    assert (
        "\n0 of 1 rows rest, at least in part, on runs that noted no commit; what is noted is `def`"
        in written(mixed[1])
    )
    both = written(old, *mixed, faults=(LOOP, LOST))
    assert (
        "\n1 of 2 rows rest, at least in part, on runs that noted no commit; what is noted is `abc`, `def`."
        in both
    )
    assert "on runs that noted no commit.\n" in written(old, faults=(LOST,))


def test_catches_without_reason_codes_are_counted() -> None:
    coded = outcome("tasks", "quality", codes=("recall-lost",))
    assert "1 of the 2 losses of quality that count as catches have none" in written(
        run(coded, outcome("drift", "quality"))
    )
    assert "reason codes" not in written(run(coded))


@pytest.mark.parametrize(
    ("others", "cell"),
    [
        ((outcome("tasks", "refused"), outcome("drift", "refused")), "at setup: 2 suites"),
        ((outcome("tasks", "refused"), outcome("drift", "quality")), "drift; at setup: 1 suite"),
        ((outcome("drift", "refused"), outcome("drift", "quality")), "drift"),
    ],
)
def test_other_suites_that_were_only_refused_at_setup_have_caught_nothing(
    others: tuple[Outcome, ...], cell: str
) -> None:
    text = written(run(outcome("degeneration", "refused"), *others))
    assert f"| yes: test_degeneration, at setup | {cell} | caught (" in text


def test_a_test_has_caught_what_it_found_by_a_judgement_of_its_own() -> None:
    found = (outcome("tasks", "quality"), outcome("tasks", None, "gqa-lost"), outcome("scales", "undecided"))
    gone = (outcome("drift", "engine"), outcome("settings", "refused"))
    text = written(run(*found, *gone), faults=(LOOP, LOST))
    assert "| `test_tasks` | smoke | 1 of 2: `loop` |" in text
    assert "| `test_scales` | smoke | 0 of 1 |" in text
    assert "`test_drift` |" not in text
    smoke = next(line for line in text.splitlines() if line.startswith("- smoke: "))
    never, green = smoke.split("Ran, and has found none: ")
    assert green == "`test_scales`."
    assert "`test_settings`" in never
    assert "`test_tasks`" not in smoke


def test_many_faults_of_a_test_are_counted_and_not_named() -> None:
    faults = tuple(
        Fault(name=name, symptom="s", imitates="i", injected="h", suite="tasks") for name in "abcd"
    )
    found = [outcome("tasks", "quality", fault.target) for fault in faults]
    assert "| `test_tasks` | smoke | 3 of 3: `a`, `b`, `c` |" in written(run(*found[:3]), faults=faults)
    assert "| `test_tasks` | smoke | 4 of 4 |" in written(run(*found), faults=faults)


def test_what_only_the_full_tier_finds_is_listed() -> None:
    full = run(outcome("preemption", "quality", "gqa-lost"), tier="full")
    green, open_ = (run(outcome("tasks", red, "gqa-lost")) for red in (None, "undecided"))
    unseen = "The smoke tier does not see 1 that a suite of the full tier catches: `lost`."
    undecided = "The smoke tier cannot decide 1 that a suite of the full tier catches: `lost`."
    assert unseen in written(full, green, faults=(LOST,))
    assert undecided in written(full, open_, faults=(LOST,))
    for runs in ([full], [green], [full, run(outcome("tasks", "quality", "gqa-lost"))]):
        text = written(*runs, faults=(LOST,))
        assert unseen not in text
        assert undecided not in text


def test_a_tier_that_is_not_planned_for_a_control_was_not_tried() -> None:
    control = Control(model="ref:gqa", dtypes=("fp8",), tiers=("smoke",))
    text = page(Catalogue((), (control,)), [])
    assert "| `gqa-fp8` | smoke | - | not run | - |" in text
    assert "| `gqa-fp8` | full | - | not tried | - |" in text


def test_controls_say_on_which_commits_each_tier_rests() -> None:
    control = Control(model="ref:gqa", dtypes=("fp8",))
    smoke = run(outcome("tasks", target="gqa-fp8"), commit="abc")
    full = [run(outcome(name, target="gqa-fp8"), tier="full") for name in ("tasks", "drift")]
    text = page(Catalogue((), (control,)), [smoke, full[0], msgspec.structs.replace(full[1], commit="def")])
    assert "| `gqa-fp8` | smoke | `abc` | 1 of " in text
    assert "| `gqa-fp8` | full | `def`, not noted | 2 of " in text


def test_workers_are_told_where_they_were_noted(tmp_path: Path) -> None:
    keep(run(outcome("tasks"), workers=2, commit="abc"), tmp_path / "results.json")
    keep(run(outcome("drift")), tmp_path / "results.json")
    text = written(*read_record(tmp_path / "results.json"))
    assert "| run | 2026-01-01 | abc | 2 | 1.0 | 1.5 |" in text
    assert "| run | 2026-01-01 | - | - | 1.0 | 1.5 |" in text


def test_the_page_is_that_of_the_record_and_no_fault_escapes_its_suite() -> None:
    kept = PAGE.read_text(encoding="utf-8")
    assert page(read_catalogue(), read_record()) == kept
    rows = [line for line in kept.splitlines() if line.startswith("| `")]
    assert sum(" | yes: " in row for row in rows) == len(read_catalogue().fault)
    alarms = [found for run in read_record() if run.seed for found in run.outcomes if found.state == "failed"]
    assert not alarms


def test_the_suites_page_links_to_the_list_that_is_there() -> None:
    assert "\n## What only the full tier finds\n" in PAGE.read_text(encoding="utf-8")
    suites = (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")
    assert "(matrix.md#what-only-the-full-tier-finds)" in suites
