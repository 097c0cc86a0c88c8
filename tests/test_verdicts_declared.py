"""A failure that was declared is known bad; another failure, or none, is red."""

from __future__ import annotations

from datetime import date

import pytest
from verdict_samples import (
    FAIL,
    INCONCLUSIVE,
    KNOWN_BAD,
    TODAY,
    codes,
    declared,
    evidence,
    loop,
    of_every,
    prompt_set,
    verdict_on,
)

from pytest_kvcache.evidence import Evidence
from pytest_kvcache.records import ReasonCode

BROKEN = evidence(text=of_every(2, loop), delta=lambda _: 0.4)
BROKEN_CODES = (ReasonCode.DELTA_NLL, ReasonCode.DEGENERATE, ReasonCode.SUSPICIOUS)


def test_a_declared_failure_is_known_bad_and_keeps_its_reasons() -> None:
    verdict = verdict_on(BROKEN, known_bad=declared(*BROKEN_CODES))
    assert verdict.verdict is KNOWN_BAD
    assert verdict.ok
    assert codes(verdict) == {ReasonCode.KNOWN_BAD_REPRODUCED, *BROKEN_CODES}
    assert "#840" in verdict.summary


def test_a_failure_for_another_reason_than_declared_stays_red() -> None:
    verdict = verdict_on(BROKEN, known_bad=declared(ReasonCode.DELTA_NLL, ReasonCode.EMPTY))
    assert verdict.verdict is FAIL
    assert ReasonCode.KNOWN_BAD_NOT_REPRODUCED in codes(verdict)
    assert "empty was not seen" in verdict.summary


def test_a_failure_for_more_reasons_than_declared_stays_red() -> None:
    verdict = verdict_on(BROKEN, known_bad=declared(ReasonCode.DELTA_NLL))
    assert verdict.verdict is FAIL
    assert ReasonCode.KNOWN_BAD_NOT_REPRODUCED in codes(verdict)
    assert "degenerate is not declared" in verdict.summary
    both = verdict_on(BROKEN, known_bad=declared(ReasonCode.DELTA_NLL, ReasonCode.EMPTY))
    assert "empty was not seen, degenerate is not declared" in both.summary


def test_one_of_the_declared_codes_suffices_and_the_others_that_a_verdict_gives_are_told() -> None:
    entry = declared(*BROKEN_CODES, ReasonCode.KLD, ReasonCode.RECALL, ReasonCode.TOPIC)
    verdict = verdict_on(BROKEN, known_bad=entry)
    assert verdict.verdict is KNOWN_BAD
    assert verdict.reasons[0].message.endswith("#840; kld was not seen; recall-lost was not seen")


@pytest.mark.parametrize("code", [ReasonCode.RECALL, ReasonCode.TOPIC])
def test_passing_although_other_tests_may_fail_for_the_codes_asks_to_name_these(code: ReasonCode) -> None:
    verdict = verdict_on(evidence(), known_bad=declared(code))
    assert verdict.verdict is FAIL
    assert "or name with `tests` in it those that still fail" in verdict.summary


def test_passing_although_declared_known_bad_is_red() -> None:
    verdict = verdict_on(evidence(), known_bad=declared(ReasonCode.DELTA_NLL))
    assert verdict.verdict is FAIL
    assert "remove the declaration" in verdict.summary


@pytest.mark.parametrize("of", [BROKEN, evidence()], ids=["still-failing", "passing"])
def test_an_expired_declaration_is_red(of: Evidence) -> None:
    held = verdict_on(of, known_bad=declared(ReasonCode.DELTA_NLL, expires=TODAY))
    assert ReasonCode.KNOWN_BAD_EXPIRED not in codes(held)
    expired = verdict_on(of, known_bad=declared(ReasonCode.DELTA_NLL, expires=date(2026, 5, 31)))
    assert expired.verdict is FAIL
    assert ReasonCode.KNOWN_BAD_EXPIRED in codes(expired)


def test_a_declaration_excuses_neither_little_evidence_nor_a_void_comparison() -> None:
    entry = declared(ReasonCode.DELTA_NLL)
    assert verdict_on(evidence(prompt_set(8)), known_bad=entry).verdict is INCONCLUSIVE
    void = verdict_on(evidence(baseline_text=loop), known_bad=entry)
    assert (void.verdict, codes(void)) == (FAIL, {ReasonCode.BASELINE_DEGENERATE})
