"""Outputs: whether what was written loops, is stuck, is empty, or repeats itself."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_kvcache.assertions.arguments import (
    Case,
    Outputs,
    check_enough,
    check_margins,
    check_paired,
    misuse_of,
    read_cases,
    read_penalised,
)
from pytest_kvcache.assertions.excesses import check_power, find_excess
from pytest_kvcache.assertions.messages import end_of, findings, message
from pytest_kvcache.errors import QualityError
from pytest_kvcache.findings import failures
from pytest_kvcache.measures.paired import mean_interval
from pytest_kvcache.measures.penalties import repetition_excess
from pytest_kvcache.measures.repetition import ngram_repetition
from pytest_kvcache.measures.views import Outputlike, Promptlike
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Output, OutputSet, PlannedOutputs, ReasonCode, Signal

_DEFAULTS = Limits()


def assert_not_degenerate(
    output: Outputs, *, prompt: Promptlike | None = None, baseline: Outputs | None = None
) -> None:
    """Fail for outputs that loop, are stuck, or are empty.

    ``baseline`` holds what the baseline wrote for the same prompts; what it does as well is no
    finding. ``prompt`` is what a single output, or every text of a list, was written for; an ``OutputSet``
    knows its own, and with it ``prompt`` is refused.
    """
    __tracebackhide__ = True
    with misuse_of("assert_not_degenerate"):
        cases = read_cases(output, prompt=prompt)
        beside: dict[str, Outputlike] = {}
        if baseline is not None:
            beside = {case.name: case.output for case in read_cases(baseline, "baseline")}
            check_paired((case.name for case in cases), beside)
    found = [(case, signal) for case in cases for signal in _failures(case, beside.get(case.name))[:1]]
    if found:
        codes = _codes(signal for _, signal in found)
        raise QualityError(message("degenerate", findings(found), len(cases)), tuple(sorted(codes)))


def assert_degeneration_within(
    output: Outputs,
    baseline: Outputs,
    *,
    margin: float = _DEFAULTS.degenerate_excess,
    empty: float = _DEFAULTS.empty_excess,
) -> None:
    """Fail if a larger share of outputs is degenerate than of the baseline's for the same prompts.

    The assertion for models that loop now and then by themselves. Fails if the paired difference of the
    two shares lies beyond ``margin`` (0 to 1) with its 95 % interval; empty outputs are judged likewise,
    by themselves, against ``empty``. At the default margin it takes 6 of 16, and 8 of 32. Where the
    baseline has so few sound outputs that not even the loss of all would be proven, it fails for too little
    evidence: at the default margin of fewer than 5 always. A margin of 1 leaves a fault unjudged.
    Raises :class:`~pytest_kvcache.errors.UsageError` for fewer than two.
    """
    __tracebackhide__ = True
    with misuse_of("assert_degeneration_within"):
        check_margins({"margin": margin, "empty": empty})
        cases, beside = read_cases(output), read_cases(baseline, "baseline")
        check_paired((case.name for case in cases), (case.name for case in beside))
        check_enough(len(cases))
    ours, theirs = ({case.name: _failures(case) for case in side} for side in (cases, beside))
    margins = {ReasonCode.DEGENERATE: margin, ReasonCode.EMPTY: empty}
    faults = {
        code: {name: (code in _codes(ours[name]), code in _codes(theirs[name])) for name in ours}
        for code in margins
    }
    beyond = []
    for code, margin_of_code in margins.items():
        if excess := find_excess(faults[code], margin_of_code):
            worse = [(case, ours[case.name][0]) for case in cases if case.name in excess.worse]
            beyond.append((code, worse, excess))
    if beyond:
        parts = [
            f"{code} outputs exceed the baseline's by {excess} ({excess.interval.n} outputs)\n"
            + message(f"{code} where the baseline's is not", findings(worse), len(cases))
            for code, worse, excess in beyond
        ]
        raise QualityError("\n".join(parts), tuple(code for code, *_ in beyond))
    for code, margin_of_code in margins.items():
        check_power(f"{code}_excess", [sick for _, sick in faults[code].values()], margin_of_code)


def assert_no_ngram_repetition(output: Outputs, n: int = 4, *, limit: float = 0.6) -> None:
    """Fail for outputs of which more than ``limit`` (0 to 1) of all n-grams occurred before.

    Of 12,400 healthy passages of prose and manuals, 512 tokens each, 1.2 % are beyond the default; of
    code, JSON and HTML far more are.
    """
    __tracebackhide__ = True
    with misuse_of("assert_no_ngram_repetition"):
        check_margins({"limit": limit})
        cases = read_cases(output)
        shares = [(case, ngram_repetition(case.output, n)) for case in cases]
    lines = [
        (case.name, f"{share:.2f} of all {n}-grams occurred before (limit {limit:.2f}){end_of(case.output)}")
        for case, share in shares
        if share > limit
    ]
    if lines:
        raise QualityError(message("repetitive", lines, len(cases)), (ReasonCode.REPETITION,))


def assert_penalties_effective(
    output: OutputSet | PlannedOutputs | Iterable[Output],
    baseline: OutputSet | PlannedOutputs | Iterable[Output],
    *,
    margin: float = 0.10,
) -> None:
    """Fail if penalties leave more repetition in the outputs than in the baseline's.

    Both are outputs for the same prompts under the same penalties; of planned outputs only the penalised
    sets count. Fails if the mean excess of 4-gram repetition (0 to 1) lies beyond ``margin`` with its
    95 % interval. Raises :class:`~pytest_kvcache.errors.UsageError` for outputs that were not penalised,
    and for fewer than two.
    """
    __tracebackhide__ = True
    with misuse_of("assert_penalties_effective"):
        check_margins({"margin": margin})
        ours, theirs = read_penalised(output, "output"), read_penalised(baseline, "baseline")
        if len(ours) != len(theirs):
            raise ValueError("output and baseline are not of the same prompt sets")
        excess = [value for pair in zip(ours, theirs, strict=True) for value in repetition_excess(*pair)]
        check_enough(len(excess))
    interval = mean_interval(excess)
    if interval.low > margin:
        raise QualityError(
            f"penalties do not keep it from repeating itself: 4-gram repetition exceeds the baseline's by "
            f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}], beyond the margin {margin:.2f} "
            f"({interval.n} outputs)",
            (ReasonCode.PENALTIES,),
        )


def _failures(case: Case, beside: Outputlike | None = None) -> list[Signal]:
    return failures(case.output, case.prompt, beside)


def _codes(signals: Iterable[Signal]) -> set[ReasonCode]:
    return {ReasonCode.EMPTY if s.kind == "empty" else ReasonCode.DEGENERATE for s in signals}
