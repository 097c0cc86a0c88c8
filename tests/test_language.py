"""A text that goes on in another language is found; close languages, quotations and code are left alone."""

from __future__ import annotations

import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kvcache.measures import language
from pytest_kvcache.measures.language import SHORTEST, find_language_flip
from pytest_kvcache.measures.views import View
from pytest_kvcache.records import Signal

ENGLISH = (
    "The harbour lay quiet in the morning, and the boats moved with the tide. A man walked along the wall,"
    " counting the gulls that sat there. He had come to buy fish for the inn, as he did every week, but "
    "the fishermen were late. They had gone out beyond the lighthouse, where the water is deep and the "
    "wind blows hard, and nobody could say when they would be back. So he sat down on a barrel and waited "
    "for them. "
)
GERMAN = (
    "Der Hafen lag am Morgen still, und die Boote bewegten sich mit der Flut. Ein Mann ging an der Mauer "
    "entlang und zählte die Möwen, die dort saßen. Er war gekommen, um Fisch für das Gasthaus zu kaufen, "
    "wie er es jede Woche tat, aber die Fischer waren spät dran. Sie waren weit über den Leuchtturm hinaus"
    " gefahren, wo das Wasser tief ist und der Wind stark weht, und niemand konnte sagen, wann sie zurück "
    "sein würden. "
)
FRENCH = (
    "Le port était calme ce matin-là, et les bateaux bougeaient avec la marée. Un homme marchait le long "
    "du mur en comptant les mouettes qui s'y étaient posées. Il était venu acheter du poisson pour "
    "l'auberge, comme chaque semaine, mais les pêcheurs étaient en retard. Ils étaient partis au-delà du "
    "phare, là où l'eau est profonde et où le vent souffle fort, et personne ne savait quand ils "
    "reviendraient. "
)
DANISH = (
    "Havnen lå stille om morgenen, og bådene bevægede sig med tidevandet. En mand gik langs muren og talte"
    " de måger, som sad der. Han var kommet for at købe fisk til kroen, som han gjorde hver uge, men "
    "fiskerne var sent på den. De var sejlet ud forbi fyrtårnet, hvor vandet er dybt og vinden blæser "
    "hårdt, og ingen vidste, hvornår de kom tilbage. "
)
NORWEGIAN = (
    "Byen våknet sakte til liv, og trikken kjørte nedover bakken som den pleide. Ei jente satt ved vinduet"
    " og leste i en bok hun hadde fått av bestefaren sin. Hun skulle egentlig på skolen, men i dag var det"
    " fri, og hun ville heller reise til fjells. Faren hennes hadde lovet at de skulle gå på ski hvis "
    "været ble bra. "
)
SERBIAN = (
    "Luka je ujutru bila mirna, a čamci su se ljuljali. Čovek je hodao pored zida i brojao galebove koji "
    "su tamo sedeli. Došao je da kupi ribu za gostionicu, kao i svake nedelje, ali su ribari kasnili. "
    "Otišli su daleko iza svetionika, gde je voda duboka i gde vetar jako duva, i niko nije mogao da kaže "
    "kada će se vratiti. "
)
CROATIAN = (
    "Grad se polako budio, a tramvaj je vozio niz brdo kao i uvijek. Djevojka je sjedila kraj prozora i "
    "čitala knjigu koju je dobila od djeda. Trebala je ići u školu, ali danas je bio slobodan dan, pa je "
    "radije htjela otputovati u planine. Otac joj je obećao da će ići na skijanje ako vrijeme bude lijepo."
    " "
)
DUTCH = (
    "De haven lag stil in de ochtend, en de boten bewogen mee met het getij. Een man liep langs de muur en"
    " telde de meeuwen die daar zaten. Hij was gekomen om vis te kopen voor de herberg, zoals hij elke "
    "week deed, maar de vissers waren laat. Ze waren voorbij de vuurtoren gevaren, waar het water diep is "
    "en de wind hard waait. "
)
AFRIKAANS = (
    "Die dorp het stadig wakker geword, en die trem het teen die heuwel afgery soos altyd. 'n Meisie het "
    "by die venster gesit en 'n boek gelees wat sy by haar oupa gekry het. Sy moes eintlik skool toe gaan,"
    " maar vandag was dit vakansie, en sy wou liewer berge toe reis. Haar pa het belowe dat hulle sou gaan"
    " stap as die weer mooi is. "
)
RUSSIAN = (
    "Утром в гавани было тихо, и лодки покачивались вместе с приливом. Человек шёл вдоль стены и считал "
    "чаек, которые там сидели. Он пришёл купить рыбы для трактира, как делал каждую неделю, но рыбаки "
    "опаздывали. "
)


def flips(text: str) -> list[Signal]:
    return find_language_flip(View(text, None))


@pytest.fixture
def identified() -> None:
    """Skip a test if the identifier is not installed."""
    pytest.importorskip("py3langid")


@pytest.mark.usefixtures("identified")
@pytest.mark.parametrize(
    ("first", "then", "languages"),
    [
        (ENGLISH, GERMAN, ("en", "de")),
        (ENGLISH, FRENCH, ("en", "fr")),
        (GERMAN, FRENCH, ("de", "fr")),
        (FRENCH, ENGLISH, ("fr", "en")),
        (ENGLISH, DANISH, ("en", "da")),
        (GERMAN, DUTCH, ("de", "nl")),
    ],
)
def test_a_flip_is_found_with_its_place_and_its_languages(
    first: str, then: str, languages: tuple[str, str]
) -> None:
    (signal,) = flips(first + then)
    assert (signal.kind, signal.severity, signal.unit) == ("language-flip", "warn", "char")
    assert abs(signal.start - len(first)) <= 120
    assert signal.end == len(first + then)
    assert signal.evidence == "language {} before, {} from here on".format(*languages)


HEALTHY = {
    "one language": ENGLISH * 2,
    "another one": GERMAN * 2,
    "Norwegian after Danish": DANISH + NORWEGIAN,
    "Croatian after Serbian": SERBIAN + CROATIAN,
    "Afrikaans after Dutch": DUTCH + AFRIKAANS,
    "another script": ENGLISH + RUSSIAN * 2,
    "a short text": ENGLISH[:200] + GERMAN[:190],
    "a quotation": ENGLISH + "\n\n« Il était venu acheter du poisson pour l'auberge. »\n\n" + ENGLISH,
    "Latin phrases": ENGLISH
    + "Et cetera, mutatis mutandis, quod erat demonstrandum, ceteris paribus. "
    + ENGLISH,
    "code": ENGLISH
    + "\n```\n"
    + "for (int i = 0; i < n; i++) { sum += values[i] * weights[i]; }\n" * 9
    + "```",
    "a table": ENGLISH + "\n".join(f"| {k} | {k * k} | {k**3} | {k**4} |" for k in range(40)),
    "a phrase book": "".join(
        f"{english}. {german}.\n"
        for english, german in zip(ENGLISH.split(". ")[:4] * 2, GERMAN.split(". ")[:4] * 2, strict=True)
    ),
    "names": ENGLISH + "\n".join(f"Giovanni Rossi {k}, Müller & Søn" for k in range(30)),
    "Chinese": "人人有资格享有本宣言所载的一切权利和自由，不分种族、肤色、性别、语言、宗教、政治或其他见解。"
    * 10,
    "verse": "\n".join(ENGLISH.split(". ") * 3),
}


@pytest.mark.usefixtures("identified")
@pytest.mark.parametrize("name", HEALTHY)
def test_text_that_stays_in_its_language_is_healthy(name: str) -> None:
    assert flips(HEALTHY[name]) == []


@pytest.mark.usefixtures("identified")
def test_a_text_in_two_languages_by_turns_has_no_place_at_which_it_flips() -> None:
    by_turns = [ENGLISH, FRENCH, ENGLISH, ENGLISH, FRENCH, FRENCH, ENGLISH, FRENCH]
    assert flips("".join(part[:300] for part in by_turns)) == []


def test_without_the_identifier_there_is_no_signal_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    language._identifier.cache_clear()
    try:
        assert flips(ENGLISH + GERMAN) == []
    finally:
        language._identifier.cache_clear()


def test_an_output_without_text_has_none() -> None:
    assert find_language_flip(View(None, (1, 2, 3))) == []


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([ENGLISH, GERMAN, RUSSIAN, "\ud800", "\n", "1 ", "x"]) | st.text(), max_size=9)
)
def test_places_lie_within_any_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    for signal in flips(text):
        assert 0 <= signal.start < signal.end == len(text)
        assert len(text) >= SHORTEST


@pytest.mark.usefixtures("identified")
def test_a_million_characters_take_seconds() -> None:
    start = time.process_time()
    assert flips(ENGLISH * 1250 + FRENCH * 1250) != []
    assert flips("a. " * 330_000) == []
    assert time.process_time() - start < 20
