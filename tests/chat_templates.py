"""Chat templates as models on the hub have them, and a tokenizer that renders them as transformers does."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_3 = CHATML.removesuffix("{% endif %}") + (
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
GEMMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "<start_of_turn>{{ role }}\n{{ message['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL_1 = (
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] }}</s>"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
    "{% endfor %}"
)


class TemplatedTokenizer:
    """A tokenizer whose tokens are characters."""

    def __init__(self, chat_template: str | None) -> None:
        self.chat_template = chat_template

    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def apply_chat_template(
        self,
        messages: list[dict[str, str]],
        *,
        add_generation_prompt: bool,
        tokenize: bool,
        return_dict: bool,
        **variables: Any,
    ) -> list[int]:
        assert tokenize
        assert not return_dict
        if self.chat_template is None:
            raise ValueError("Cannot use chat template functions because tokenizer.chat_template is not set")
        template = _compiled(self.chat_template)
        return self.encode(
            template.render(messages=messages, add_generation_prompt=add_generation_prompt, **variables)
        )


class CodedTokenizer:
    """A tokenizer that formats chats in code and has no template, as vLLM's for Mistral and DeepSeek."""

    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def apply_chat_template(
        self, messages: list[dict[str, str]], tools: None = None, **kwargs: Any
    ) -> list[int]:
        assert tools is None
        if kwargs["add_generation_prompt"] and messages[-1]["role"] == "assistant":
            raise ValueError("Cannot set `add_generation_prompt`")
        if kwargs.get("reasoning_effort") not in (None, "none", "high"):
            raise ValueError("no such effort")
        said = "".join(f"[{m['role'].upper()}]{m['content']}" for m in messages)
        return self.encode(said + ("[THINK]" if kwargs.get("thinking") else ""))


class BareTokenizer:
    """A tokenizer of texts alone."""

    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]


@lru_cache
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _raise
    return environment.from_string(template)


def _raise(message: str) -> NoReturn:
    raise jinja2.exceptions.TemplateError(message)
