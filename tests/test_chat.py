"""What a model is given for a prompt: its own template, and what that template does not take."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from shipped_prompts import SHIPPED

pytest.importorskip("jinja2")

from chat_templates import (
    CHATML,
    GEMMA_2,
    MISTRAL_1,
    QWEN_3,
    BareTokenizer,
    CodedTokenizer,
    TemplatedTokenizer,
)

from pytest_kvcache.engines.chat import Chat
from pytest_kvcache.errors import EngineError
from pytest_kvcache.records import Message, Prompt

SYSTEM = Message("system", "Answer in verse.")
TALK = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye"))


def read(template: str | None, *messages: Message, **told: object) -> str:
    """Return what a model with this template, which is told this, reads of a conversation."""
    return read_by(TemplatedTokenizer(template), *messages, **told)


def read_by(tokenizer: Any, *messages: Message, **told: object) -> str:
    prompt = Prompt("p", "chat", messages=messages)
    return "".join(map(chr, Chat(tokenizer, told).token_ids(prompt)))


def test_a_text_stands_as_it_is_whatever_the_template() -> None:
    ids = Chat(TemplatedTokenizer(CHATML)).token_ids(Prompt("p", "chat", "Once"))
    assert ids == [ord(char) for char in "Once"]


def test_a_conversation_is_put_into_the_models_template() -> None:
    assert read(CHATML, SYSTEM, TALK[0]) == (
        "<|im_start|>system\nAnswer in verse.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_is_told_what_the_policy_says() -> None:
    silent, thinking = read(QWEN_3, TALK[0], enable_thinking=False), read(QWEN_3, TALK[0])
    assert silent == f"{thinking}<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("tokenizer", "told"),
    [
        (TemplatedTokenizer(QWEN_3), "thinking"),
        (TemplatedTokenizer(CHATML), "enable_thinking"),
        (TemplatedTokenizer(None), "x"),
        (BareTokenizer(), "x"),
    ],
)
def test_what_a_template_does_not_ask_for_is_refused(tokenizer: Any, told: str) -> None:
    with pytest.raises(EngineError) as caught:
        Chat(tokenizer, {told: False})
    assert str(caught.value) == (
        f"the model's chat template knows no {told}: correct chat_template_kwargs in the policy, or leave "
        "that out"
    )


@pytest.mark.parametrize("tokenizer", [TemplatedTokenizer(None), BareTokenizer()])
def test_a_model_without_a_format_for_chats_is_given_a_dialogue(tokenizer: Any) -> None:
    assert read_by(tokenizer, SYSTEM, *TALK) == (
        "System: Answer in verse.\nUser: Hi\nAssistant: Hello\nUser: Bye\nAssistant:"
    )


def test_a_format_in_code_is_as_good_as_a_template() -> None:
    assert read_by(CodedTokenizer(), SYSTEM, *TALK) == (
        "[SYSTEM]Answer in verse.[USER]Hi[ASSISTANT]Hello[USER]Bye"
    )


def test_a_format_in_code_is_told_what_the_policy_says_though_nobody_knows_what_it_asks_for() -> None:
    assert read_by(CodedTokenizer(), TALK[0], thinking=True) == "[USER]Hi[THINK]"
    assert read_by(CodedTokenizer(), TALK[0], thinkin=True) == "[USER]Hi"


def test_what_a_format_in_code_refuses_is_an_error_and_never_a_dialogue() -> None:
    with pytest.raises(EngineError, match=r"prompt p \(Cannot set `add_generation_prompt`\)"):
        read_by(CodedTokenizer(), *TALK[:2])
    with pytest.raises(EngineError, match=r"prompt p \(no such effort\)"):
        read_by(CodedTokenizer(), TALK[0], reasoning_effort="some")


@pytest.mark.vllm
@pytest.mark.filterwarnings("default")
def test_mistrals_own_tokenizer_has_a_format_and_no_template(tmp_path: Path) -> None:
    common = pytest.importorskip("mistral_common")
    mistral = pytest.importorskip("vllm.tokenizers.mistral")
    shutil.copy(Path(common.__file__).parent / "data" / "tekken_240911.json", tmp_path / "tekken.json")
    tokenizer = mistral.MistralTokenizer.from_pretrained(str(tmp_path))
    assert not hasattr(tokenizer, "chat_template")
    ids = Chat(tokenizer).token_ids(Prompt("p", "chat", messages=(SYSTEM, *TALK)))
    assert tokenizer.decode(ids) == "<s>[INST]Hi[/INST]Hello</s>[INST]Answer in verse.\n\nBye[/INST]"


@pytest.mark.parametrize("template", [GEMMA_2, MISTRAL_1])
def test_where_the_template_refuses_the_system_its_text_opens_the_first_turn(template: str) -> None:
    folded = Message("user", "Answer in verse.\n\nHi")
    assert read(template, SYSTEM, *TALK) == read(template, folded, *TALK[1:])


def test_several_messages_of_the_system_are_folded_in_their_order() -> None:
    folded = Message("user", "Answer in verse.\n\nBe brief.\n\nHi")
    assert read(GEMMA_2, SYSTEM, Message("system", "Be brief."), TALK[0]) == read(GEMMA_2, folded)


@pytest.mark.parametrize("template", [CHATML, GEMMA_2, MISTRAL_1])
def test_every_shipped_conversation_is_taken(template: str) -> None:
    chat = Chat(TemplatedTokenizer(template))
    asked = [prompt for each in SHIPPED.values() for prompt in each.prompts if prompt.messages]
    assert any(prompt.messages[0].role == "system" for prompt in asked)
    assert all(chat.token_ids(prompt) for prompt in asked)


@pytest.mark.parametrize(
    "messages",
    [
        (TALK[0], TALK[0]),
        (SYSTEM, TALK[1], TALK[0]),
        (*TALK[:2], SYSTEM, TALK[2]),
        (SYSTEM,),
    ],
    ids=["two of the user", "the assistant first", "the system later", "the system alone"],
)
def test_what_else_a_template_refuses_is_one_line_with_the_prompt_and_what_to_do(
    messages: tuple[Message, ...],
) -> None:
    with pytest.raises(EngineError) as caught:
        read(MISTRAL_1, *messages)
    assert str(caught.value) == (
        "the model's chat template does not take the messages of the prompt p (Conversation roles must "
        "alternate user/assistant/user/assistant/...): change their roles or order, or give other prompts "
        "(--kv-prompts)"
    )


def test_a_template_that_takes_the_system_is_never_given_less() -> None:
    """One that fails for something else keeps its error: nothing is moved to make it pass."""
    only_short = "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}" + CHATML
    with pytest.raises(EngineError, match="too long"):
        read(only_short, SYSTEM, TALK[0], TALK[1])


def test_a_template_that_cannot_be_rendered_is_an_error_with_its_reason() -> None:
    with pytest.raises(EngineError, match=r"prompt p \('nothing' is undefined\)"):
        read("{{ nothing.at.all }}", SYSTEM, TALK[0])
