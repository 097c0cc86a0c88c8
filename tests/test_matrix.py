"""The matrix: what counts as caught, what is said to be missing, and that catalogue and faults agree."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import pytest
from matrix.catalogue import SUITES, Catalogue, Control, Fault, read_catalogue, suite_tests
from matrix.outcomes import Outcome, Recorded, keep, read_record, recorded
from matrix.page import page
from matrix.redrawn import COUNTERPARTS, Redrawing
from matrix.runs import POLICY, Run, all_runs

from pytest_kvcache import prompts
from pytest_kvcache.policy import load_policy
from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets
from pytest_kvcache.records import PromptSet

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
    return list(recorded(run, 1.0, 2, directory).outcomes)


def case(body: str, properties: str = "") -> str:
    target = f'<property name="kv_target" value="gqa-loop"/>{properties}'
    name = 'classname="suites.test_degeneration" name="test_degeneration[gqa-loop]"'
    return f"<testcase {name}><properties>{target}</properties>{body}</testcase>"


def test_every_variant_is_in_the_catalogue_and_every_fault_can_be_asked_for() -> None:
    variants, catalogue = set(load_policy(POLICY).variants), read_catalogue()
    candidates = {fault.candidate for fault in catalogue.fault}
    healthy = {dtype for control in catalogue.control for dtype in control.dtypes}
    assert variants <= candidates | healthy
    assert candidates - variants <= {"fp8", "fp8_e5m2"}


def test_every_variant_with_code_of_its_own_names_a_module_that_is_there() -> None:
    given = [variant.engine_args or {} for variant in load_policy(POLICY).variants.values()]
    names = [name for arguments in given for name in arguments.get("logits_processors", ())]
    names += [arguments["worker_extension_cls"] for arguments in given if "worker_extension_cls" in arguments]
    modules = {name.replace(":", ".").rpartition(".")[0] for name in names}
    assert {m for m in modules if not (POLICY.parents[1] / f"{m.replace('.', '/')}.py").is_file()} == set()
    assert "faults.sampling" in modules


def test_every_fault_has_a_name_of_its_own_and_a_suite_that_is_there() -> None:
    faults = read_catalogue().fault
    assert len({fault.name for fault in faults}) == len(faults)
    named = {suite for fault in faults for suite in (fault.suite, *fault.also_full)}
    assert {suite for suite in named if not (SUITES / f"test_{suite}.py").is_file()} == set()


def test_a_fault_that_its_own_suite_fails_on_is_caught_and_others_are_named() -> None:
    line = written(FAULT, outcome("degeneration", "QualityError: x"), outcome("drift", "y"), outcome("tasks"))
    assert line.endswith("| degeneration | yes: test_degeneration | drift | caught (2 of 19 tests) |")


def test_a_fault_that_only_others_see_has_escaped_its_suite() -> None:
    line = written(FAULT, outcome("degeneration"), outcome("drift", "y"))
    assert line.endswith("| degeneration | **no**: passed | drift | caught (1 of 19 tests) |")


def test_what_only_the_full_tier_sees_is_said_to_be_so() -> None:
    line = written(FULL, outcome("preemption", "x", "gqa-lost"), tier="full")
    assert line.endswith("| preemption (full) | yes: test_preemption | - | not run |")


def test_a_fault_without_outcomes_or_without_a_suite_is_not_covered() -> None:
    assert "| not run |" in written(FAULT)
    alone = Fault(name="x", symptom="s", imitates="i", injected="h", suite="nowhere")
    assert "not covered: no such suite" in written(alone)


def test_a_control_that_turns_red_is_named_with_its_reason() -> None:
    control = Control(model="ref:gqa", dtypes=("fp8",))
    outcomes = (outcome("tasks", "QualityError: lost", "gqa-fp8"), outcome("drift", None, "gqa-fp8"))
    run = Recorded("run", "smoke", date(2026, 1, 1), 60.0, 1.5, outcomes)
    text = page(Catalogue((), (control,)), [run])
    assert (
        "| `gqa-fp8` | smoke | not noted | 1 of 20 | test_tasks (failed: `QualityError: lost`); 18 not run |"
        in text
    )


@pytest.mark.parametrize(
    ("body", "properties", "red"),
    [
        ('<failure message="pytest_kvcache.errors.QualityError: 9 of 32 loop"/>', "", "quality"),
        ('<failure message="worker &apos;gw0&apos; crashed while running"/>', "", None),
        ('<failure message="TypeError: no such thing"/>', "", None),
        ('<error message="failed on setup with &quot;TypeError: nothing&quot;"/>', "", None),
        ('<failure message="gqa-loop: fail"/>', '<property name="kv_reasons" value="kld"/>', "quality"),
        (
            '<failure message="gqa-loop: fail"/>',
            '<property name="kv_reasons" value="engine-failed"/>',
            "engine",
        ),
        ('<failure message="gqa-loop: ?"/>', '<property name="kv_reasons" value="undecided"/>', "undecided"),
        (
            '<failure message="pytest_kvcache.errors.QualityError: not proven"/>',
            '<property name="kv_reasons" value="too-little-evidence undecided"/>',
            "undecided",
        ),
        (
            '<error message="failed on setup with &quot;it tests nothing&quot;"/>',
            '<property name="kv_error" value="UnfitError"/>',
            "refused",
        ),
        (
            '<error message="failed on setup with &quot;it died&quot;"/>',
            '<property name="kv_error" value="EngineError"/>',
            "engine",
        ),
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


def test_too_little_evidence_has_caught_nothing() -> None:
    undecided = msgspec.structs.replace(outcome("degeneration", "too few"), red="undecided")
    line = written(FAULT, undecided)
    assert "| **no**: failed, `too few` | - | undecided (1 of 19 tests) |" in line


def test_what_is_red_without_the_fault_has_not_caught_it() -> None:
    twin = msgspec.structs.replace(FAULT, twin="fp8_e5m2")
    for healthy in ("gqa-auto", "gqa-fp8_e5m2"):
        line = written(twin, outcome("degeneration", "x"), outcome("degeneration", "x", healthy))
        assert "| **no**: failed, `x` |" in line
    of_baseline = msgspec.structs.replace(outcome("degeneration", "x"), codes=("baseline-degenerate",))
    assert "| **no**: failed, `x` |" in written(FAULT, of_baseline)


def test_a_fault_of_the_baseline_is_caught_on_it() -> None:
    broken = Fault(name="loop", symptom="s", imitates="i", injected="h", suite="baseline")
    found = (outcome("baseline", "x"), outcome("baseline", "x", "gqa-auto"))
    assert "| baseline | yes: test_baseline |" in written(broken, *found)


def test_an_engine_that_the_plugin_would_not_judge_is_caught_at_setup_where_that_may_be() -> None:
    refused = msgspec.structs.replace(outcome("degeneration", "it tests nothing"), red="refused")
    assert "| **no**:" in written(FAULT, refused)
    either = msgspec.structs.replace(FAULT, red_by="any")
    assert "| yes: test_degeneration, at setup |" in written(either, refused)


def test_an_engine_that_ended_by_something_else_has_caught_nothing() -> None:
    fault = msgspec.structs.replace(FAULT, red_by="engine", says="SIGKILL")
    died, fell = (
        msgspec.structs.replace(outcome("degeneration", f"it was killed by {signal}"), red="engine")
        for signal in ("SIGKILL", "SIGSEGV")
    )
    assert "| yes: test_degeneration |" in written(fault, died)
    assert "| **no**: failed" in written(fault, fell)


def test_a_fault_beside_a_baseline_that_is_broken_itself_is_told_so() -> None:
    caught = outcome("degeneration", "QualityError: it loops")
    broken = outcome("baseline", "QualityError: it loops, too", "gqa-auto")
    assert "| yes: test_degeneration; its baseline is red, too |" in written(FAULT, caught, broken)


def test_tests_of_either_tier_and_those_of_candidates_are_read_from_the_suites() -> None:
    smoke, full = ({test.name: test for test in suite_tests(tier)} for tier in ("smoke", "full"))
    assert smoke.keys() & full.keys() == set()
    assert ("test_stopping" in smoke, "test_stopping_full" in full) == (True, True)
    assert smoke["test_verdict"].for_candidates
    assert full["test_continued"].for_candidates
    assert not smoke["test_tasks"].for_candidates


def test_a_fault_of_the_smoke_tier_meets_full_tests_of_the_suites_that_it_names() -> None:
    seen = msgspec.structs.replace(FAULT, also_full=("penalties", FAULT.suite))
    [smoke, own] = all_runs(Catalogue((seen,), ()))
    assert (smoke.tier, own.tier) == ("smoke", "full")
    assert own.pairs == " or ".join(
        f"(test_{suite}.py and [{seen.target}])" for suite in ("penalties", seen.suite)
    )
    assert [run.tier for run in all_runs(Catalogue((FAULT,), ()))] == ["smoke"]


def test_a_control_is_judged_again_by_other_prompts_as_often_as_it_says() -> None:
    control = Control(model="ref:gqa", dtypes=("fp8", "fp8_e5m2"), tiers=("smoke",), repetitions={"smoke": 2})
    shipped, *again = all_runs(Catalogue((), (control,)))
    assert (shipped.seed, shipped.dtypes) == (0, ("fp8", "fp8_e5m2"))
    assert [(run.seed, run.dtypes) for run in again] == [(1, ("fp8",)), (2, ("fp8",))]
    assert len({run.directory for run in (shipped, *again)}) == 3


def test_repetitions_are_counted_apart_and_their_alarms_told(tmp_path: Path) -> None:
    control = Control(model="ref:gqa", dtypes=("fp8",), tiers=("smoke",), repetitions={"smoke": 2, "full": 2})
    record = tmp_path / "results.json"
    for seed, message in ((0, None), (1, "QualityError: lost"), (2, None)):
        found = (outcome("tasks", message, "gqa-fp8"),)
        keep(Recorded("run", "smoke", date(2026, 1, 1), 60.0, 1.5, found, seed), record)
    text = page(Catalogue((), (control,)), read_record(record))
    assert "| `gqa-fp8` | smoke | not noted | 1 of 19 | 18 not run |" in text
    assert (
        "| `gqa-fp8` | smoke | 2 | not noted | 50% [9%, 91%] | 1 | 0 | 1: tasks (`QualityError: lost`) |"
        in text
    )
    assert "| `gqa-fp8` | full | not run | - | - | - | - | - |" in text


def test_a_repetition_of_which_nothing_passed_is_not_without_an_alarm(tmp_path: Path) -> None:
    control = Control(model="ref:gqa", dtypes=("fp8",), tiers=("smoke",), repetitions={"smoke": 1})
    record = tmp_path / "results.json"
    skipped = msgspec.structs.replace(outcome("tasks", None, "gqa-fp8"), state="skipped")
    keep(Recorded("run", "smoke", date(2026, 1, 1), 60.0, 1.5, (skipped,), 1), record)
    text = page(Catalogue((), (control,)), read_record(record))
    assert "| `gqa-fp8` | smoke | 1 | not noted | 0% [0%, 79%] | 0 | 1 | - |" in text


SETS = {name: load_prompt_set(name) for name in shipped_prompt_sets()}


@pytest.fixture
def redrawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, PromptSet]:
    monkeypatch.setattr(prompts, "_read", Redrawing(prompts._read, seed=1))
    return {name: load_prompt_set(name) for name in SETS}


def ids(prompt_set: PromptSet) -> list[str]:
    return [prompt.id for prompt in prompt_set.prompts]


def test_redrawn_sets_of_the_smoke_tier_are_as_large_as_shipped_and_hold_what_others_ask(
    redrawn: dict[str, PromptSet],
) -> None:
    for name, other in COUNTERPARTS.items():
        assert len(redrawn[name].prompts) == len(SETS[name].prompts)
        assert redrawn[name].sampling == SETS[name].sampling
        assert set(ids(redrawn[name])) <= set(ids(SETS[other]))
    assert not set(ids(redrawn["smoke"])) & set(ids(SETS["smoke"]))


def test_redrawn_sets_of_the_full_tier_lack_some_prompts_and_have_another_order(
    redrawn: dict[str, PromptSet],
) -> None:
    assert set(ids(redrawn["full"])) < set(ids(SETS["full"]))
    assert [name for name in ids(SETS["full"]) if name in ids(redrawn["full"])] != ids(redrawn["full"])


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("smoke-penalised", "smoke"),
        ("full-penalised", "full"),
        ("full-frequency-alone", "full"),
        ("full-presence-alone", "full-penalised"),
    ],
)
def test_redrawn_sets_that_are_set_beside_each_other_still_share_their_prompts(
    redrawn: dict[str, PromptSet], part: str, whole: str
) -> None:
    assert set(ids(redrawn[part])) <= set(ids(redrawn[whole]))


def test_another_seed_draws_otherwise_and_the_same_one_draws_the_same() -> None:
    path = Path(prompts.__file__).with_name("smoke.jsonl")
    one, same, other = (Redrawing(prompts._read, seed)(path) for seed in (1, 1, 2))
    assert one == same != other
