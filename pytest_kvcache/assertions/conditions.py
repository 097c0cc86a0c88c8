"""Conditions: whether a candidate thinks the same of the same texts however it is served."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_kvcache.assertions.arguments import misuse_of
from pytest_kvcache.assertions.scores import assert_divergence_within
from pytest_kvcache.conditions import BATCH
from pytest_kvcache.errors import QualityError
from pytest_kvcache.findings import SHOWN
from pytest_kvcache.measures.divergence import count_non_finite, divergence
from pytest_kvcache.measures.views import kind_of
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import PlannedConditions, ReasonCode
from pytest_kvcache.text import printable

_DEFAULTS = Limits()
_OF_DIVERGENCE = {ReasonCode.DELTA_NLL, ReasonCode.KLD, ReasonCode.SAME_TOP}


def assert_conditions_alike(conditions: PlannedConditions, *, limits: Limits = _DEFAULTS) -> None:
    """Fail unless the candidate is proven to be near itself in a plain batch, under every other condition.

    ``conditions`` is what the fixture ``kv_conditions`` gives. Each is held to the limits ``conditions_kld``,
    ``conditions_delta_nll`` and ``conditions_same_top_loss`` as `assert_divergence_within` holds a candidate
    to its baseline, and every text by itself to the first two: a fault in one sequence of many moves no mean,
    and a healthy engine keeps each text far inside. The code is one of its own, so that no declaration about
    the candidate's divergence from its baseline excuses it; figures that are no numbers, and too little
    evidence, keep theirs. Raises :class:`~pytest_kvcache.errors.UsageError` for anything else, and where
    there is but the plain batch.
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
    apart = [found for name in others for found in _apart(name, conditions, limits)]
    if apart:
        # What is proven silences what is open for want of texts.
        proven = [each for each in apart if ReasonCode.UNDECIDED not in each.codes] or apart
        codes = dict.fromkeys(code for each in proven for code in each.codes)
        raise QualityError("\n".join(map(str, proven)), tuple(codes))


def _apart(name: str, conditions: PlannedConditions, limits: Limits) -> Iterator[QualityError]:
    """Yield why the candidate is not near itself under one condition."""
    here, batch = conditions[name], conditions[BATCH.name]
    try:
        assert_divergence_within(
            here,
            batch,
            kld=limits.conditions_kld,
            delta_nll=limits.conditions_delta_nll,
            same_top_loss=limits.conditions_same_top_loss,
        )
    except QualityError as error:
        yield QualityError(f"{name}: {error}", tuple(map(_own, error.codes)))
    texts = divergence(here, batch).texts
    kld, delta_nll = limits.conditions_kld, limits.conditions_delta_nll
    far = [text for text in texts if text.kld > kld or text.delta_nll > delta_nll]
    if far:
        far.sort(key=lambda text: text.kld, reverse=True)
        shown = ", ".join(
            f"{printable(text.prompt_id)} KLD {text.kld:.3f}, delta NLL {text.delta_nll:.3f}"
            for text in far[:SHOWN]
        )
        yield QualityError(
            f"{name}: by themselves {len(far)} of {len(texts)} texts are beyond a margin "
            f"(KLD {kld:.3f}, delta NLL {delta_nll:.3f}); worst: {shown}",
            (ReasonCode.CONDITIONS,),
        )


def _own(code: str) -> str:
    """Return an error's code, of which those of divergence say here that conditions are not alike."""
    return ReasonCode.CONDITIONS if code in _OF_DIVERGENCE else code
