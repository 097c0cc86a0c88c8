"""Drift of language: beside what the prompt speaks and what the baseline answers."""

from __future__ import annotations

import pytest
import test_excesses as samples

import pytest_kvcache as kv
from pytest_kvcache.measures import language
from pytest_kvcache.measures.drift import has_left_language, has_left_topic
from pytest_kvcache.records import ReasonCode

ENGLISH = (
    "The glacier carves the valley slowly, and the stones that it carries with it grind the rock below until "
    "there is a deep and rounded bed, which fills with water when the ice has gone away."
)
GERMAN = (
    "Der Gletscher formt das Tal nur langsam, und die Steine, die er mit sich trägt, schleifen den Fels "
    "unter ihm ab, bis ein tiefes und rundes Bett entsteht, das sich mit Wasser füllt, wenn das Eis geht."
)
MORE_ENGLISH = (
    "Where two of them meet, their floors lie at different heights, and a stream falls over the step between "
    "the lower and the higher one. People have built mills at such places for many hundreds of years."
)
MORE_GERMAN = (
    "Wo zwei von ihnen zusammenkommen, liegen ihre Böden verschieden hoch, und ein Bach fällt über die Stufe "
    "zwischen dem einen und dem anderen. An solchen Stellen haben Menschen seit Jahrhunderten Mühlen gebaut."
)
ASKED = "How do glaciers carve valleys? Tell me in a few sentences what happens to the rock."


def test_a_text_is_told_by_its_language_and_a_short_one_by_none() -> None:
    assert language.language_of(ENGLISH) == "en/pcm"
    assert language.language_of(GERMAN) == "de"
    assert language.language_of("Der Gletscher.") is None
    assert language.language_of("0 1 {2} [3] " * 20) is None


def test_an_answer_in_neither_the_prompts_nor_the_baselines_language_has_left_it() -> None:
    assert has_left_language(GERMAN, prompt=ASKED, beside=ENGLISH)


@pytest.mark.parametrize(
    ("text", "prompt", "beside"),
    [
        (ENGLISH, ASKED, ENGLISH),
        (ENGLISH, ASKED, GERMAN),
        (GERMAN, ASKED, GERMAN),
        (GERMAN, "Translate: " + ASKED, ENGLISH),
        (GERMAN, ASKED, "Yes."),
    ],
    ids=["kept", "the prompt's", "the baseline's", "translation", "not sure"],
)
def test_any_other_answer_has_not(text: str, prompt: str, beside: str) -> None:
    assert not has_left_language(text, prompt=prompt, beside=beside)


def test_a_prompt_without_content_words_has_no_topic_to_leave() -> None:
    assert not has_left_topic("Whatever.", prompt="Why me?", beside="")
    assert has_left_topic("Whatever.", prompt=ASKED, beside="")
    assert not has_left_topic("GLACIAL ice", prompt="glacials, always", beside="")


@pytest.mark.parametrize("text", ["", "!!!", "It is 42."])
def test_an_answer_without_content_words_has_left_no_topic(text: str) -> None:
    assert not has_left_topic(text, prompt=ASKED, beside="")


ELSEWHERE = (
    "Nobody remembered when the orange seller first came to the square, but every Sunday children listened "
    "to her stories, and the baker brought a basket of warm bread that his daughter had baked by daylight."
)


def test_an_answer_that_ends_on_something_else_has_left_the_topic() -> None:
    assert not has_left_topic(f"{ENGLISH} {MORE_ENGLISH}", prompt=ASKED, beside=MORE_ENGLISH)
    assert has_left_topic(f"{ENGLISH} {ELSEWHERE}", prompt=ASKED, beside=MORE_ENGLISH)


def test_words_that_the_other_answer_has_too_are_on_the_topic() -> None:
    text = f"{ENGLISH} {MORE_ENGLISH}"
    assert has_left_topic(text, prompt=ASKED, beside="")
    assert not has_left_topic(text, prompt=ASKED, beside="Their floors have different heights: a step.")


@pytest.mark.parametrize("text", ["Barcelona.", "It is Barcelona.", "Barcelona, as all who live there know."])
def test_a_short_answer_is_judged_as_a_whole(text: str) -> None:
    asked = "Which city is the capital of Catalonia, Barcelona or Tarragona?"
    assert not has_left_topic(text, prompt=asked, beside="Paris.")
    assert has_left_topic(text.replace("Barcelona", "Wednesday"), prompt=asked, beside="Paris.")


def test_an_end_without_content_words_leaves_no_topic() -> None:
    assert not has_left_topic("Rock of the valleys: " + "0 1 2 3 " * 20, prompt=ASKED, beside=ENGLISH)


@pytest.mark.parametrize("begun", ["", ENGLISH], ids=["at once", "midway"])
def test_answers_that_go_on_about_something_else_fail(begun: str) -> None:
    left, kept = f"{begun} {ELSEWHERE}", f"{MORE_ENGLISH} {ENGLISH}"
    codes, message = samples.code_of(kv.assert_topic_kept, *samples.both(lambda _: left, lambda _: kept))
    assert codes == (ReasonCode.TOPIC,)
    assert "excess of answers that leave their topic is 1.000" in message


def test_answers_in_another_language_fail_with_a_code_of_their_own() -> None:
    codes, message = samples.code_of(
        kv.assert_language_kept, *samples.both(lambda _: GERMAN, lambda _: ENGLISH)
    )
    assert codes == (ReasonCode.LANGUAGE,)
    assert 'small/p00: "Der Gletscher formt' in message


def test_an_answer_that_changes_its_language_in_between_fails() -> None:
    flipped = f"{ENGLISH} {MORE_ENGLISH} {GERMAN} {MORE_GERMAN}"
    codes, _ = samples.code_of(
        kv.assert_language_kept, *samples.both(lambda _: flipped, lambda _: f"{ENGLISH} {MORE_ENGLISH}")
    )
    assert codes == (ReasonCode.LANGUAGE,)


def test_without_the_extra_nobody_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_identifier", lambda: None)
    assert language.language_of(ENGLISH) is None
    with pytest.raises(kv.UsageError, match="install the extra"):
        kv.assert_language_kept(*samples.both(samples.about))
