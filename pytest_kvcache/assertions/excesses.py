"""Excesses: faults that more of the outputs have than of the baseline's for the same prompts.

Each is a paired difference of two shares, judged as the secondary endpoints of a verdict are: it fails where
its interval lies beyond the margin, at the level corrected for all that are judged together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_kvcache.assertions.arguments import check_enough, check_margins, read_sets
from pytest_kvcache.endpoints import reason_against
from pytest_kvcache.errors import QualityError
from pytest_kvcache.evidence import Evidence
from pytest_kvcache.findings import AFTER, SHOWN
from pytest_kvcache.measures.noninferiority import Differences, judge
from pytest_kvcache.measures.paired import Interval
from pytest_kvcache.measures.power import can_show_excess
from pytest_kvcache.records import Output, OutputSet, PlannedOutputs, Prompt, ReasonCode
from pytest_kvcache.text import listed, printable

Sets = OutputSet | PlannedOutputs


@dataclass(frozen=True, slots=True)
class Pair:
    """What candidate and baseline wrote for one prompt of a set."""

    of: Evidence
    prompt: Prompt
    ours: Output
    theirs: Output

    @property
    def name(self) -> str:
        return f"{self.of.prompt_set.name}/{self.prompt.id}"


@dataclass(frozen=True, slots=True)
class Found:
    """Whether an output has a fault, of the candidate and of the baseline, and what is to be seen of it."""

    pair: Pair
    ours: bool
    theirs: bool
    seen: str | None = None
    """A line for people; None for the beginning of the text."""


@dataclass(frozen=True, slots=True)
class Excess:
    """By how much the share of outputs with a fault exceeds the baseline's, proven to be beyond a margin."""

    interval: Interval
    margin: float
    worse: tuple[str, ...]
    """The outputs that have the fault where the baseline's do not, by name."""

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        return f"{self.interval.value:.2f} [{low:.2f}, {high:.2f}], beyond the margin {self.margin:.2f}"


def read_evidence(output: Sets, baseline: Sets) -> list[Evidence]:
    """Return what both sides made of each prompt set. Raises ValueError unless both are of the same sets."""
    ours, theirs = read_sets(output, "output"), read_sets(baseline, "baseline")
    if [each.prompt_set.key for each in ours] != [each.prompt_set.key for each in theirs]:
        raise ValueError("output and baseline are not of the same prompt sets")
    return [Evidence(one.prompt_set, other, one) for one, other in zip(ours, theirs, strict=True)]


def free_pairs(output: Sets, baseline: Sets) -> list[Pair]:
    """Return the pairs of all sets but tasks. Raises ValueError for other prompts, and for fewer than two."""
    evidence = [each for each in read_evidence(output, baseline) if not each.prompt_set.is_tasks]
    pairs = [Pair(each, *pair) for each in evidence for pair in each.pairs()]
    check_enough(len(pairs))
    return pairs


def find_excess(faults: Mapping[str, tuple[bool, bool]], margin: float) -> Excess | None:
    """Judge one fault by itself: return its excess if that is proven to be beyond the margin.

    ``faults`` says of each output, by name, whether the candidate's and the baseline's have it.
    """
    [judgement] = judge({"it": Differences.of(faults.values())}, {"it": margin}).values()
    if not judgement.beyond:
        return None
    worse = tuple(name for name, (ours, theirs) in faults.items() if ours and not theirs)
    return Excess(judgement.interval, margin, worse)


def check_excesses(
    found: Mapping[str, Sequence[Found]], margins: Mapping[str, float], *, relative: Collection[str] = ()
) -> None:
    """Raise QualityError if any fault, by the name of its limit, is proven to be beyond its margin.

    If none is, it is raised where one could not be: see `check_power`. ``relative`` names faults that only
    one of two outputs can have, by being the longer or the shorter: the baseline's hide none of the
    candidate's.
    """
    check_margins(margins)
    samples = {
        name: Differences.of((each.ours, each.theirs) for each in faults) for name, faults in found.items()
    }
    reasons = [reason_against(name, judgement) for name, judgement in judge(samples, margins).items()]
    against = [each for each in reasons if each is not None and each.code is not ReasonCode.UNDECIDED]
    if against:
        parts = [_told(each.message, found[each.metric or ""]) for each in against]
        raise QualityError("\n".join(parts), tuple(each.code for each in against))
    for name, faults in found.items():
        check_power(name, [each.theirs and name not in relative for each in faults], margins[name])


def check_power(name: str, theirs: Collection[bool], margin: float) -> None:
    """Raise QualityError if not even a fault of every output would be proven to be beyond the margin.

    ``name`` is that of the fault's limit, ``theirs`` says of each of the baseline's whether it has it. A
    margin of 1 or more judges nothing, and is not held to it.
    """
    if margin < 1 and not can_show_excess(theirs, margin):
        raise QualityError(
            f"{name}: of {len(theirs)} outputs {len(theirs) - sum(theirs)} are free of this fault in the "
            f"baseline, and not even the fault of all would be proven beyond the margin {margin:.2f}: give "
            "more prompts, or ones that the baseline answers without it",
            (ReasonCode.TOO_LITTLE_EVIDENCE,),
        )


def _told(message: str, found: Iterable[Found]) -> str:
    worse = [each for each in found if each.ours and not each.theirs]
    lines = [message, f"where the baseline's are not: {listed(each.pair.name for each in worse)}"]
    return "\n".join([*lines, *(f"  {_line(each)}" for each in worse[:SHOWN])])


def _line(each: Found) -> str:
    seen = each.seen or f'"{printable(each.pair.ours.text, AFTER)}"'
    return f"{printable(each.pair.name)}: {seen}"
