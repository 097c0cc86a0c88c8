"""Talks with a real engine: its own answers become part of its prompts, and earlier blocks are read again."""

from __future__ import annotations

import processes
import pytest
from real_engine import spec, started

from pytest_kvcache import refmodels
from pytest_kvcache.measures.recall import is_right
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import Counts, Output, Prompt

pytestmark = pytest.mark.vllm

TALKS = load_prompt_set("smoke-turns")
BLOCK = 128
"""Tokens of a block on a processor."""


Life = tuple[tuple[Output, ...], Counts, tuple[Output, ...]]
"""What one engine wrote at the end of all talks, what it counted, and its first answers."""


def first_turn(talk: Prompt) -> Prompt:
    return Prompt(talk.id, talk.kind, messages=talk.messages[:1])


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    directory = tmp_path_factory.mktemp("turns")
    with processes.new_mark(), started(spec("ref:gqa", "auto"), directory) as (engine, _):
        outputs = engine.generate(TALKS.prompts, TALKS.sampling)
        counts = engine.counts
        first = engine.generate([first_turn(talk) for talk in TALKS.prompts], TALKS.sampling)
    return outputs, counts, first


def asked(prompt: Output) -> str:
    """Return the prompt as the model saw it."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(refmodels.ensure("gqa") / "tokenizer.json"))
    return str(tokenizer.decode(prompt.prompt_token_ids, skip_special_tokens=False))


def test_the_last_prompt_holds_the_whole_talk_with_what_the_model_itself_answered(life: Life) -> None:
    outputs, _, first = life
    for talk, output, answer in zip(TALKS.prompts, outputs, first, strict=True):
        seen = asked(output)
        assert f"<|im_start|>assistant\n{answer.text.strip()}" in seen
        assert seen.count("<|im_start|>assistant\n") == 3
        assert seen.index(str(talk.messages[0].content)) < seen.index(str(talk.messages[-1].content))


def test_later_turns_read_the_blocks_of_earlier_ones(life: Life) -> None:
    _, counts, _ = life
    assert (counts.cached_tokens or 0) >= 2 * BLOCK * len(TALKS.prompts)


def test_the_model_can_still_say_what_it_was_told_in_most_talks(life: Life) -> None:
    outputs, *_ = life
    right = [is_right(output.text, talk) for talk, output in zip(TALKS.prompts, outputs, strict=True)]
    assert sum(right) > len(right) / 2
