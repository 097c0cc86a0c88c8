"""Turns: conversations that hold answers of the model's own, which no file can know before it ran.

A message of the assistant whose content is None stands for what the model itself answers there. All
prompts of a set go on together, turn by turn: one batch for everybody's first answer, one for the second of
those who have another. An engine that keeps its prefix cache between them reads what it wrote there earlier,
as a chat does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pytest_kvcache.errors import EngineError
from pytest_kvcache.records import Output, Prompt

Generate = Callable[[Sequence[Prompt]], Sequence[Output]]
"""Generates one batch, an output for each prompt."""


def generate_by_turns(prompts: Sequence[Prompt], generate: Generate) -> tuple[Output, ...]:
    """Return each prompt's last output; what was written in earlier turns stands in its prompt.

    ``generate`` is called once per turn, with prompts that hold no open answer; prompts without own answers
    are done after the first. Raises `EngineError` for an open answer that is not one to the user.
    """
    for prompt in prompts:
        _check_answerable(prompt)
    asked = dict(enumerate(prompts))
    outputs: dict[int, Output] = {}
    while asked:
        written = generate([_until_open(prompt) for prompt in asked.values()])
        outputs |= zip(asked, written, strict=True)
        asked = {
            index: _answered(prompt, outputs[index].text)
            for index, prompt in asked.items()
            if _first_open(prompt) < len(prompt.messages)
        }
    return tuple(outputs[index] for index in range(len(prompts)))


def _check_answerable(prompt: Prompt) -> None:
    """Prompt files are checked when they are read; this is for prompts that tests make themselves."""
    roles = [None, *(message.role for message in prompt.messages)]
    for before, message in zip(roles, prompt.messages, strict=False):
        if message.content is None and (before, message.role) != ("user", "assistant"):
            raise EngineError(
                f"the prompt {prompt.id} has a message of the {message.role} without content; only an answer "
                "of the assistant to the user may be None"
            )
    if prompt.messages and prompt.messages[-1].content is None:
        raise EngineError(
            f"the prompt {prompt.id} ends with an open answer: leave that out, it is the output"
        )


def _first_open(prompt: Prompt) -> int:
    """Return the place of the first open answer; that after the last message if there is none."""
    contents = [*(message.content for message in prompt.messages), None]
    return contents.index(None)


def _until_open(prompt: Prompt) -> Prompt:
    return replace(prompt, messages=prompt.messages[: _first_open(prompt)])


def _answered(prompt: Prompt, text: str) -> Prompt:
    """Return the prompt with its first open answer given."""
    place = _first_open(prompt)
    before, answer, after = prompt.messages[:place], prompt.messages[place], prompt.messages[place + 1 :]
    return replace(prompt, messages=(*before, replace(answer, content=text), *after))
