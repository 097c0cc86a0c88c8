"""assert_conditions_alike holds a candidate against itself: on average, and in each text."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from verdict_samples import PROVENANCE, output_set, prompt_set, scores

import pytest_kvcache as kv
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import PlannedConditions, PlannedScores, ReasonCode

TEXTS = output_set(prompt_set(n=16), PROVENANCE)


def alone(delta: Callable[[int], float]) -> PlannedConditions:
    """The same texts in a batch and alone, where each is less probable by ``delta`` of its number."""
    return PlannedConditions(
        (
            ("batch", PlannedScores((scores(TEXTS),))),
            ("alone", PlannedScores((scores(TEXTS, delta),))),
        )
    )


def test_what_rounding_changes_passes() -> None:
    kv.assert_conditions_alike(alone(lambda i: 0.01 * (-1) ** i))


def test_one_text_of_many_is_enough_where_the_mean_is_within() -> None:
    one = alone(lambda i: 0.19 if i == 5 else 0.0)
    kv.assert_divergence_within(one["alone"], one["batch"])
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_conditions_alike(one)
    assert caught.value.codes == (ReasonCode.CONDITIONS,)
    assert str(caught.value) == (
        "alone: by themselves 1 of 16 texts are beyond a margin (KLD 0.050, delta NLL 0.100); "
        "worst: p05 KLD 0.009, delta NLL 0.190"
    )


def test_a_text_that_is_ruined_is_told_from_too_few_texts() -> None:
    ruined = alone(lambda i: 1.2 if i == 5 else 0.0)
    with pytest.raises(kv.QualityError, match="would decide"):
        kv.assert_divergence_within(ruined["alone"], ruined["batch"])
    with pytest.raises(kv.QualityError, match=r"^alone: by themselves 1 of 16") as caught:
        kv.assert_conditions_alike(ruined)
    assert caught.value.codes == (ReasonCode.CONDITIONS,)


def test_harm_to_all_is_told_by_its_mean_first() -> None:
    with pytest.raises(kv.QualityError) as caught:
        kv.assert_conditions_alike(alone(lambda _: 0.5))
    lines = str(caught.value).splitlines()
    assert lines[0] == "alone: the candidate is not proven to be within the margins:"
    assert lines[-1].startswith("alone: by themselves 16 of 16 texts")


@pytest.mark.parametrize(("limit", "delta"), [("conditions_delta_nll", 0.19), ("conditions_kld", -0.6)])
def test_a_text_is_held_to_the_limits_that_were_given(limit: str, delta: float) -> None:
    one = alone(lambda i: delta * (i == 5))
    with pytest.raises(kv.QualityError, match="by themselves 1 of 16 texts"):
        kv.assert_conditions_alike(one)
    kv.assert_conditions_alike(one, limits=msgspec.structs.replace(Limits(), **{limit: 0.2}))


def test_what_is_granted_beside_the_baseline_is_not_granted_beside_itself() -> None:
    lossy = Limits(delta_nll=5, kld=5, same_top_loss=1)
    with pytest.raises(kv.QualityError, match=r"KLD 0.050, delta NLL 0.100"):
        kv.assert_conditions_alike(alone(lambda _: 0.5), limits=lossy)


def test_tighter_limits_beside_the_baseline_raise_no_alarm_beside_itself() -> None:
    rounding = alone(lambda i: 0.02 * (-1) ** i)
    kv.assert_conditions_alike(rounding, limits=Limits(delta_nll=1e-3, kld=1e-6, same_top_loss=0))
