"""Baselines: whether the trusted outputs can be trusted by themselves."""

from __future__ import annotations

from pytest_kvcache.assertions.arguments import check_margins, misuse_of, read_sets
from pytest_kvcache.endpoints import baseline_answers, baseline_endpoints
from pytest_kvcache.errors import QualityError
from pytest_kvcache.evidence import Evidence, find_faults, wrong_answers
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import OutputSet, PlannedOutputs, Reason, ReasonCode
from pytest_kvcache.text import printable
from pytest_kvcache.verdicts import quantized_baseline

_DEFAULTS = Limits()


def assert_baseline_sound(
    baseline: OutputSet | PlannedOutputs,
    *,
    degenerate: float = _DEFAULTS.baseline_degenerate,
    degenerate_penalised: float = _DEFAULTS.baseline_degenerate_penalised,
    recall: float = _DEFAULTS.baseline_recall,
) -> None:
    """Fail for a baseline that can vouch for nobody: quantized itself, degenerate, or ignorant of the tasks.

    Each limit (0 to 1) is on a share itself, not on its interval: of unpenalised and of penalised outputs
    that may be degenerate or empty, and of tasks that must be answered rightly. Raises
    :class:`~pytest_kvcache.errors.UsageError` for what is no set of outputs, and where there are none.
    """
    __tracebackhide__ = True
    with misuse_of("assert_baseline_sound"):
        check_margins(
            {"degenerate": degenerate, "degenerate_penalised": degenerate_penalised, "recall": recall}
        )
        sets = read_sets(baseline, "baseline")
    evidence = [Evidence(each.prompt_set, each, each) for each in sets]
    limits = Limits(
        baseline_degenerate=degenerate,
        baseline_degenerate_penalised=degenerate_penalised,
        baseline_recall=recall,
    )
    endpoints = (
        *baseline_endpoints(find_faults(evidence), limits),
        *baseline_answers(wrong_answers(evidence), limits),
    )
    with misuse_of("assert_baseline_sound"):
        if not endpoints:
            raise ValueError("baseline holds no outputs")
    reasons = [*_quantized(sets), *(each.reason for each in endpoints if each.reason)]
    if reasons:
        raise QualityError(
            printable("; ".join(reason.message for reason in reasons)),
            tuple(dict.fromkeys(reason.code for reason in reasons)),
        )


def _quantized(sets: tuple[OutputSet, ...]) -> list[Reason]:
    """Return one reason if the cache of any set was quantized."""
    found = [each for each in sets if each.provenance.kv_cache_quantized]
    if not found:
        return []
    spec, resolved = found[0].spec, found[0].provenance.kv_cache_dtype
    message = quantized_baseline(f"{spec.model} under {spec.kv_cache_dtype}", spec, resolved)
    return [Reason(ReasonCode.BASELINE_QUANTIZED, None, message)]
