"""Chat: the tokens that a model is given for a prompt, as its tokenizer and that one's chat template say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

from pytest_kvcache.errors import EngineError
from pytest_kvcache.records import CHAT_TEMPLATE_KWARGS, Json, Message, Prompt
from pytest_kvcache.text import listed

_SYSTEM = Message("system", "Be brief.")
_USER = Message("user", "Hello")


class Chat:
    """A model's way to be talked to."""

    def __init__(self, tokenizer: Any, told: Mapping[str, Json] | None = None) -> None:
        """``told`` is what its template is told beside the messages.

        Raises EngineError for what the template does not ask for: it would change nothing. Code in place
        of a template cannot be asked.
        """
        self._tokenizer = tokenizer
        self._told = told or {}
        self._template = str(getattr(tokenizer, "chat_template", None) or "")
        unknown = [name for name in self._told if not re.search(rf"\b{re.escape(name)}\b", self._template)]
        if unknown and (self._template or not self._has_format):
            raise EngineError(
                f"the model's chat template knows no {listed(unknown)}: correct {CHAT_TEMPLATE_KWARGS} "
                "in the policy, or leave that out"
            )

    def token_ids(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a text as it stands, or of messages in the model's chat template.

        Where the template refuses the role, what the system says opens the first message of the user, as
        makers of such models advise. A model without a format is given a dialogue to be continued.
        Raises EngineError for messages that the template does not take.
        """
        if prompt.text is not None:
            ids = self._tokenizer.encode(prompt.text)
        elif self._has_format:
            ids = self._templated(prompt)
        else:
            ids = self._tokenizer.encode(_as_dialogue(prompt.messages))
        return [int(token) for token in ids]

    def _templated(self, prompt: Prompt) -> Sequence[int]:
        messages: Sequence[Message] = prompt.messages
        if messages[0].role == "system" and self._refuses_system:
            messages = _folded(messages)
        try:
            return self._applied(messages, self._told)
        except Exception as error:  # a template may raise anything
            raise EngineError(
                f"the model's chat template does not take the messages of the prompt {prompt.id} "
                f"({_reason(error)}): change their roles or order, or give other prompts (--kv-prompts)"
            ) from error

    @cached_property
    def _has_format(self) -> bool:
        """Whether the tokenizer has a template, or code that does without one (Mistral's, DeepSeek's)."""
        return bool(self._template) or self._takes(_USER, told={})

    @cached_property
    def _refuses_system(self) -> bool:
        """Whether the template fails for what the system says, and for nothing else.

        Templates say so in words of their own, or only that roles must alternate.
        """
        return self._takes(_USER, told=self._told) and not self._takes(_SYSTEM, _USER, told=self._told)

    def _takes(self, *messages: Message, told: Mapping[str, Json]) -> bool:
        try:
            self._applied(messages, told)
        except Exception:
            return False
        return True

    def _applied(self, messages: Sequence[Message], told: Mapping[str, Json]) -> Sequence[int]:
        ids: Sequence[int] = self._tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **told,
        )
        return ids


def _folded(messages: Sequence[Message]) -> Sequence[Message]:
    """Return messages whose first one of the user opens with what the system said before."""
    said = list(takewhile(lambda message: message.role == "system", messages))
    told, rest = messages[: len(said) + 1], messages[len(said) + 1 :]
    if told[-1].role != "user":
        return messages
    return [Message("user", "\n\n".join(str(message.content) for message in told)), *rest]


def _as_dialogue(messages: Sequence[Message]) -> str:
    """Write a conversation for a base model, which has no format for chats."""
    return "\n".join([*(f"{m.role.capitalize()}: {m.content}" for m in messages), "Assistant:"])


def _reason(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text or type(error).__name__
