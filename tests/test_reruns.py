"""Healthy engines are asked other prompts each time, and every verdict on them is counted."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import reruns
from evidence.recorded import target
from verdict_samples import evidence, verdict_on

from pytest_kvcache.policy import Limits
from pytest_kvcache.records import VerdictKind

RERUNS = {seed: reruns.drawn_sets(seed) for seed in reruns.SEEDS}


def test_every_rerun_is_another_and_enough_for_a_verdict() -> None:
    assert len({prompt_set.key for sets in RERUNS.values() for prompt_set in sets}) == 3 * len(RERUNS) == 30
    for plain, penalised, tasks in RERUNS.values():
        assert len(set(plain.prompts)) >= Limits().min_prompts
        assert len({prompt.kind for prompt in plain.prompts}) >= Limits().min_kinds
        assert plain.sampling.max_tokens >= Limits().min_tokens_per_prompt
        assert penalised.sampling.penalised
        assert tasks.is_tasks


def test_a_seed_draws_the_same_prompts_in_the_same_order_again() -> None:
    assert {seed: reruns.drawn_sets(seed) for seed in reruns.SEEDS} == RERUNS


def test_the_page_counts_what_did_not_pass() -> None:
    healthy = verdict_on(evidence())
    verdicts = iter([replace(healthy, verdict=VerdictKind.FAIL), *[healthy] * 9])
    session: Any = SimpleNamespace(verdict=lambda *_: next(verdicts))
    page = "\n".join(reruns.report(session, [target("gqa", "fp8_e4m3")], RERUNS))
    assert page.count("| pass |") == 9
    assert "`fail`: 10% of 10 (95 % interval 2% to 40%)." in page
    assert "`inconclusive`: 0% of 10 (95 % interval 0% to 28%)." in page
