"""Conditions: whether a candidate thinks the same of the same texts however it is served."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_kvcache.assertions.arguments import misuse_of
from pytest_kvcache.assertions.scores import assert_divergence_within
from pytest_kvcache.conditions import BATCH
from pytest_kvcache.errors import QualityError
from pytest_kvcache.measures.divergence import count_non_finite
from pytest_kvcache.measures.views import kind_of
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import PlannedConditions, ReasonCode

_DEFAULTS = Limits()


def assert_conditions_alike(conditions: PlannedConditions, *, limits: Limits = _DEFAULTS) -> None:
    """Fail unless the candidate is proven to be near itself in a plain batch, under every other condition.

    ``conditions`` is what the fixture ``kv_conditions`` gives; each is held to the limits ``kld``,
    ``delta_nll`` and ``same_top_loss`` as `assert_divergence_within` holds a candidate to its baseline. The
    code is one of its own, so that no declaration about the candidate's divergence from its baseline excuses
    it; figures that are no numbers, and too little evidence, keep theirs. Raises
    :class:`~pytest_kvcache.errors.UsageError` for anything else, and where there is but the plain batch.
    """
    __tracebackhide__ = True
    with misuse_of("assert_conditions_alike"):
        if not isinstance(conditions, PlannedConditions):
            raise ValueError(f"conditions takes what kv_conditions gives, not {kind_of(conditions)}")
        others = [name for name in conditions if name != BATCH.name]
        if not others:
            raise ValueError("give at least one condition besides the plain batch")
        lost = sum(count_non_finite(conditions[BATCH.name]).values())
    if lost:
        raise QualityError(
            f"log-probabilities of the candidate at {lost} positions are not finite, in a plain batch too",
            (ReasonCode.NOT_FINITE,),
        )
    apart = list(_apart(conditions, others, limits))
    if apart:
        codes = dict.fromkeys(code for _, error in apart for code in _codes(error))
        raise QualityError("\n".join(f"{name}: {error}" for name, error in apart), tuple(codes))


def _apart(
    conditions: PlannedConditions, names: list[str], limits: Limits
) -> Iterator[tuple[str, QualityError]]:
    """Yield the conditions under which the candidate is not near itself, and why."""
    for name in names:
        try:
            assert_divergence_within(
                conditions[name],
                conditions[BATCH.name],
                kld=limits.kld,
                delta_nll=limits.delta_nll,
                same_top_loss=limits.same_top_loss,
            )
        except QualityError as error:
            yield name, error


def _codes(error: QualityError) -> tuple[str, ...]:
    """Return an error's codes, of which those of divergence say here that conditions are not alike."""
    divergence = {ReasonCode.DELTA_NLL, ReasonCode.KLD, ReasonCode.SAME_TOP}
    return tuple(ReasonCode.CONDITIONS if code in divergence else code for code in error.codes)
