"""The published rules that ours is measured beside: each fires at its threshold, and not below it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from detection.corpus import Document
from detection.peers import (
    PEERS,
    Peer,
    distinct_2,
    gemini_cli,
    gopher,
    llamacpp,
    rep_4,
    repeats_somewhere,
    seq_rep_4,
    vllm_long,
    vllm_short,
    vllm_strict,
    whisper_zlib,
)

SENTENCE = "The quick brown fox jumps over the lazy dog and runs far away. "
"""63 characters."""


def of_ids(*ids: int) -> Document:
    return Document("x", "prose-en", "made", "tuning", "", ids)


def of_text(text: str) -> Document:
    return Document("x", "prose-en", "made", "tuning", text, ())


def distinct_words(count: int, seed: int = 0) -> list[str]:
    random_words = random.Random(seed)
    return ["".join(random_words.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(count)]


@pytest.mark.parametrize(
    ("rule", "period", "copies"),
    [
        (vllm_short, 1, 4),
        (vllm_short, 20, 4),
        (vllm_strict, 1, 12),
        (vllm_strict, 20, 12),
        (vllm_long, 128, 4),
        (llamacpp, 16, 4),
        (llamacpp, 200, 4),
    ],
)
def test_a_rule_over_ids_fires_at_its_number_of_copies_anywhere_in_the_output(
    rule: Peer, period: int, copies: int
) -> None:
    unit = list(range(100, 100 + period))
    healthy = list(range(1000, 1050))
    assert rule(of_ids(*healthy, *unit * copies, *healthy))
    assert not rule(of_ids(*healthy, *(unit * copies)[:-1], *healthy))


@pytest.mark.parametrize(("rule", "period"), [(vllm_short, 21), (vllm_strict, 21), (vllm_long, 129)])
def test_a_rule_over_ids_sees_no_longer_patterns_than_its_longest(rule: Peer, period: int) -> None:
    assert not rule(of_ids(*list(range(period)) * 12))


def test_vllms_rule_from_4_tokens_on_sees_a_stuck_token_after_16_copies() -> None:
    assert not vllm_long(of_ids(*[7] * 15))
    assert vllm_long(of_ids(*[7] * 16))


def test_outputs_shorter_than_the_copies_of_one_token_raise_no_alarm() -> None:
    assert not repeats_somewhere([1, 1, 1], 1, 20, 4)
    assert not repeats_somewhere([], 1, 20, 4)


def test_whispers_rule_fires_above_a_compression_ratio_of_2_4() -> None:
    assert whisper_zlib(of_text(SENTENCE * 4))
    assert not whisper_zlib(of_text(SENTENCE + " ".join(distinct_words(40))))


@pytest.mark.parametrize(
    ("name", "healthy", "alarming"),
    [
        # 10 lines of which 3 or 4 are duplicates; the rest of the text outweighs their characters.
        ("lines", ["short"] * 4, ["short"] * 5),
        ("line characters", ["a" * 90] * 2, ["a" * 120] * 3),
    ],
)
def test_gophers_line_filters_fire_above_their_share(
    name: str, healthy: list[str], alarming: list[str]
) -> None:
    def text(lines: list[str]) -> Document:
        others = [" ".join(distinct_words(12, seed)) for seed in range(10 - len(lines))]
        return of_text("\n".join([*others, *lines]))

    assert not gopher(text(healthy)), name
    assert gopher(text(alarming)), name


def test_gophers_paragraph_filter_fires_where_a_third_is_duplicate() -> None:
    paragraphs = [" ".join(distinct_words(12, seed)) for seed in range(6)]
    assert not gopher(of_text("\n\n".join([*paragraphs, "so", "so"])))
    assert gopher(of_text("\n\n".join([*paragraphs, "so", "so", "so", "so", "so"])))


def test_gophers_top_gram_filter_fires_where_one_pair_of_words_is_a_fifth_of_the_text() -> None:
    words = distinct_words(100)  # 799 characters with their blanks

    def with_pairs(count: int) -> Document:
        spread = [words[at : at + 5] for at in range(0, 100, 5)]
        return of_text(
            " ".join(w for k, part in enumerate(spread) for w in (*part, *["of the"] * (k < count)))
        )

    assert not gopher(with_pairs(20))  # 120 of 939 characters
    long_pair = of_text(" ".join(w for k in range(20) for w in (*words[5 * k : 5 * k + 2], "together with")))
    assert gopher(long_pair)  # 260 of 599


def test_gophers_duplicate_gram_filter_fires_where_a_passage_is_said_again() -> None:
    words = distinct_words(100)
    assert not gopher(of_text(" ".join([*words, *words[:8]])))  # 63 of 863 characters
    assert gopher(of_text(" ".join([*words, *words[:30]])))


def test_gopher_raises_no_alarm_for_blank_or_short_texts() -> None:
    assert not gopher(of_text(""))
    assert not gopher(of_text(" \n\n\n "))
    assert not gopher(of_text("Yes, of course."))


def test_blank_lines_are_no_duplicate_lines_to_gopher() -> None:
    assert not gopher(of_text("\n\n\n".join(" ".join(distinct_words(12, seed)) for seed in range(8))))


def test_repeated_grams_fire_above_their_share() -> None:
    words = distinct_words(103)
    assert rep_4(of_text(" ".join(words[:20] * 3)))
    assert not rep_4(of_text(" ".join(words[:40] * 2)))  # 37 of 77
    assert seq_rep_4(of_ids(*range(100), *range(40)))  # 37 of 137
    assert not seq_rep_4(of_ids(*range(100), *range(20)))  # 17 of 117
    assert distinct_2(of_ids(*list(range(20)) * 3))  # 20 of 59 distinct
    assert not distinct_2(of_ids(*list(range(20)) * 2))  # 20 of 39


def test_gemini_cli_fires_at_10_copies_near_each_other() -> None:
    assert gemini_cli(of_text(SENTENCE * 10))
    assert not gemini_cli(of_text(SENTENCE * 9))


def test_gemini_cli_fires_at_59_equal_characters_side_by_side() -> None:
    assert gemini_cli(of_text(f"Name{' ' * 59}value"))
    assert not gemini_cli(of_text(f"Name{' ' * 58}value"))


def test_gemini_cli_lets_pass_copies_that_lie_far_apart() -> None:
    def spread(words_between: int) -> Document:
        filler = " ".join(distinct_words(words_between))
        return of_text((SENTENCE + filler + " ") * 10)

    assert gemini_cli(spread(22))  # 239 characters from copy to copy
    assert not gemini_cli(spread(26))  # 271


def test_gemini_cli_lets_pass_items_that_only_begin_alike() -> None:
    text = "".join(f"{SENTENCE}{word}. " for word in distinct_words(10))
    assert not gemini_cli(of_text(text))


@pytest.mark.parametrize("mark", ["# Heading\n", "| a | b |\n", "* item\n", "1. item\n", "> quote\n"])
def test_gemini_cli_starts_afresh_at_markup(mark: str) -> None:
    half = f"{SENTENCE * 5}\n"
    assert gemini_cli(of_text(half * 2))
    assert not gemini_cli(of_text(half + mark + half))


def test_gemini_cli_never_looks_into_code() -> None:
    assert not gemini_cli(of_text(f"```\n{SENTENCE * 20}\n```\n"))


def test_gemini_cli_forgets_what_lies_5000_characters_back() -> None:
    long_line = " ".join(distinct_words(700)) + "\n"
    assert not gemini_cli(of_text(f"{SENTENCE * 5}\n{long_line}{SENTENCE * 5}"))


def test_every_peer_says_from_where_it_is_and_bears_an_empty_document() -> None:
    for peer in PEERS.values():
        assert peer.__doc__
        assert not peer(of_text(""))


@pytest.mark.vllm
@pytest.mark.parametrize(("shortest", "longest", "copies"), [(1, 20, 4), (1, 20, 12), (4, 128, 4)])
def test_our_reading_of_vllms_rule_agrees_with_vllm_after_each_token(
    shortest: int, longest: int, copies: int
) -> None:
    sampling = pytest.importorskip("vllm.sampling_params")
    scheduling = pytest.importorskip("vllm.v1.core.sched.utils")
    params = sampling.RepetitionDetectionParams(longest, shortest, copies)

    def stops(ids: Sequence[int]) -> bool:
        lengths = range(1, len(ids) + 1)
        return any(scheduling.check_sequence_repetition(ids[:length], params) for length in lengths)

    chance = random.Random(7)
    answers = []
    for _ in range(200):
        unit = [chance.randrange(3) for _ in range(chance.randrange(1, 24))]
        ids = [chance.randrange(50) for _ in range(10)] + unit * chance.randrange(2, 14)
        ids += [chance.randrange(50) for _ in range(10)]
        answers.append(stops(ids))
        assert repeats_somewhere(ids, shortest, longest, copies) == answers[-1]
    assert 0 < sum(answers) < len(answers)
