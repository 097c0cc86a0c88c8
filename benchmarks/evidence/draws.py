"""Draws: prompts taken from a recording by chance, and judged as if they were the whole run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pytest_kvcache.endpoints import (
    baseline_endpoints,
    compare_all,
    judge_endpoints,
    primary_samples,
    secondary_samples,
)
from pytest_kvcache.evidence import Evidence, Faults, find_faults
from pytest_kvcache.measures.noninferiority import Differences, Means, Sample
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Reason, ReasonCode, VerdictKind
from pytest_kvcache.verdicts import outcome

LIMITS = Limits(min_prompts=1, min_tokens_per_prompt=1, min_kinds=1)
"""The default ones, but for the minimum of evidence, so that small runs show as well."""
SCORED = ("delta_nll", "kld", "same_top_loss")
PENALISED = ("degenerate_excess_penalised", "penalised_repetition_excess")
FREE_RUNNING = ("suspicious_excess", "empty_excess", "runaway_excess")
"""Endpoints over the outputs of both sets, the plain and the penalised one."""
RECALL = "recall_loss"

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Which prompts of each set were drawn."""

    plain: Rows
    penalised: Rows
    tasks: Rows


@dataclass(frozen=True)
class Candidate:
    """What was measured on one candidate: one value per prompt of each set."""

    samples: dict[str, Sample]
    faults: list[Faults]
    plain: int
    penalised: int
    tasks: int

    def draw(self, rng: np.random.Generator, prompts: int, *, replacement: bool = True) -> Draw:
        """Draw as many plain prompts, half as many penalised ones, and three quarters as many tasks."""
        plain, penalised, tasks = (
            rng.choice(of, count, replace=replacement)
            for of, count in (
                (self.plain, prompts),
                (self.penalised, prompts // 2),
                (self.tasks, 3 * prompts // 4),
            )
        )
        return Draw(plain, penalised, tasks)

    def reasons(self, draw: Draw) -> list[Reason] | None:
        """Judge the drawn prompts as if they were the whole run; None if the baseline degenerates."""
        written = np.concatenate([draw.plain, self.plain + draw.penalised])
        faults = [self.faults[i] for i in written]
        if any(endpoint.reason for endpoint in baseline_endpoints(faults, LIMITS)):
            return None
        rows = {
            **dict.fromkeys(PENALISED, draw.penalised),
            **dict.fromkeys(FREE_RUNNING, written),
            RECALL: draw.tasks,
        }
        drawn = {name: _rows(sample, rows.get(name, draw.plain)) for name, sample in self.samples.items()}
        return [endpoint.reason for endpoint in judge_endpoints(drawn, LIMITS) if endpoint.reason]

    def harm(self, name: str) -> float:
        """Return the figure of an endpoint on all prompts."""
        return self.samples[name].interval().value


@dataclass(frozen=True)
class Tally:
    """Verdicts on draws; void are those whose baseline degenerates by chance of the draw."""

    runs: int
    failed: int
    open: int
    void: int
    failures: Counter[ReasonCode]
    """How many runs each code fails, alone or with others."""

    @property
    def judged(self) -> int:
        return max(1, self.runs - self.void)

    @property
    def power(self) -> float:
        return self.failed / self.judged

    def __str__(self) -> str:
        """Failed / inconclusive, in per cent of the runs that are not void."""
        return f"{100 * self.power:.0f} / {100 * self.open / self.judged:.0f}"


def candidate_of(evidence: Sequence[Evidence]) -> Candidate:
    """Measure a candidate on a plain set, a penalised one and tasks, in this order."""
    faults = find_faults(evidence)
    samples = {**primary_samples(compare_all(evidence)), **secondary_samples(faults, evidence)}
    return Candidate(samples, faults, *(len(each.candidate) for each in evidence))


def tally(candidate: Candidate, prompts: int, draws: int, *, replacement: bool = True) -> Tally:
    """Judge draws, the same ones whenever as many are asked for."""
    rng = np.random.default_rng([prompts, replacement])
    found = [candidate.reasons(candidate.draw(rng, prompts, replacement=replacement)) for _ in range(draws)]
    judged = [reasons for reasons in found if reasons is not None]
    outcomes = [outcome(reasons) for reasons in judged]
    kinds = [kind for kind, _ in outcomes]
    return Tally(
        runs=draws,
        failed=kinds.count(VerdictKind.FAIL),
        open=kinds.count(VerdictKind.INCONCLUSIVE),
        void=draws - len(judged),
        failures=Counter(
            code
            for kind, reasons in outcomes
            if kind is VerdictKind.FAIL
            for code in {reason.code for reason in reasons}
        ),
    )


def mixed(healthy: Candidate, worse: Candidate, step: float) -> Candidate:
    """Move what is scored of each prompt a part of the way from one candidate to another."""
    samples: dict[str, Sample] = dict(healthy.samples)
    for name in SCORED:
        one, other = healthy.samples[name], worse.samples[name]
        assert isinstance(one, Means)
        assert isinstance(other, Means)
        samples[name] = Means((1 - step) * one.values + step * other.values)
    return replace(healthy, samples=samples)


def _rows(sample: Sample, rows: Rows) -> Sample:
    if isinstance(sample, Means):
        return Means(sample.values[rows])
    assert isinstance(sample, Differences)
    return Differences(sample.values[rows])
