"""Damaged documents: their labels say what was done to them, and where."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from itertools import count
from random import Random
from typing import Protocol

import pytest

pytest.importorskip("tiktoken", reason="the tokenizer's library comes with the extra 'detection'")

from damage_samples import small_libraries
from detection.corpus import HALVES, Damage, Document, Half
from detection.damage import CORRUPTION_NOISE, LOOP_NOISE, PERIODS, RECIPES, damage_half
from detection.damage_loops import (
    COPIES,
    TOKENS,
    Periods,
    disturb,
    loop_of_phrases,
    loop_of_tokens,
    substitute,
)
from detection.damage_text import misread_text
from detection.drafts import Draft, join_tokens, severity_of
from detection.languages import language_of, script_of, scripts_in, words_of
from detection.library import Library

EACH = 4
"""Documents of each recipe and half."""


class LoopGenerator(Protocol):
    def __call__(
        self, base: Document, random: Random, library: Library, *, periods: Periods, noise: float
    ) -> Draft | None: ...


@pytest.fixture(scope="module")
def libraries() -> dict[Half, Library]:
    return small_libraries()


@pytest.fixture(scope="module")
def library(libraries: dict[Half, Library]) -> Library:
    return libraries["tuning"]


@pytest.fixture(scope="module")
def damaged(libraries: dict[Half, Library]) -> list[Document]:
    return [document for half in HALVES for document in damage_a_few(half, libraries[half])]


def damage_a_few(half: Half, library: Library) -> list[Document]:
    return list(damage_half(half, library, tuple(recipe._replace(documents=EACH) for recipe in RECIPES)))


def of_kind(damaged: list[Document], kind: str, generator: str = "") -> list[tuple[Document, Damage]]:
    labelled = [(document, document.damage) for document in damaged if document.damage is not None]
    found = [pair for pair in labelled if pair[1].kind == kind and generator in ("", pair[1].generator)]
    assert len(found) >= EACH
    return found


def part(document: Document, damage: Damage) -> str:
    return document.text[damage.start : damage.end]


def base_of(document: Document, libraries: dict[Half, Library]) -> Document:
    """Return the healthy document: every one of the small corpus has a source of its own."""
    return next(base for base in libraries[document.half].documents if base.source == document.source)


class TestEveryDamagedDocument:
    def test_there_are_some_of_every_recipe_in_both_halves(self, damaged: list[Document]) -> None:
        made = [(half, recipe.kind) for half in HALVES for recipe in RECIPES if recipe.generator(half)]
        assert {kind for half, kind in made if half == "test"} == {recipe.kind for recipe in RECIPES}
        wanted = Counter({(half, recipe.kind): 0 for half in HALVES for recipe in RECIPES})
        wanted.update(each for each in made for _ in range(EACH))
        assert Counter((document.half, document.kind) for document in damaged) == wanted

    def test_holds_its_damage_within_its_text(self, damaged: list[Document]) -> None:
        for document in damaged:
            assert document.damage is not None
            assert 0 <= document.damage.start <= document.damage.end <= len(document.text)

    def test_is_as_long_as_an_output(self, damaged: list[Document]) -> None:
        assert all(len(document.token_ids) <= 512 for document in damaged if document.kind != "loop")
        assert all(len(document.token_ids) <= 1024 for document in damaged)

    def test_begins_healthy(self, damaged: list[Document], libraries: dict[Half, Library]) -> None:
        for document in damaged:
            if document.damage is not None and document.kind not in ("early-end", "runaway"):
                head = document.text[: document.damage.start].split()
                assert base_of(document, libraries).text.split()[: len(head[:-1])] == head[:-1]

    def test_has_the_ids_of_its_text_unless_special_tokens_are_hidden(
        self, damaged: list[Document], library: Library
    ) -> None:
        for document in damaged:
            shown = [token for token in document.token_ids if token in library.vocabulary]
            hidden = document.kind in ("special-tokens", "empty")
            ids = shown if hidden and "<|" not in document.text else document.token_ids
            assert library.tokenizer.decode(ids) == document.text

    def test_is_made_by_a_generator_of_its_half_alone(self, damaged: list[Document]) -> None:
        used = {(document.damage.generator, document.half) for document in damaged if document.damage}
        kinds = len({recipe.kind for recipe in RECIPES})
        assert Counter(half for _, half in used) == {"tuning": kinds + 1, "test": kinds}  # loops have two
        assert len({generator for generator, _ in used}) == len(used)

    def test_is_the_same_when_made_again(self, damaged: list[Document]) -> None:
        again = small_libraries()
        assert [document for half in HALVES for document in damage_a_few(half, again[half])] == damaged

    def test_has_an_id_of_its_own(self, damaged: list[Document]) -> None:
        assert len({document.id for document in damaged}) == len(damaged)


class TestSeverity:
    @pytest.mark.parametrize(
        ("share", "severity"),
        [
            (0.0, "mild"),
            (0.24, "mild"),
            (0.25, "moderate"),
            (0.49, "moderate"),
            (0.5, "severe"),
        ],
    )
    def test_follows_the_damaged_share(self, share: float, severity: str) -> None:
        assert severity_of(share) == severity

    def test_counts_tokens_where_tokens_were_damaged(self, library: Library) -> None:
        ids = library.tokenizer.encode("one two three four five six seven eight ")
        assert join_tokens(library.tokenizer, ids[:30], ids[:10]).share == 10 / 40

    @pytest.mark.parametrize(("noise", "severity"), [(0.03, "mild"), (0.1, "moderate"), (0.3, "severe")])
    def test_counts_scattered_damage_three_fold(self, noise: float, severity: str) -> None:
        assert Draft("text", (1,), 0, 4, 1.0).scattered(noise).severity == severity


class TestLoops:
    @pytest.mark.parametrize("periods", PERIODS)
    @pytest.mark.parametrize("generate", [loop_of_tokens, loop_of_phrases])
    def test_without_noise_repeat_their_period_and_nothing_shorter(
        self, generate: LoopGenerator, periods: Periods, library: Library
    ) -> None:
        for draft in loops(generate, periods, 0.0, library):
            loop, period = tokens_of_place(draft, library), draft.period
            assert period is not None
            assert periods[0] <= period <= periods[1]
            assert len(loop) >= max(TOKENS, COPIES * period)
            assert [p for p in range(1, period + 1) if loop[p:] == loop[:-p]] == [period]

    @pytest.mark.parametrize("noise", LOOP_NOISE)
    def test_of_tokens_have_their_noise_in_single_tokens(self, noise: float, library: Library) -> None:
        for draft in loops(loop_of_tokens, (9, 30), noise, library):
            loop, period = tokens_of_place(draft, library), draft.period
            assert period is not None
            unit = [Counter(loop[phase::period]).most_common(1)[0][0] for phase in range(period)]
            wrong = sum(token != unit[place % period] for place, token in enumerate(loop))
            assert wrong == round(noise * len(loop))

    @pytest.mark.parametrize("generate", [loop_of_tokens, loop_of_phrases])
    def test_run_to_the_end_in_four_cases_of_five(self, generate: LoopGenerator, library: Library) -> None:
        drafts = loops(generate, (1, 8), 0.0, library)
        to_the_end = [draft for draft in drafts if draft.end == len(draft.text)]
        assert all((draft.finish_reason == "length") == (draft in to_the_end) for draft in drafts)
        assert 0.65 < len(to_the_end) / len(drafts) < 0.95

    @pytest.mark.parametrize("share", LOOP_NOISE)
    def test_of_phrases_have_their_noise_in_events(self, share: float) -> None:
        clean = list(range(400))
        foreign = count(1000)
        noisy = disturb(clean, Random(0), share, lambda: next(foreign))
        assert edits_between(clean, noisy) == round(share * len(clean))

    def test_substitution_changes_exactly_its_share(self) -> None:
        clean = [0] * 300
        random = Random(0)
        noisy = substitute(clean, random, 0.1, lambda: random.randrange(2))
        assert sum(noisy) == 30


class TestNumberedLoops:
    @pytest.mark.parametrize("generator", ["numbered_list", "numbered_prose"])
    def test_repeat_one_statement_at_least_four_times(self, generator: str, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "numbered-loop", generator):
            words = Counter(re.findall(r"[^\W\d_]{4,}", part(document, damage)))
            assert words.most_common(3)[-1][1] >= COPIES - 1

    @pytest.mark.parametrize("generator", ["numbered_list", "numbered_prose"])
    def test_repeat_no_two_copies_exactly(self, generator: str, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "numbered-loop", generator):
            text = part(document, damage)
            assert damage.period is not None
            assert not re.search(r"(.{20,})\1", text, re.DOTALL)


class TestParaphraseLoops:
    @pytest.mark.parametrize("generator", ["edited_copies", "refilled_frames"])
    def test_edit_15_to_35_percent_of_the_words(self, generator: str, damaged: list[Document]) -> None:
        for _, damage in of_kind(damaged, "paraphrase-loop", generator):
            assert damage.noise is not None
            assert 0.15 <= damage.noise <= 0.35

    def test_keep_the_frame_and_change_the_rest(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "paraphrase-loop", "refilled_frames"):
            words = words_of(part(document, damage))
            first = part(document, damage).split(". ")[0]
            assert damage.noise is not None
            size = words_of(first + ". ")
            changed = sum(a.strip() != b.strip() for a, b in zip(size, words[len(size) :], strict=False))
            assert 0 < changed <= damage.noise * len(size) + 1


class TestStuckOutputs:
    def test_stuck_tokens_are_one_token_64_times_or_more(self, damaged: list[Document]) -> None:
        for document, _ in of_kind(damaged, "stuck-token"):
            assert len(set(document.token_ids[-64:])) == 1

    def test_stuck_characters_are_one_character_64_times_or_more(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "stuck-char"):
            assert len(set(part(document, damage))) == 1
            assert damage.end - damage.start >= 64

    def test_blanks_are_several_blanks(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "blanks"):
            assert part(document, damage).isspace()
            assert len(set(part(document, damage))) > 1

    def test_hidden_special_tokens_have_no_text(self, damaged: list[Document], library: Library) -> None:
        special = set(library.tokenizer.special_tokens.values())
        for document, damage in of_kind(damaged, "special-tokens"):
            if "<" not in document.text and "[PAD]" not in document.text:
                assert damage.start == damage.end == len(document.text)
                assert special & set(document.token_ids)


class TestSoups:
    @pytest.mark.parametrize(("kind", "most"), [("small-soup", 16), ("soup", 512)])
    def test_go_on_to_the_end_for_96_tokens_or_more(
        self, kind: str, most: int, damaged: list[Document], library: Library
    ) -> None:
        for document, damage in of_kind(damaged, kind):
            assert damage.end == len(document.text)
            soup = document.token_ids[-90:], words_of(part(document, damage))[:-1]
            assert 2 <= min(len(set(pieces)) for pieces in soup) <= most
            assert len(document.token_ids) - library.size(document.text[: damage.start]) >= 95

    @pytest.mark.parametrize("noise", CORRUPTION_NOISE)
    def test_corruption_replaces_its_share_of_tokens(
        self, noise: float, damaged: list[Document], libraries: dict[Half, Library]
    ) -> None:
        for document, damage in of_kind(damaged, "corruption"):
            if damage.noise != noise:
                continue
            base = base_of(document, libraries)
            first = token_at(damage.start, base.token_ids, libraries[document.half])
            pairs = list(zip(base.token_ids[first:], document.token_ids[first:], strict=True))
            assert sum(a != b for a, b in pairs) == round(noise * len(pairs))

    def test_shuffled_words_are_the_words_of_the_text(
        self, damaged: list[Document], libraries: dict[Half, Library]
    ) -> None:
        for document, damage in of_kind(damaged, "word-salad", "shuffled_words"):
            base = base_of(document, libraries).text[damage.start :]
            salad = Counter(part(document, damage).split()[:-1])
            assert salad <= Counter(base.split())
            assert part(document, damage).split() != base.split()


class TestCharacters:
    def test_text_misread_as_latin_1_reads_well_the_other_way_round(self, library: Library) -> None:
        base = next(base for base in library.documents if script_of(base.text) == "Greek")
        drafts = [misread_text(base, Random(seed), library) for seed in range(20)]
        texts = [draft.text[draft.start : draft.end] for draft in drafts if draft is not None]
        latin = [text.encode("latin-1") for text in texts if all(char < "\u0100" for char in text)]
        assert latin
        assert all(raw.decode(errors="ignore") in base.text for raw in latin)

    def test_replacement_characters_are_6_or_more_in_their_place_alone(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "replacement"):
            assert part(document, damage).count("\ufffd") >= 6
            assert document.text.count("\ufffd") == part(document, damage).count("\ufffd")

    def test_mixed_scripts_are_4_or_more(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "mixed-scripts"):
            assert len(scripts_in(part(document, damage)) - {None}) >= 4


class TestFlips:
    def test_leave_the_first_third_clean(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "script-flip") + of_kind(damaged, "language-flip"):
            assert damage.start >= len(document.text) / 3

    def test_go_on_in_another_script(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "script-flip"):
            assert script_of(document.text[: damage.start]) == "Latin"
            assert script_of(part(document, damage)) != "Latin"

    def test_go_on_in_another_language_of_the_same_script(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "language-flip"):
            before, after = language_of(document.text[: damage.start]), language_of(part(document, damage))
            assert None not in (before, after)
            assert before != after


class TestLengths:
    def test_empty_outputs_show_nothing_beside_a_baseline_that_does(self, damaged: list[Document]) -> None:
        for document, _ in of_kind(damaged, "empty"):
            assert not document.text.strip()
            assert document.baseline

    def test_early_ends_have_a_quarter_of_the_baseline_or_less(
        self, damaged: list[Document], library: Library
    ) -> None:
        for document, _ in of_kind(damaged, "early-end"):
            assert document.finish_reason == "stop"
            assert document.baseline is not None
            assert len(document.token_ids) <= library.size(document.baseline) / 4

    def test_runaways_hold_the_answer_and_go_on_to_the_limit(self, damaged: list[Document]) -> None:
        for document, damage in of_kind(damaged, "runaway"):
            assert document.baseline == document.text[: damage.start]
            assert document.finish_reason == "length"
            assert len(document.token_ids) > 500


def loops(generate: LoopGenerator, periods: Periods, noise: float, library: Library) -> list[Draft]:
    """What a generator makes of 100 documents, as far as they are long enough."""
    random = Random(noise)
    bases = [random.choice(library.documents) for _ in range(100)]
    drafts = [generate(base, random, library, periods=periods, noise=noise) for base in bases]
    made = [draft for draft in drafts if draft is not None]
    assert len(made) > 20
    return made


def tokens_of_place(draft: Draft, library: Library) -> tuple[int, ...]:
    """The damaged ones among the token ids, which begin and end with whole characters."""
    tokens = [token_at(place, draft.token_ids, library) for place in (draft.start, draft.end)]
    return draft.token_ids[slice(*tokens)]


def token_at(place: int, ids: tuple[int, ...], library: Library) -> int:
    """The token that begins with the character at ``place``; parts of characters count as whole ones."""
    return bisect_right(range(len(ids) + 1), place, key=lambda n: len(library.tokenizer.decode(ids[:n]))) - 1


def edits_between(clean: list[int], noisy: list[int]) -> int:
    """Replacements, insertions, deletions and swaps of neighbours that turn one list into the other."""
    rows = [list(range(len(noisy) + 1))]
    for i, token in enumerate(clean, 1):
        row = [i]
        for j, other in enumerate(noisy, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (token != other))
            if i > 1 and j > 1 and token == noisy[j - 2] and clean[i - 2] == other:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
