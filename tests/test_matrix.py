"""The matrix: what counts as caught, what is said to be missing, and that catalogue and faults agree."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from matrix.catalogue import SUITES, Catalogue, Control, Fault, read_catalogue
from matrix.outcomes import Outcome, Recorded, keep, read_record, recorded
from matrix.page import page
from matrix.runs import POLICY, Run, all_runs

from pytest_kvcache.policy import load_policy

FAULT = Fault(
    name="loop", symptom="repetition loop", imitates="someone/engine#1", injected="so", suite="degeneration"
)
FULL = Fault(
    name="lost",
    symptom="preemption",
    imitates="someone/engine#2",
    injected="so",
    suite="preemption",
    tier="full",
)


def outcome(suite: str, message: str | None = None, target: str = "gqa-loop") -> Outcome:
    return Outcome(
        suite=suite,
        test=f"test_{suite}",
        target=target,
        state="passed" if message is None else "failed",
        red=None if message is None else "quality",
        message=message or "",
    )


def written(fault: Fault, *outcomes: Outcome, tier: str = "smoke") -> str:
    """Return the fault's line of a page made of these outcomes."""
    run = Recorded("run", "full" if tier == "full" else "smoke", date(2026, 1, 1), 60.0, 1.5, outcomes)
    text = page(Catalogue((fault,), ()), [run])
    return next(line for line in text.splitlines() if line.startswith(f"| `{fault.name}`"))


def report(tmp_path: Path, case: str) -> list[Outcome]:
    """Return the outcomes of a run that left this test case."""
    run = Run("run", "smoke", "ref:gqa", ("loop",), "auto", 1.0)
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "junit.xml").write_text(f"<testsuites><testsuite>{case}</testsuite></testsuites>")
    (directory / "results.json").write_text('{"engines": []}')
    return list(recorded(run, 1.0, directory).outcomes)


def case(body: str, properties: str = "") -> str:
    target = f'<property name="kv_target" value="gqa-loop"/>{properties}'
    name = 'classname="suites.test_degeneration" name="test_degeneration[gqa-loop]"'
    return f"<testcase {name}><properties>{target}</properties>{body}</testcase>"


def test_every_variant_is_in_the_catalogue_and_every_fault_can_be_asked_for() -> None:
    variants = set(load_policy(POLICY).variants)
    asked = {fault.candidate for fault in read_catalogue().fault}
    assert variants <= asked
    assert asked - variants <= {"fp8", "fp8_e5m2"}


def test_every_variant_names_a_module_that_is_there() -> None:
    for variant in load_policy(POLICY).variants.values():
        arguments = variant.engine_args
        [name] = arguments.get("logits_processors") or [arguments["worker_extension_cls"]]
        module = name.replace(":", ".").rpartition(".")[0]
        assert (POLICY.parents[1] / f"{module.replace('.', '/')}.py").is_file()


def test_every_fault_has_a_name_of_its_own_and_a_suite_that_is_there() -> None:
    faults = read_catalogue().fault
    assert len({fault.name for fault in faults}) == len(faults)
    assert {fault.suite for fault in faults if not (SUITES / f"test_{fault.suite}.py").is_file()} == set()


def test_a_fault_that_its_own_suite_fails_on_is_caught_and_others_are_named() -> None:
    line = written(FAULT, outcome("degeneration", "QualityError: x"), outcome("drift", "y"), outcome("tasks"))
    assert line.endswith("| degeneration | yes | drift | caught |")


def test_a_fault_that_only_others_see_has_escaped_its_suite() -> None:
    line = written(FAULT, outcome("degeneration"), outcome("drift", "y"))
    assert line.endswith("| degeneration | **no**: passed | drift | caught |")


def test_what_only_the_full_tier_sees_is_said_to_be_so() -> None:
    line = written(FULL, outcome("preemption", "x", "gqa-lost"), tier="full")
    assert line.endswith("| preemption (full) | yes | - | not run |")


def test_a_fault_without_outcomes_or_without_a_suite_is_not_covered() -> None:
    assert "| not run |" in written(FAULT)
    alone = Fault(name="x", symptom="s", imitates="i", injected="h", suite="nowhere")
    assert "not covered: no such suite" in written(alone)


def test_a_control_that_turns_red_is_named_with_its_reason() -> None:
    control = Control(model="ref:gqa", dtypes=("fp8",))
    outcomes = (outcome("tasks", "QualityError: lost", "gqa-fp8"), outcome("drift", None, "gqa-fp8"))
    run = Recorded("run", "smoke", date(2026, 1, 1), 60.0, 1.5, outcomes)
    text = page(Catalogue((), (control,)), [run])
    assert "| `gqa-fp8` | smoke | 1 of 2 | tasks (failed: `QualityError: lost`) |" in text


@pytest.mark.parametrize(
    ("body", "properties", "red"),
    [
        ('<failure message="pytest_kvcache.errors.QualityError: 9 of 32 loop"/>', "", "quality"),
        ('<error message="failed on setup with &quot;vLLM ended&quot;"/>', "", "engine"),
        ('<failure message="TypeError: no such thing"/>', "", None),
        ('<error message="failed on setup with &quot;TypeError: nothing&quot;"/>', "", None),
        ('<failure message="gqa-loop: fail"/>', '<property name="kv_reasons" value="kld"/>', "quality"),
        (
            '<failure message="gqa-loop: fail"/>',
            '<property name="kv_reasons" value="engine-failed"/>',
            "engine",
        ),
        ('<failure message="gqa-loop: ?"/>', '<property name="kv_reasons" value="undecided"/>', None),
    ],
)
def test_a_red_test_has_found_a_loss_of_quality_or_no_engine_or_nothing(
    tmp_path: Path, body: str, properties: str, red: str | None
) -> None:
    [found] = report(tmp_path, case(body, properties))
    assert (found.suite, found.target, found.state, found.red) == ("degeneration", "gqa-loop", "failed", red)


def test_a_fault_of_the_full_tier_has_a_run_of_its_suite_alone() -> None:
    [smoke, own] = all_runs(Catalogue((FAULT, FULL), ()))
    assert (smoke.tier, smoke.dtypes, smoke.pairs) == ("smoke", ("loop", "lost"), "")
    assert (own.tier, own.dtypes) == ("full", ("lost",))
    assert own.pairs == "(test_preemption.py and [gqa-lost])"


def test_a_run_replaces_what_older_ones_said_of_its_targets_and_no_more(tmp_path: Path) -> None:
    def run(day: int, *outcomes: Outcome) -> Recorded:
        return Recorded("run", "smoke", date(2026, 1, day), 60.0, 1.5, outcomes)

    record = tmp_path / "docs" / "results.json"
    keep(run(1, outcome("drift", "old"), outcome("drift", "x", "gqa-lost")), record)
    keep(run(2, outcome("drift", "new")), record)
    old, new = read_record(record)
    assert [found.message for found in old.outcomes] == ["x"]
    assert [found.message for found in new.outcomes] == ["new"]
