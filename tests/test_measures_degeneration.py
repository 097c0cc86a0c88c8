"""What has degenerated is found with its place and evidence; what is healthy is left alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from lifelike import lifelike_ids, text_of
from loop_samples import OPENING, UNITS, noisy_loop
from verdict_samples import output, prose

from pytest_kvcache.measures.degeneration import find_degeneration
from pytest_kvcache.measures.lengths import could_run_away, ran_away
from pytest_kvcache.measures.loops import DECORATION, SAME_CHARACTER_AT_END
from pytest_kvcache.records import Message, Output, Prompt, Score, Signal


def kinds(signals: list[Signal]) -> list[str]:
    return [signal.kind for signal in signals]


# Loops


def test_a_loop_at_the_end_is_found_with_its_place_and_its_unit() -> None:
    text = "He was a gentle soul, " + "a gentle soul, " * 14
    (signal,) = find_degeneration(text)
    assert (signal.kind, signal.severity, signal.unit) == ("loop", "fail", "char")
    assert text[signal.start : signal.end] == " a gentle soul," * 15 + " "
    assert signal.evidence == '" a gentle soul," 15 times'


def test_a_loop_in_the_middle_is_found() -> None:
    text = prose(1) + " the robot is a robot." * 20 + prose(2)
    (signal,) = find_degeneration(text)
    assert "the robot is a robot." in text[signal.start : signal.end]
    assert signal.end < len(text)


@pytest.mark.parametrize("period", [1, 2, 7, 16, 17, 60])
def test_a_loop_of_tokens_is_found_whatever_its_period(period: int) -> None:
    ids = [*range(500, 600), *(list(range(period)) * (100 // period + 4))]
    (signal,) = find_degeneration(ids)
    assert (signal.kind, signal.unit) == ("stuck" if period == 1 else "loop", "token")
    assert (signal.start, signal.end) == (100, len(ids))


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([*range(100), *([7, 8, 9, 10, 11, 12] * 4)], True),  # 24 tokens in 4 copies at the end
        ([*range(100), *([7, 8, 9, 10, 11, 12] * 4)[1:]], False),
        ([*range(100), *([7, 8, 9, 10, 11, 12] * 4), 0], False),  # not at the end
        ([*range(100), *(list(range(200, 220)) * 3)[:50]], True),  # 50 tokens in 2.5 copies at the end
        ([*range(100), *(list(range(200, 220)) * 3)[:49]], False),
        ([*range(100), *([7, 8] * 32), *range(100, 200)], True),  # 64 tokens in the middle
        ([*range(100), *([7, 8] * 31), 7, *range(100, 200)], False),
        ([*range(100), *(list(range(200, 221)) * 3), *range(100)], False),  # 3 copies in the middle
    ],
)
def test_the_rule_holds_on_both_sides_of_each_limit(ids: list[int], found: bool) -> None:
    assert bool(find_degeneration(ids)) is found


def test_characters_are_looked_at_because_they_merge_into_few_tokens() -> None:
    text = prose(1) + "!" * SAME_CHARACTER_AT_END
    (signal,) = find_degeneration(Output("p", (), tuple(range(90)), text, "length"))
    assert (signal.kind, signal.unit, signal.evidence) == ("stuck", "char", '"!" 40 times')
    assert find_degeneration(text[:-1]) == []


def test_tokens_are_looked_at_because_special_ones_have_no_text() -> None:
    stuck = Output("p", (), (5, 6, 7, *[0] * 64), "Once upon", "length")
    (signal,) = find_degeneration(stuck)
    assert (signal.kind, signal.unit, signal.start, signal.end) == ("stuck", "token", 3, 67)
    assert signal.evidence == "token 0 64 times"


def test_a_loop_of_an_output_is_reported_once_and_in_its_text() -> None:
    (signal,) = find_degeneration(output("p", prose(1) + " a gentle soul," * 30))
    assert signal.unit == "char"


def test_chinese_loops_are_found_in_as_few_characters_as_tokens() -> None:
    assert kinds(find_degeneration("很久以前，" + "从前有座山，山里有座庙，" * 8)) == ["loop"]


def test_newlines_without_end_are_no_decoration() -> None:
    assert kinds(find_degeneration("Yes." + "\n" * 60)) == ["stuck"]


def test_evidence_is_one_short_harmless_line() -> None:
    (signal,) = find_degeneration("\x1b[31m::error::\n" * 40)
    assert signal.evidence.isprintable()
    (signal,) = find_degeneration((prose(1, 80) + ". ") * 5)
    assert len(signal.evidence) < 60
    (signal,) = find_degeneration(list(range(100, 250)) * 5)
    assert len(signal.evidence) < 60


def test_a_loop_inside_a_loop_is_reported_as_the_outer_one() -> None:
    (signal,) = find_degeneration(("very " * 60 + "good. ") * 5)
    assert signal.start == 0


# Healthy text

HEALTHY = {
    "a rule": "Title\n" + "-" * 79 + "\nText. " + prose(1),
    "a rule at the end": prose(1) + "\n" + "=" * 120,
    "dot leaders": "\n".join(f"Chapter {k} {'.' * 60} {k * 7}" for k in range(12)),
    "a table": "| name | value |\n|"
    + "------|" * 20
    + "\n"
    + "\n".join(f"| {prose(k, 2)} |" for k in range(20)),
    "indented code": "def f():\n" + " " * 100 + "return 1\n" + prose(3),
    "a refrain": "\n".join(prose(k, 40) + "\nOh my darling, oh my darling" for k in range(6)),
    "JSON records": "\n".join(f'{{"id": {k}, "name": "{prose(k, 1)}", "tags": []}}' for k in range(40)),
    "a list": "\n".join(f"{k}. {prose(k, 3)}" for k in range(40)),
    "laughing": prose(1) + " ha ha ha ha ha",
    "a short answer": "Yes.",
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_text_is_left_alone(name: str) -> None:
    text = HEALTHY[name]
    assert find_degeneration(text) == []
    assert find_degeneration(output("p", text)) == []


@pytest.mark.parametrize("rows", ["|    |    |\n" * 12, "0.0, 1.0, " * 12, "+--+--+\n" * 20])
def test_rows_of_signs_or_numbers_are_suspicious_but_prove_nothing(rows: str) -> None:
    (signal,) = find_degeneration("Fill in:\n" + rows)
    assert (signal.kind, signal.severity) == ("loop", "warn")


def test_decoration_without_end_is_a_finding() -> None:
    assert find_degeneration("-" * DECORATION) == []
    assert kinds(find_degeneration("-" * (DECORATION + 1))) == ["stuck"]


def test_the_decoration_that_a_loop_of_tokens_stands_for_is_seen_in_the_text() -> None:
    rule = Output("p", (), (*range(20), *[9] * 70), prose(1) + "\n" + "-" * 140, "length")
    assert find_degeneration(rule) == []


@pytest.mark.parametrize("size", [16, 64, 100, 256, 1000])
def test_what_the_stand_in_engine_writes_is_healthy(size: int) -> None:
    for seed in range(20):
        ids = lifelike_ids(f"any {seed}", size)
        for shape in (text_of(ids), ids, Output("p", (), tuple(ids), text_of(ids), "length")):
            assert find_degeneration(shape) == []


def test_the_source_of_the_standard_library_is_healthy() -> None:
    passages = [
        text[at : at + 2000]
        for file in sorted(Path(json.__file__).parents[1].glob("*.py"))[:60]
        for text in [file.read_text(encoding="utf-8")]
        for at in range(0, len(text), 2000)
    ]
    proofs = [s for passage in passages for s in find_degeneration(passage) if s.severity == "fail"]
    assert proofs == []
    assert len(passages) > 200


# What was asked for, and what the baseline does as well


def test_repetition_that_the_prompt_orders_is_no_finding() -> None:
    text = "I will not be late. " * 50
    assert find_degeneration(text, prompt='Print "I will not be late." 50 times.') == []
    chat = Prompt("p", "chat", messages=(Message("user", "Write I will not be late 50 times"),))
    assert find_degeneration(text, prompt=chat) == []
    assert find_degeneration("我爱你" * 60, prompt="把“我爱你”重复六十遍") == []


@pytest.mark.parametrize(
    ("order", "copies"),
    [
        ("Print hello 50 times.", 61),
        ("Print hello fifty times.", 61),
        ("Print hello. I want 50 copies of it.", 61),
        ("Repeat hello.", 25),
        ("Repeat hello 50 times, with 80 blanks.", 61),
        ("把 hello 写50遍", 61),
        ("把 hello 写 五十 次", 61),
        ("把 hello 重复一百二十遍", 145),
        ("重复 hello", 25),
    ],
)
def test_an_order_excuses_a_fifth_more_than_it_says_and_without_a_number_few(order: str, copies: int) -> None:
    assert find_degeneration("hello " * copies, prompt=order) == []
    assert kinds(find_degeneration("hello " * (copies + 1), prompt=order)) == ["loop"]


@pytest.mark.parametrize(
    ("prompt", "unit"),
    [
        ("Tell a story about a robot.", "robot "),
        ("Say how many times you saw the robot.", "robot "),
        ("Describe Paris in ancient times.", "Paris "),
        ("Write about Paris, its 20 districts and the times of Napoleon.", "Paris "),
        ("请写一次难忘的旅行。", "旅行"),
        ("猫普遍喜欢什么？", "猫"),
        ("Say hello 500 times.", "a"),
        ("Say hello 500 times.", "lo "),
    ],
)
def test_naming_a_word_is_no_order_to_repeat_it(prompt: str, unit: str) -> None:
    (signal,) = find_degeneration(unit * 300, prompt=prompt)
    assert signal.kind in ("loop", "stuck")


def test_repetition_that_the_prompt_holds_is_excused_up_to_four_times_its_length() -> None:
    prompt = "Continue: 0101010101010101 0."
    assert find_degeneration("01" * 32, prompt=prompt) == []
    assert find_degeneration("10" * 32, prompt=prompt) == []
    assert kinds(find_degeneration("01" * 48, prompt=prompt)) == ["loop"]
    assert find_degeneration([4, 5] * 32, prompt=[1, *[4, 5] * 8, 2]) == []
    assert find_degeneration([4, 5] * 33, prompt=[1, *[4, 5] * 8, 2]) != []


@pytest.mark.parametrize(
    ("prompt", "unit"),
    [
        ("First line.\n\nSecond line.", "\n"),
        ("It happened in 2000.", "0"),
        ("Explain 10000000 in words.", "0"),
        ("def f():\n        return 1", " "),
        ("Why is bye bye said twice?", "bye "),
    ],
)
def test_a_unit_that_ordinary_text_doubles_is_no_excuse(prompt: str, unit: str) -> None:
    (signal,) = find_degeneration("Yes" + unit * 600 + "." * (not unit.strip()), prompt=prompt)
    assert signal.severity == "fail"


def test_a_long_prompt_full_of_repetition_takes_no_time_per_loop() -> None:
    loops = "".join(f"{prose(k, 3)}. " * 30 for k in range(60))
    start = time.process_time()
    assert find_degeneration(loops, prompt=loops * 3) == []
    assert time.process_time() - start < 2


def test_a_loop_of_the_baseline_too_is_no_finding_wherever_it_begins() -> None:
    text = prose(1) + " a gentle soul," * 30
    assert find_degeneration(text, baseline="soul, a gentle " * 50) == []
    assert kinds(find_degeneration(text, baseline="another soul, " * 50)) == ["loop"]


# All detectors together

ENGLISH = OPENING + (
    "She had known for years that it would come, but she had never said a word about it, and so we were "
    "all surprised when she stood up and put on her coat. My father asked whether he should go with her, "
    "and she shook her head. It was raining, and the road to the station was long. "
)
GERMAN = (
    "Am nächsten Morgen ging der alte Mann mit seinem Hund an den Fluss und setzte sich auf eine Bank, um "
    "auf das Schiff zu warten. Er hatte nicht gut geschlafen, denn der Wind war die ganze Nacht um das "
    "Haus gezogen und hatte an den Fenstern gerüttelt. Die Kinder aus dem Dorf kamen vorbei und fragten "
    "ihn, ob er schon etwas gesehen habe. Er schüttelte den Kopf und sagte, dass es noch lange dauere. "
)
RUSSIAN = (
    "Старый человек пошёл с собакой к реке и сел на скамейку, чтобы ждать корабль. Он плохо спал, потому "
    "что ветер всю ночь шумел. Дети из деревни спросили его, видел ли он что-нибудь. "
)
MARKER = "<|im_start|>assistant\n"
MISREAD = "Der Bürgermeister fährt über die Brücke. Mädchen hören schöne Lieder: Größe, Äpfel, Öl. "
MISREAD = MISREAD.encode().decode("cp1252")
UNREADABLE = "caf\ufffd, caf\ufffd, na\ufffdve. "
FLIPS = {"language-flip": ENGLISH + GERMAN * 2, "script-flip": ENGLISH + RUSSIAN}
DAMAGED = FLIPS | {
    "near-loop": ENGLISH + noisy_loop(UNITS[15], 14, 0.05, seed=2),
    "special-tokens": ENGLISH + MARKER * 3,
    "mojibake": ENGLISH + MISREAD,
    "replacement": ENGLISH + UNREADABLE,
    "blanks": "Yes." + " \n" * 100 + "No.",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_each_detector_speaks_of_its_own_damage_alone(kind: str) -> None:
    (signal,) = find_degeneration(DAMAGED[kind])
    assert signal.kind == kind


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_the_prompt_or_the_baseline_shows_as_well_is_no_finding(kind: str) -> None:
    text = DAMAGED[kind]
    assert find_degeneration(text, prompt=f"Go on with this: {text}") == []
    assert find_degeneration(text, baseline=f"Well. {text}") == []
    assert kinds(find_degeneration(text, prompt="Tell a story.", baseline=ENGLISH * 2)) == [kind]


@pytest.mark.parametrize("kind", FLIPS)
@pytest.mark.parametrize(
    "prompt",
    ["Translate this: It was late.", "Say it in another language.", "Переведите на русский.", "翻译"],
)
def test_a_translation_may_flip(kind: str, prompt: str) -> None:
    assert find_degeneration(FLIPS[kind], prompt=prompt) == []


def test_a_translation_may_not_loop() -> None:
    text = DAMAGED["near-loop"]
    assert kinds(find_degeneration(text, prompt="Translate this: It was late.")) == ["near-loop"]


@pytest.mark.parametrize("unit", [MARKER, MISREAD, UNREADABLE, RUSSIAN])
def test_what_a_loop_repeats_is_told_once(unit: str) -> None:
    assert kinds(find_degeneration(ENGLISH + unit * 30)) == ["loop"]


def test_a_loop_tells_nothing_of_other_places() -> None:
    text = ENGLISH + MISREAD + ENGLISH + " a gentle soul," * 30
    assert kinds(find_degeneration(text)) == ["mojibake", "loop"]


def test_findings_come_in_the_order_of_their_places() -> None:
    text = " a gentle soul," * 30 + ENGLISH + MISREAD + ENGLISH + UNREADABLE + ENGLISH
    signals = find_degeneration(text)
    assert kinds(signals) == ["loop", "mojibake", "replacement"]
    assert [signal.start for signal in signals] == sorted(signal.start for signal in signals)


def score_of(ids: tuple[int, ...], surprise: float) -> Score:
    """Return a score of tokens, each by so many nats less probable than the baseline's first choice."""
    first = np.full(len(ids), -0.1, "<f4")
    return Score(
        "p", ids, (first - surprise).astype("<f4").tobytes(), b"\0" * first.nbytes, first.tobytes(), 1
    )


def test_improbable_text_is_found_with_the_baselines_score_alone() -> None:
    healthy = output("p", prose(1))
    (signal,) = find_degeneration(healthy, score=score_of(healthy.token_ids, 6.0))
    assert (signal.kind, signal.severity, signal.unit) == ("improbable", "fail", "token")
    assert find_degeneration(healthy, score=score_of(healthy.token_ids, 0.0)) == []
    assert find_degeneration(healthy) == []


def test_a_score_of_another_number_of_tokens_is_refused() -> None:
    healthy = output("p", prose(1))
    with pytest.raises(ValueError, match="a score of 119 tokens for an output of 120"):
        find_degeneration(healthy, score=score_of(healthy.token_ids[:-1], 0.0))


# Empty, too short, too long


@pytest.mark.parametrize(
    "nothing",
    ["", " \n\t", [], Output("p", (), (), "", "stop"), Output("p", (), (2, 2), "", "stop")],
    ids=["text", "blanks", "ids", "output", "special-tokens"],
)
def test_an_empty_output_is_a_failure_unless_the_baseline_is_empty_too(
    nothing: str | list[int] | Output,
) -> None:
    (signal,) = find_degeneration(nothing)
    assert (signal.kind, signal.severity) == ("empty", "fail")
    assert kinds(find_degeneration(nothing, baseline=prose(1))) == ["empty"]
    assert find_degeneration(nothing, baseline="") == []


def test_an_early_end_shows_beside_the_baseline_only() -> None:
    short, long = output("p", prose(1, 10), "stop"), output("p", prose(2, 80), "stop")
    assert find_degeneration(short) == []
    (signal,) = find_degeneration(short, baseline=long)
    assert (signal.kind, signal.severity) == ("early-end", "warn")
    assert signal.evidence == "about 10 tokens, the baseline 80"
    assert find_degeneration(output("p", prose(1, 11), "stop"), baseline=long) == []
    assert find_degeneration(output("p", prose(1, 10), "length"), baseline=long) == []


def test_a_run_away_output_shows_beside_the_baseline_only() -> None:
    long, short = output("p", prose(1, 256), "length"), output("p", prose(2, 128), "stop")
    assert find_degeneration(long) == []
    (signal,) = find_degeneration(long, baseline=short)
    assert (signal.kind, signal.severity) == ("runaway", "warn")
    assert ran_away(long, beside=short)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (output("p", prose(1, 256), "length"), output("p", prose(2, 129), "stop")),  # less than twice
        (output("p", prose(1, 100), "length"), output("p", prose(2, 40), "stop")),  # not 64 more
        (output("p", prose(1, 256), "stop"), output("p", prose(2, 128), "stop")),  # came to an end
        (output("p", prose(1, 256), "length"), output("p", prose(2, 128), "length")),  # so does the baseline
    ],
)
def test_a_longer_output_is_no_run_away(ours: Output, theirs: Output) -> None:
    assert not ran_away(ours, beside=theirs)


@pytest.mark.parametrize(
    ("theirs", "reason", "possible"),
    [
        (20, "stop", True),
        (64, "stop", True),
        (65, "stop", False),
        (127, "stop", False),
        (20, "length", False),
    ],
)
def test_a_run_away_takes_tokens_that_are_left_beside_an_answer_that_ends(
    theirs: int, reason: str, possible: bool
) -> None:
    baseline, longest = output("p", prose(2, theirs), reason), output("p", prose(1, 128), "length")
    assert could_run_away(baseline, max_tokens=128) is possible
    assert ran_away(longest, beside=baseline) is possible


def test_lengths_of_texts_are_compared_in_about_tokens() -> None:
    assert ran_away("word " * 200 + prose(1), beside="word " * 20)
    assert ran_away(list(range(200)), beside=list(range(50)))
    assert not ran_away(list(range(100)), beside=list(range(50)))


def test_a_million_characters_take_seconds() -> None:
    start = time.process_time()
    signals = find_degeneration(Output("p", (), tuple([1, 2, 3] * 100_000), "ab " * 330_000, "length"))
    assert kinds(signals) == ["loop"]
    assert time.process_time() - start < 5
