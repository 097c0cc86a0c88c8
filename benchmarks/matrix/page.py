"""The page: ``docs/matrix.md``, written from what was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from detection.markdown import code_span, markdown_table

from matrix.catalogue import ROOT, TIERS, Catalogue, Control, Fault, Tier, suite_tests
from matrix.outcomes import Outcome, Recorded
from pytest_kvcache.measures.paired import share_interval

PAGE = ROOT / "docs" / "matrix.md"
FAULTS = ("fault", "class", "imitates", "injected how", "own suite", "caught by it", "others", "smoke tier")
CONTROLS = ("control", "tier", "green tests", "others")
REPETITIONS = ("control", "tier", "repetitions", "without an alarm", "tests passed", "skipped", "alarms")
RUNS = ("run", "day", "commit", "minutes", "engine minutes")
_HEAD = """\
# The matrix

Written by `make matrix`. Every fault is injected into real vLLM on a CPU, in the candidate only, and the
suites run on it beside its healthy baseline. A suite has caught a fault if a test of it is red for a reason
that the fault may have: a loss of quality or of a setting; or, for a crash and a refusal, an engine that is
gone. *At setup* says that the plugin would not even begin the suite's tests, because the engine runs
otherwise than it was asked to. Too little evidence (`undecided`) is red, too, and has caught nothing; nor
has a test that is red without the fault: on the baseline, or under the same kv dtype. `full` marks what only
the full tier sees; of that tier each fault has run its own suite alone.
"""
_RECORD = """
Rows were recorded one by one while the suites grew, so no single run made this page: the table at its end
has days and commits. Where not all tests of the smoke tier have run on a fault, its cell says how many have.
"""
_CONTROLS = """
## Healthy controls

Models that no fault was put into. `untouched` goes through all that faults are injected by, and changes
nothing. Under e5m2 these small models are harmed indeed ([figures](reference-models.md#evidence)): what is
red there is no false alarm, and no proof that e5m2 harms others. AWQ has no healthy control: `ref:gqa-awq`
loops by itself, so that a gate refuses it as a baseline.
"""
_REPETITIONS = """
## Healthy controls again, on other prompts

Each repetition draws other prompts, and another order, for every set (`benchmarks/matrix/redrawn.py`), and
asks both engines anew. An alarm is any red test, or a repetition in which none passed. Repetitions of a
control share prompts with one another, so the 95 % interval (Wilson) takes them for more independent than
they are.
"""


class Findings:
    """All recorded outcomes, found by tier and target."""

    def __init__(self, runs: Iterable[Recorded]) -> None:
        self._outcomes: dict[tuple[Tier, str], list[Outcome]] = {}
        for run in runs:
            for outcome in run.outcomes if run.seed == 0 else ():
                self._outcomes.setdefault((run.tier, outcome.target), []).append(outcome)

    def of(self, target: str, tier: Tier) -> Sequence[Outcome]:
        return self._outcomes.get((tier, target), ())

    def catches(self, fault: Fault, tier: Tier) -> list[Outcome]:
        """Return the outcomes by which a fault was caught in a tier: none that is red without it as well."""
        red = {
            (o.suite, o.test) for name in fault.healthy for o in self.of(name, tier) if o.state == "failed"
        }
        return [
            outcome
            for outcome in self.of(fault.target, tier)
            if outcome.caught(fault.red_by)
            and (outcome.suite, outcome.test) not in red
            and not (fault.healthy and outcome.is_of_baseline)
        ]

    def caught_by(self, fault: Fault, tier: Tier) -> list[str]:
        """Return the suites that caught a fault in a tier, by name."""
        return sorted({outcome.suite for outcome in self.catches(fault, tier)})


def page(catalogue: Catalogue, record: Sequence[Recorded]) -> str:
    findings = Findings(record)
    return "\n".join(
        [
            _HEAD,
            *_tally(catalogue.fault, findings),
            _RECORD,
            markdown_table(FAULTS, (_fault_row(fault, findings) for fault in catalogue.fault)),
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
    yield (
        f"Of {len(faults)} faults {len(tried)} have been tried: {own} are caught by their own suite, and "
        f"{smoke} by the smoke tier."
    )


def _fault_row(fault: Fault, findings: Findings) -> list[str]:
    seen = {tier: findings.caught_by(fault, tier) for tier in TIERS}
    full_only = (f"{suite} (full)" for suite in seen["full"] if suite not in seen["smoke"])
    others = [s for s in (*seen["smoke"], *full_only) if s.removesuffix(" (full)") != fault.suite]
    suite = f"{fault.suite} (full)" if fault.tier == "full" else fault.suite
    model = "" if fault.model == "ref:gqa" else f" ({fault.model})"
    return [
        f"{code_span(fault.name)}{model}",
        fault.symptom,
        fault.imitates,
        fault.injected,
        suite,
        _own_suite(fault, findings),
        ", ".join(others) or "-",
        _smoke_tier(fault, findings),
    ]


def _own_suite(fault: Fault, findings: Findings) -> str:
    if not fault.suite_exists:
        return "not covered: no such suite"
    if caught := [o for tier in TIERS for o in findings.catches(fault, tier) if o.suite == fault.suite]:
        at_setup = ", at setup" * all(outcome.red == "refused" for outcome in caught)
        return f"yes: {', '.join(sorted({outcome.test for outcome in caught}))}{at_setup}"
    own = [o for o in findings.of(fault.target, fault.tier) if o.suite == fault.suite]
    return f"**no**: {_why(own)}" if own else "not run"


def _smoke_tier(fault: Fault, findings: Findings) -> str:
    outcomes = findings.of(fault.target, "smoke")
    if not outcomes:
        return "not run"
    seen = "caught" if findings.caught_by(fault, "smoke") else "not seen"
    if seen == "not seen" and any(outcome.red == "undecided" for outcome in outcomes):
        seen = "undecided"
    tests, missing = len(suite_tests("smoke")), len(_missing("smoke", outcomes, is_baseline=False))
    return f"{seen} ({tests - missing} of {tests} tests)" if missing else seen


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
            for tier in control.tiers:
                is_baseline = target == control.baseline_target
                yield _control_row(target, tier, findings.of(target, tier), is_baseline=is_baseline)


def _control_row(target: str, tier: Tier, outcomes: Sequence[Outcome], *, is_baseline: bool) -> list[str]:
    if not outcomes:
        return [code_span(target), tier, "not run", "-"]
    green = sum(outcome.state == "passed" for outcome in outcomes)
    troubles = [f"{o.test} ({o.state}: {code_span(o.message)})" for o in outcomes if o.state != "passed"]
    missing = _missing(tier, outcomes, is_baseline=is_baseline)
    troubles += [f"{name} (not run)" for name in missing]
    return [
        code_span(target),
        tier,
        f"{green} of {len(outcomes) + len(missing)}",
        "; ".join(troubles) or "-",
    ]


def _repetition_rows(controls: Sequence[Control], record: Sequence[Recorded]) -> Iterator[list[str]]:
    for control in controls:
        for tier in control.repetitions:
            target = control.targets[0]
            yield _repetition_row(target, tier, [run for run in record if _repeats(run, target, tier)])


def _repeats(run: Recorded, target: str, tier: Tier) -> bool:
    return bool(run.seed) and run.tier == tier and any(found.target == target for found in run.outcomes)


def _repetition_row(target: str, tier: Tier, runs: Sequence[Recorded]) -> list[str]:
    if not runs:
        return [code_span(target), tier, "not run", *["-"] * 4]
    alarms = [(run.seed, found) for run in runs for found in run.outcomes if found.state == "failed"]
    states = Counter(found.state for run in runs for found in run.outcomes)
    green = [run for run in runs if {found.state for found in run.outcomes} - {"skipped"} == {"passed"}]
    quiet = share_interval(len(green), len(runs))
    return [
        code_span(target),
        tier,
        str(len(runs)),
        f"{quiet.value:.0%} [{quiet.low:.0%}, {quiet.high:.0%}]",
        str(states["passed"]),
        str(states["skipped"]),
        "; ".join(f"{seed}: {found.suite} ({code_span(found.message)})" for seed, found in alarms) or "-",
    ]


def _run_row(run: Recorded) -> list[str]:
    name = f"{run.name}-{run.seed}" if run.seed else run.name
    minutes = [f"{run.seconds / 60:.1f}", f"{run.engine_minutes:.1f}"]
    return [name, run.day.isoformat(), run.commit or "-", *minutes]
