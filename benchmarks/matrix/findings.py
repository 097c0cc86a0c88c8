"""Findings: what was recorded of each target, and what of it counts as having caught a fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matrix.catalogue import TIERS, Fault, SuiteTest, Tier, target_id
from matrix.outcomes import Outcome, Recorded


class Findings:
    """All recorded outcomes of the shipped prompts, found by tier and target."""

    def __init__(self, runs: Iterable[Recorded]) -> None:
        self._runs = [run for run in runs if run.seed == 0]
        self._outcomes: dict[tuple[Tier, str], list[Outcome]] = {}
        for run in self._runs:
            for outcome in run.outcomes:
                self._outcomes.setdefault((run.tier, outcome.target), []).append(outcome)

    def of(self, target: str, tier: Tier) -> Sequence[Outcome]:
        return self._outcomes.get((tier, target), ())

    def commits(self, target: str, tiers: Sequence[Tier] = TIERS) -> set[str]:
        """Return the commits of all runs that say something of a target in these tiers; one may be empty."""
        runs = (run for run in self._runs if run.tier in tiers)
        return {run.commit for run in runs if any(found.target == target for found in run.outcomes)}

    def catches(self, fault: Fault, tier: Tier) -> list[Outcome]:
        """Return the outcomes by which a fault was caught in a tier: none that is red without it as well."""
        red = {
            (o.suite, o.test) for name in fault.healthy for o in self.of(name, tier) if o.state == "failed"
        }
        return [
            outcome
            for outcome in self.of(fault.target, tier)
            if outcome.caught(fault.red_by)
            and fault.says in outcome.message
            and (outcome.suite, outcome.test) not in red
            and not (fault.healthy and outcome.is_of_baseline)
        ]

    def has_red_baseline(self, fault: Fault) -> bool:
        """Whether the baseline that a fault was held against is unfit for that, by the suite on baselines."""
        baseline = target_id(fault.model, fault.baseline)
        found = (o for tier in TIERS for o in self.of(baseline, tier) if o.suite == "baseline")
        return fault.suite != "baseline" and any(o.state == "failed" for o in found)

    def caught_by(self, fault: Fault, tier: Tier) -> list[str]:
        """Return the suites that caught a fault in a tier, by name."""
        return sorted({outcome.suite for outcome in self.catches(fault, tier)})

    def found_by(self, test: SuiteTest, fault: Fault, tier: Tier) -> bool | None:
        """Return whether a test found a fault by a judgement of its own; None where it came to none.

        An engine that is gone, and one that the plugin would not judge, turn every test red alike.
        """
        said = [o for o in self.of(fault.target, tier) if (o.suite, o.test) == (test.suite, test.name)]
        if not any(o.state == "passed" or o.red in ("quality", "undecided") for o in said):
            return None
        caught = self.catches(fault, tier)
        return any(o.red == "quality" and o in caught for o in said)
