"""The shipped prompt sets, and what their tests read off them."""

from __future__ import annotations

from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets
from pytest_kvcache.records import Prompt, PromptSet

SHIPPED = {name: load_prompt_set(name) for name in shipped_prompt_sets()}


def bodies(prompt_set: PromptSet) -> list[object]:
    return [prompt.text or prompt.messages for prompt in prompt_set.prompts]


def answers(prompt: Prompt) -> int:
    """Return how many answers the model writes for a prompt, its own ones in between included."""
    return 1 + sum(message.content is None for message in prompt.messages)
