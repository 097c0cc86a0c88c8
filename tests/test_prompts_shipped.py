"""What the shipped sets promise: their names, sizes and kinds, and the prompts that they share."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from shipped_prompts import SHIPPED, answers, bodies

from pytest_kvcache.prompts import shipped_prompt_sets
from pytest_kvcache.records import Prompt, Sampling


def opening(prompt: Prompt) -> str:
    """Return what two prompts made from one template share: three words, or four Chinese characters."""
    text = prompt.text or next(m.content for m in prompt.messages if m.role == "user" and m.content)
    words = re.findall(r"[\u4e00-\u9fff]|\w+", re.sub(r"\d+", "0", text.lower()))
    return " ".join(words[:4] if re.match(r"[\u4e00-\u9fff]", words[0]) else words[:3])


def chinese(prompt: Prompt) -> bool:
    text = prompt.text or prompt.messages[-1].content or ""
    return len(re.findall(r"[\u4e00-\u9fff]", text)) > len(text) / 2


def test_every_shipped_set_belongs_to_a_tier() -> None:
    tiers = {name: name.partition("-")[0] for name in shipped_prompt_sets()}
    assert set(tiers.values()) == {"smoke", "full"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_bears_the_name_of_its_file_and_is_greedy(name: str) -> None:
    assert SHIPPED[name].name == name
    assert SHIPPED[name].sampling.temperature == 0


@pytest.mark.parametrize(
    ("name", "prompts", "kinds", "chinese_prompts", "max_tokens"),
    [
        ("smoke", 32, 8, 3, 160),
        ("smoke-penalised", 16, 8, 2, 128),
        ("full", 96, 12, 8, 256),
        ("full-penalised", 32, 12, 2, 224),
        ("full-frequency", 32, 12, 2, 224),
        ("full-frequency-alone", 32, 12, 2, 224),
        ("full-presence-alone", 32, 12, 2, 224),
    ],
)
def test_a_shipped_set_is_as_large_and_as_varied_as_documented(
    name: str, prompts: int, kinds: int, chinese_prompts: int, max_tokens: int
) -> None:
    loaded = SHIPPED[name]
    assert len(loaded.prompts) == prompts
    assert len({prompt.kind for prompt in loaded.prompts}) >= kinds
    assert sum(map(chinese, loaded.prompts)) >= chinese_prompts
    assert {prompt.text is None for prompt in loaded.prompts} == {True, False}
    assert any(len(prompt.messages) > 2 for prompt in loaded.prompts)
    assert loaded.sampling.max_tokens == max_tokens


def test_the_smoke_tier_generates_at_most_8000_tokens_per_engine_and_half_as_many_for_single_symptoms() -> (
    None
):
    verdict = {"smoke", "smoke-penalised", "smoke-tasks"}
    tokens = {
        name: sum(map(answers, loaded.prompts)) * loaded.sampling.max_tokens
        for name, loaded in SHIPPED.items()
        if name.startswith("smoke")
    }
    assert sum(tokens[name] for name in verdict) <= 8000
    del tokens["smoke-short"]  # a few hundred, unless answers run away
    assert sum(tokens[name] for name in tokens.keys() - verdict) <= 4000


def test_smoke_and_full_share_no_id_and_no_text() -> None:
    both = SHIPPED["smoke"].prompts + SHIPPED["full"].prompts
    assert len({prompt.id for prompt in both}) == len(both) == 128
    assert len({*bodies(SHIPPED["smoke"]), *bodies(SHIPPED["full"])}) == len(both)


def test_no_template_is_used_more_than_four_times() -> None:
    openings = Counter(map(opening, SHIPPED["smoke"].prompts + SHIPPED["full"].prompts))
    assert openings.most_common(1)[0][1] <= 4


@pytest.mark.parametrize(
    ("name", "lender"),
    [
        ("smoke-penalised", "smoke"),
        ("full-penalised", "full"),
        ("full-frequency", "full-penalised"),
        ("full-frequency-alone", "full-penalised"),
        ("full-presence-alone", "full-penalised"),
    ],
)
def test_a_penalised_set_has_the_prompts_of_its_plain_one(name: str, lender: str) -> None:
    assert set(SHIPPED[name].prompts) <= set(SHIPPED[lender].prompts)
    assert SHIPPED[name].sampling.penalised


def test_the_penalised_full_sets_have_the_same_prompts_each_under_penalties_of_its_own() -> None:
    penalised = [
        SHIPPED[f"full-{name}"] for name in ("penalised", "frequency", "frequency-alone", "presence-alone")
    ]
    assert len({loaded.prompts for loaded in penalised}) == 1
    assert len({loaded.sampling for loaded in penalised}) == 4


def test_an_id_says_the_kind_of_its_prompt() -> None:
    for prompt in SHIPPED["smoke"].prompts + SHIPPED["full"].prompts:
        assert re.fullmatch(prompt.kind.replace("how-to", "howto") + r"-\d\d", prompt.id)


def test_no_text_to_be_continued_ends_in_a_blank_that_would_change_its_tokens() -> None:
    for loaded in SHIPPED.values():
        assert not any(prompt.text and prompt.text.endswith((" ", "\t")) for prompt in loaded.prompts)


def test_the_key_of_a_set_is_that_of_its_content_and_not_of_its_name() -> None:
    smoke = SHIPPED["smoke"]
    assert replace(smoke, name="other").key == smoke.key
    changed = replace(smoke.prompts[0], kind="other")
    answered = replace(smoke.prompts[0], answer="yes")
    others = [
        replace(smoke, prompts=(answered, *smoke.prompts[1:])),
        replace(smoke, prompts=(changed, *smoke.prompts[1:])),
        replace(smoke, prompts=smoke.prompts[::-1]),
        replace(smoke, sampling=Sampling(max_tokens=161)),
    ]
    assert len({smoke.key, *(other.key for other in others)}) == 5
