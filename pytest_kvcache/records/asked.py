"""What is asked of an engine: which model under which kv dtype, which prompts, how to sample."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

CHAT_TEMPLATE_KWARGS = "chat_template_kwargs"
"""The one of an engine's arguments that goes to the model's chat template, under vLLM's name for it."""

Json = Any
"""A value that the ``json`` module can write: None, bool, int, float, str, list or dict."""


def content_key(value: Json) -> str:
    """Return 16 hex digits that identify a JSON value by its content (SHA-256, canonical JSON)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """One engine: a model served with one kv dtype. Equal specs give equal outputs."""

    model: str
    """A Hugging Face id, a local directory, or ``ref:NAME``, as the user named it."""
    kv_cache_dtype: str
    """Canonical: ``fp8_e4m3``, never its alias ``fp8``."""
    revision: str | None = None
    engine_args: tuple[tuple[str, str], ...] = ()
    """Further ``vllm.LLM`` arguments, sorted by name; each value is JSON text.
    :data:`CHAT_TEMPLATE_KWARGS` is among them where the policy has some for the model."""
    golden: str | None = None
    """The kv dtype or variant of whose golden this is the engine: one that wrote it once and is never
    started. None for an engine that runs."""

    @property
    def key(self) -> str:
        fields = asdict(self)
        if self.golden is None:
            del fields["golden"]
        return content_key(fields)

    def template_arguments(self) -> dict[str, Json]:
        """Return what the model's chat template is told."""
        told: dict[str, Json] = self.arguments().get(CHAT_TEMPLATE_KWARGS, {})
        return told

    def llm_arguments(self) -> dict[str, Json]:
        """Return the arguments that are ``vllm.LLM``'s own."""
        return {name: value for name, value in self.arguments().items() if name != CHAT_TEMPLATE_KWARGS}

    def arguments(self) -> dict[str, Json]:
        """Return :attr:`engine_args` as keyword arguments."""
        return {name: json.loads(value) for name, value in self.engine_args}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters under vLLM's names. Greedy unless said otherwise."""

    max_tokens: int = 256
    temperature: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    seed: int = 0

    @property
    def penalised(self) -> bool:
        return (self.repetition_penalty, self.frequency_penalty, self.presence_penalty) != (1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str | None
    """None, of the assistant alone: what the model itself answers here."""


Check = Literal["contains", "starts", "json", "tool-call"]
"""How an output is held against a right answer: see :mod:`~pytest_kvcache.measures.recall`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: either ``text`` to be continued, or chat ``messages`` for the model's template."""

    id: str
    kind: str
    """What sort of text it asks for: ``chat``, ``code``, ``list``, ``zh``, ... (free, few, stable)."""
    text: str | None = None
    messages: tuple[Message, ...] = ()
    answer: str | None = None
    """The right answer (JSON text where :attr:`check` reads JSON); None if many texts would do."""
    check: Check = "contains"

    @property
    def is_open(self) -> bool:
        """Whether the model itself writes some of it, so that its tokens differ from engine to engine."""
        return any(message.content is None for message in self.messages)

    @property
    def content(self) -> str:
        """All that it says, as one text: messages without their roles, a line each."""
        if self.text is not None:
            return self.text
        return "\n".join(m.content for m in self.messages if m.content is not None)


@dataclass(frozen=True)
class PromptSet:
    """A named, ordered, fixed list of prompts with sampling parameters: the unit of batching.

    Without slots, so that it can keep its key.
    """

    name: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling = Sampling()

    @cached_property
    def key(self) -> str:
        """Identifies the set by its content; the name does not count."""
        prompts = [asdict(prompt) for prompt in self.prompts]
        for prompt in prompts:
            if prompt["answer"] is None:
                del prompt["answer"], prompt["check"]
        return content_key([prompts, asdict(self.sampling)])

    @property
    def is_tasks(self) -> bool:
        """Whether every prompt has a right answer: then outputs are judged by it, and by nothing else."""
        return bool(self.prompts) and all(prompt.answer is not None for prompt in self.prompts)


@dataclass(frozen=True, slots=True)
class PromptSetUse:
    """A prompt set that took part: its name, the key of its content, and its size."""

    name: str
    key: str
    prompts: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class GoldenUse:
    """A golden that a test reads, or would read if its baseline were one."""

    spec: EngineSpec
    """With the golden's variant."""
    prompt_set: PromptSetUse


@dataclass(frozen=True, slots=True)
class Declared:
    """What the tests of a run declared, summed up for whoever did not collect them."""

    prompt_sets: tuple[PromptSetUse, ...]
    verdicts_planned: int
    """Verdicts that the selected tests are to give."""
    verdicts_left_out: int
    """Tests with a verdict that were deselected although others of their tier run."""
    is_whole: bool = False
    """Whether no kv test at all was deselected, of whichever tier."""
    goldens: tuple[GoldenUse, ...] = ()
    only_on_request: str | None = None
    """Where no kv test is selected, the marker without which none that was found runs: ``kv_full``, say."""
