"""Speed: tokens per second of a whole batch, and how long one request by itself waits for its first token."""

from __future__ import annotations

import pytest

from pytest_kvcache.prompts import load_prompt_set

from .conftest import Measure


@pytest.mark.kv_perf
def test_throughput(measure: Measure) -> None:
    measure("tokens_per_second", load_prompt_set("smoke").prompts, tokens=64)


@pytest.mark.kv_perf
def test_first_token(measure: Measure) -> None:
    measure("seconds_to_first_token", load_prompt_set("smoke").prompts[:1], tokens=1)


@pytest.mark.kv_perf
def test_first_token_of_a_long_prompt(measure: Measure) -> None:
    measure("seconds_to_first_token_long", load_prompt_set("full-long").prompts[:1], tokens=1)
