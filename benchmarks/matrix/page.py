"""The page: ``docs/matrix.md``, written from what was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from detection.markdown import code_span, markdown_table

from matrix.catalogue import ROOT, TIERS, Catalogue, Control, Fault, SuiteTest, Tier, suite_tests
from matrix.findings import Findings
from matrix.outcomes import Outcome, Recorded
from pytest_kvcache.measures.paired import share_interval

PAGE = ROOT / "docs" / "matrix.md"
FAULTS = ("fault", "class", "imitates", "injected how", "own suite", "caught by it", "others", "smoke tier")
CONTROLS = ("control", "tier", "at commits", "green tests", "others")
REPETITIONS = (
    *("control", "tier", "repetitions", "at commits"),
    *("without an alarm", "tests passed", "skipped", "alarms"),
)
TESTS = ("test", "tier", "caught")
RUNS = ("run", "day", "commit", "workers", "minutes", "engine minutes")
AT_SETUP = ", at setup"
NAMED = 3
"""Faults that a test has caught, and tests that have not run, are named where they are no more."""
_HEAD = """\
# The matrix

Written by `make matrix`. Every fault is injected into real vLLM on a CPU, and the suites run on it beside a
baseline without it; only faults of baselines are in both. Where the suite on baselines finds that other one
broken as well, the row says so: a verdict beside it is void, whatever single tests see.

A suite has caught a fault if a test of it is red for a reason that the fault may have: a loss of quality or
of a setting; or, for a crash and a refusal, an engine that is gone, with the fault's own message. *At setup*
says that the plugin would not even begin the suite's tests, because the engine runs otherwise than it was
asked to; other suites have caught nothing by that, and are only counted. Too little evidence (`undecided`) is
red, too, and has caught nothing; nor has a test that is red without the fault, on the baseline or under the
same kv dtype, where that was run: not for `key-bias-awq`, whose healthy twin is no baseline. `full` marks
what only the full tier sees; of that tier a fault has run its own suite alone, or the few that the catalogue
names.
"""
_RECORD = """
Rows were recorded one by one while the suites grew, so no single run made this page: the table at its end
has days and commits. Where not all tests of the smoke tier have run on a fault, its cell says how many have.
"""
_FULL_ONLY = """
## What only the full tier finds
"""
_TESTS = """
## What each test has caught

Of the faults on which a test came to a judgement, those that it found. An engine that is gone, or refused at
setup, turns every test red alike and is left out, and so is a test that skipped.
"""
_CONTROLS = """
## Healthy controls

Models that no fault was put into. `untouched` goes through all that faults are injected by, and changes
nothing. Under e5m2 these small models are harmed indeed ([figures](reference-models.md#evidence)): what is
red there is no false alarm, and no proof that e5m2 harms others. AWQ has no healthy control: `ref:gqa-awq`
loops by itself, so that a gate refuses it as a baseline. *Not tried* is a tier that is not planned for a
control, *not run* one that is, and of which nothing is recorded yet.
"""
_REPETITIONS = """
## Healthy controls again, on other prompts

Each repetition asks both engines anew, every set in another order. Sets of the smoke tier take their prompts
from the full tier; those of the full tier, and the few that have no counterpart there, leave out an eighth of
their own (`benchmarks/matrix/redrawn.py`). An alarm is any red test, or a repetition in which none passed.
Controls that are not listed here have been drawn once, above.
Repetitions of a control share prompts with one another, so the 95 % interval (Wilson) takes them for more
independent than they are.
"""


def page(catalogue: Catalogue, record: Sequence[Recorded]) -> str:
    findings = Findings(record)
    return "\n".join(
        [
            _HEAD,
            *_tally(catalogue.fault, findings),
            _RECORD,
            *_age(catalogue.fault, findings),
            markdown_table(FAULTS, (_fault_row(fault, findings) for fault in catalogue.fault)),
            _FULL_ONLY,
            *_full_only(catalogue.fault, findings),
            _TESTS,
            *_idle(catalogue.fault, findings),
            markdown_table(TESTS, _test_rows(catalogue.fault, findings)),
            _CONTROLS,
            markdown_table(CONTROLS, _control_rows(catalogue.control, findings)),
            _REPETITIONS,
            markdown_table(REPETITIONS, _repetition_rows(catalogue.control, record)),
            "\n## What it took\n",
            markdown_table(RUNS, map(_run_row, record)),
            "",
        ]
    )


def _tally(faults: Sequence[Fault], findings: Findings) -> Iterator[str]:
    tried = [fault for fault in faults if _own_suite(fault, findings) != "not run"]
    own = sum(_own_suite(fault, findings).startswith("yes") for fault in tried)
    smoke = sum(bool(findings.caught_by(fault, "smoke")) for fault in tried)
    at_setup = sum(_own_suite(fault, findings).endswith(AT_SETUP) for fault in tried)
    beside = sum(findings.has_red_baseline(fault) for fault in tried)
    yield (
        f"Of {len(faults)} faults {len(tried)} have been tried: {own} are caught by their own suite, and "
        f"{smoke} by the smoke tier. Of these {at_setup} are refused before their suite begins, and {beside} "
        "stand beside a baseline that is broken, too."
    )


def _age(faults: Sequence[Fault], findings: Findings) -> Iterator[str]:
    """Yield on which commits rows rest, and how many catches on runs that kept no reason codes."""
    commits = [of for fault in faults if (of := findings.commits(fault.target))]
    unknown = sum("" in of for of in commits)
    known = sorted({f"`{commit}`" for of in commits for commit in of if commit})
    named = f"; what is noted is {', '.join(known)}" if known else ""
    yield f"{unknown} of {len(commits)} rows rest, at least in part, on runs that noted no commit{named}."
    caught = [o for fault in faults if fault.healthy for tier in TIERS for o in findings.catches(fault, tier)]
    judged = [outcome for outcome in caught if outcome.red == "quality"]
    if uncoded := sum(not outcome.codes for outcome in judged):
        yield (
            "Only newer runs keep the reason codes that tell a test which is red by its baseline alone: "
            f"{uncoded} of the {len(judged)} losses of quality that count as catches have none."
        )
    yield ""


def _full_only(faults: Sequence[Fault], findings: Findings) -> Iterator[str]:
    """Yield the faults that a suite of the full tier has caught and the smoke tier has not."""
    found = [fault for fault in faults if findings.caught_by(fault, "full")]
    for state, said in (("not seen", "does not see"), ("undecided", "cannot decide")):
        names = [code_span(fault.name) for fault in found if _smoke_state(fault, findings) == state]
        yield f"- The smoke tier {said} {len(names)} that a suite of the full tier catches: {_listed(names)}."


def _idle(faults: Sequence[Fault], findings: Findings) -> Iterator[str]:
    """Yield the tests that have not met a fault, and those that have met some and found none."""
    for tier in TIERS:
        met = {code_span(test.name): _met(test, faults, findings, tier) for test in suite_tests(tier)}
        never = [name for name, found in met.items() if not found]
        idle = [name for name, found in met.items() if found and not any(found.values())]
        yield f"- {tier}: never ran on a fault: {_listed(never)}. Ran, and has found none: {_listed(idle)}."
    yield ""


def _test_rows(faults: Sequence[Fault], findings: Findings) -> Iterator[list[str]]:
    for tier in TIERS:
        for test in suite_tests(tier):
            if met := _met(test, faults, findings, tier):
                caught = [code_span(name) for name, found in met.items() if found]
                names = f": {', '.join(caught)}" if 0 < len(caught) <= NAMED else ""
                yield [code_span(test.name), tier, f"{len(caught)} of {len(met)}{names}"]


def _met(test: SuiteTest, faults: Sequence[Fault], findings: Findings, tier: Tier) -> dict[str, bool]:
    """Return the faults on which a test came to a judgement, by name, and whether it found each."""
    met = {fault.name: findings.found_by(test, fault, tier) for fault in faults}
    return {name: found for name, found in met.items() if found is not None}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _fault_row(fault: Fault, findings: Findings) -> list[str]:
    suite = f"{fault.suite} (full)" if fault.tier == "full" else fault.suite
    model = "" if fault.model == "ref:gqa" else f" ({fault.model})"
    return [
        f"{code_span(fault.name)}{model}",
        fault.symptom,
        fault.imitates,
        fault.injected,
        suite,
        _own_suite(fault, findings),
        _others(fault, findings),
        _smoke_tier(fault, findings),
    ]


def _others(fault: Fault, findings: Findings) -> str:
    """Return which other suites caught a fault; of those that were only refused at setup, how many."""
    caught = {tier: [o for o in findings.catches(fault, tier) if o.suite != fault.suite] for tier in TIERS}
    seen = {tier: sorted({o.suite for o in caught[tier] if o.red != "refused"}) for tier in TIERS}
    full_only = (f"{suite} (full)" for suite in seen["full"] if suite not in seen["smoke"])
    refused = {o.suite for tier in TIERS for o in caught[tier]} - {*seen["smoke"], *seen["full"]}
    at_setup = f"at setup: {len(refused)} suite{'s' * (len(refused) > 1)}" if refused else ""
    return "; ".join(filter(None, [", ".join([*seen["smoke"], *full_only]), at_setup])) or "-"


def _own_suite(fault: Fault, findings: Findings) -> str:
    if not fault.suite_exists:
        return "not covered: no such suite"
    if caught := [o for tier in TIERS for o in findings.catches(fault, tier) if o.suite == fault.suite]:
        at_setup = AT_SETUP * all(outcome.red == "refused" for outcome in caught)
        broken = "; its baseline is red, too" * findings.has_red_baseline(fault)
        return f"yes: {', '.join(sorted({outcome.test for outcome in caught}))}{broken}{at_setup}"
    own = [o for o in findings.of(fault.target, fault.tier) if o.suite == fault.suite]
    return f"**no**: {_why(own)}" if own else "not run"


def _smoke_tier(fault: Fault, findings: Findings) -> str:
    outcomes = findings.of(fault.target, "smoke")
    state = _smoke_state(fault, findings)
    tests, missing = len(suite_tests("smoke")), len(_missing("smoke", outcomes, is_baseline=False))
    return f"{state} ({tests - missing} of {tests} tests)" if outcomes and missing else state


def _smoke_state(fault: Fault, findings: Findings) -> str:
    outcomes = findings.of(fault.target, "smoke")
    if not outcomes:
        return "not run"
    if findings.caught_by(fault, "smoke"):
        return "caught"
    return "undecided" if any(outcome.red == "undecided" for outcome in outcomes) else "not seen"


def _missing(tier: Tier, outcomes: Sequence[Outcome], *, is_baseline: bool) -> list[str]:
    """Return the tests of a tier that have not run, by name."""
    ran = {(outcome.suite, outcome.test) for outcome in outcomes}
    tests = (test for test in suite_tests(tier) if not (is_baseline and test.for_candidates))
    return [test.name for test in tests if (test.suite, test.name) not in ran]


def _why(outcomes: Sequence[Outcome]) -> str:
    worst = min(outcomes, key=lambda outcome: ("failed", "skipped", "passed").index(outcome.state))
    return f"{worst.state}, {code_span(worst.message)}" if worst.message else worst.state


def _control_rows(controls: Sequence[Control], findings: Findings) -> Iterator[list[str]]:
    for control in controls:
        for target in (*control.targets, control.baseline_target):
            is_baseline = target == control.baseline_target
            for tier in TIERS:
                if outcomes := findings.of(target, tier):
                    green, others = _control_cells(tier, outcomes, is_baseline=is_baseline)
                    yield [code_span(target), tier, _at(findings.commits(target, [tier])), green, others]
                else:
                    state = "not run" if tier in control.tiers else "not tried"
                    yield [code_span(target), tier, "-", state, "-"]


def _at(commits: Iterable[str]) -> str:
    return ", ".join(sorted(code_span(commit) if commit else "not noted" for commit in commits))


def _control_cells(tier: Tier, outcomes: Sequence[Outcome], *, is_baseline: bool) -> tuple[str, str]:
    """Return how many tests are green of a control, and which are not."""
    green = sum(outcome.state == "passed" for outcome in outcomes)
    troubles = [f"{o.test} ({o.state}: {code_span(o.message)})" for o in outcomes if o.state != "passed"]
    missing = _missing(tier, outcomes, is_baseline=is_baseline)
    few = len(missing) <= NAMED
    troubles += [f"{name} (not run)" for name in missing] if few else [f"{len(missing)} not run"]
    return f"{green} of {len(outcomes) + len(missing)}", "; ".join(troubles) or "-"


def _repetition_rows(controls: Sequence[Control], record: Sequence[Recorded]) -> Iterator[list[str]]:
    for control in controls:
        for tier in control.repetitions:
            target = control.targets[0]
            yield _repetition_row(target, tier, [run for run in record if _repeats(run, target, tier)])


def _repeats(run: Recorded, target: str, tier: Tier) -> bool:
    return bool(run.seed) and run.tier == tier and any(found.target == target for found in run.outcomes)


def _repetition_row(target: str, tier: Tier, runs: Sequence[Recorded]) -> list[str]:
    if not runs:
        return [code_span(target), tier, "not run", *["-"] * (len(REPETITIONS) - 3)]
    alarms = [(run.seed, found) for run in runs for found in run.outcomes if found.state == "failed"]
    states = Counter(found.state for run in runs for found in run.outcomes)
    green = [run for run in runs if {found.state for found in run.outcomes} - {"skipped"} == {"passed"}]
    quiet = share_interval(len(green), len(runs))
    return [
        code_span(target),
        tier,
        str(len(runs)),
        _at({run.commit for run in runs}),
        f"{quiet.value:.0%} [{quiet.low:.0%}, {quiet.high:.0%}]",
        str(states["passed"]),
        str(states["skipped"]),
        "; ".join(f"{seed}: {found.suite} ({code_span(found.message)})" for seed, found in alarms) or "-",
    ]


def _run_row(run: Recorded) -> list[str]:
    name = f"{run.name}-{run.seed}" if run.seed else run.name
    minutes = [f"{run.seconds / 60:.1f}", f"{run.engine_minutes:.1f}"]
    return [name, run.day.isoformat(), run.commit or "-", str(run.workers or "-"), *minutes]
