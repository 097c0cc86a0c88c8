"""Special tokens that can be read are found; texts about them are left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from verdict_samples import prose

from pytest_kvcache.measures.special import ENOUGH, find_special_tokens
from pytest_kvcache.measures.views import View
from pytest_kvcache.records import Signal


def special(text: str) -> list[Signal]:
    return find_special_tokens(View(text, None))


def test_several_special_tokens_are_found_from_the_first_to_the_last() -> None:
    text = prose(1) + "<|im_end|>\n<|im_start|>user\nHello</s> bye"
    (signal,) = special(text)
    assert (signal.kind, signal.severity, signal.unit) == ("special-tokens", "fail", "char")
    assert text[signal.start : signal.end] == "<|im_end|>\n<|im_start|>user\nHello</s>"
    assert signal.evidence == "3 special tokens: <|im_end|> <|im_start|> </s>"


@pytest.mark.parametrize(
    "token",
    [
        "<|endoftext|>",
        "<|eot_id|>",
        "<|reserved_special_token_7|>",
        "<｜end▁of▁sentence｜>",
        "</s>",
        "<s>",
        "[PAD]",
        "[UNK]",
        "[/INST]",
        "<<SYS>>",
        "<pad>",
        "<unk>",
        "<eos>",
        "<unused42>",
        "<extra_id_0>",
        "<end_of_turn>",
        "<fim_middle>",
        "<0x0A>",
        "[control_8]",
    ],
)
def test_tokens_of_many_models_are_known(token: str) -> None:
    assert special(f" {token} and".join("abcd")) != []
    assert len(special(token * ENOUGH)) == 1
    assert special(token * (ENOUGH - 1)) == []


HEALTHY = {
    "backticks": "`<s>`, `</s>`, `<pad>` and `<unk>` are special. Not so `a <|im_end|> b`.",
    "quotes": """ids = ["<s>", "</s>", '<pad>', "<|im_start|>user", “[PAD]”, 'x</s>']""",
    "a fenced block": f"Templates:\n```\n{'<|im_start|>user hi<|im_end|> ' * 9}\n```\nSee above.",
    "an open block": f"Templates:\n~~~ text\n{'<|im_start|>user hi<|im_end|> ' * 9}",
    "struck through": "Was <s>10</s> <s>9</s> now <s>8</s> 7.",
    "HTML": "<p><b>Yes</b> <span>[x]</span> <mask id='a'></mask> <image>x</image></p>" * 9,
    "Elm": "view model = div [] <| List.map item <| model.items |> always\n" * 9,
    "Haskell": "p = a <|> b <|> c <|> d\nq = x <||> y",
    "generics": "Map<s> a; List<unk_t> b; x[PADDING] = y[SEPARATOR];",
    "sentences": "The token <|endoftext|> ends a text, and <pad> fills it up.",
    "bars": "| <a> | <b> | <c> |\n|<|>|" * 9,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_texts_about_them_are_healthy(name: str) -> None:
    assert special(HEALTHY[name]) == []


def test_damage_after_a_closed_block_of_code_is_found() -> None:
    assert special("```\nx = 1\n```\nDone.<|im_end|><|im_end|><|im_end|>") != []


def test_evidence_names_the_most_frequent_first_and_stays_short() -> None:
    (signal,) = special("<pad>" * 3 + "<|a|>" * 9 + "</s>" * 4 + "<unk>")
    assert signal.evidence == "17 special tokens: <|a|> </s> <pad>"
    (signal,) = special("<|" + "\x1b" * 40 + "|>" + "</s>" * 3)
    assert signal.evidence.isprintable()


def test_an_output_without_text_has_none() -> None:
    assert find_special_tokens(View(None, (1, 2, 3))) == []


@given(st.lists(st.sampled_from(["<|", "|>", "<s>", "</s>", "`", "```", "\n", "[PAD]", "a", " ", '"'])))
def test_places_lie_within_any_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    for signal in special(text):
        assert 0 <= signal.start < signal.end <= len(text)


@pytest.mark.parametrize("piece", ["</s>", "<|", "`", "```\n", "<s>", "[", "<s>`", "~~~ <pad>"])
def test_a_million_characters_take_no_time(piece: str) -> None:
    start = time.process_time()
    special(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 3
