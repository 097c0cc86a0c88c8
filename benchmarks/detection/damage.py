"""The damaged half of the corpus: healthy documents of a half, damaged by generators of that half alone.

For every kind of damage there are two generators, different functions that go about it in different ways:
one damages the tuning half, the other the test half. Loops have a third one, in the tuning half, so that
they are not tuned on one sort of noise alone. A document is drawn with its id as the seed, from healthy
documents in the shares of ``BASES``, and no document is damaged twice for one kind unless the corpus runs
out of them. What a generator cannot damage (too short, no sentences) it passes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, cycle
from pathlib import Path
from random import Random
from typing import NamedTuple

from detection import damage_flips as flips
from detection import damage_lengths as lengths
from detection import damage_loops as loops
from detection import damage_near_loops as near_loops
from detection import damage_soup as soup
from detection import damage_stuck as stuck
from detection import damage_text as text
from detection.corpus import HALVES, Damage, Document, Half, read_documents, write_documents
from detection.drafts import Draft
from detection.library import GUIDE_KINDS, OTHER_KINDS, Library, is_running_text
from detection.tokenizers import load
from pytest_kvcache.errors import UsageError

Generator = Callable[[Document, Random, Library], Draft | None]
Bases = Mapping[str, float]
"""Groups of healthy documents and their shares in percent, see :func:`group_of`."""

MIXED: Bases = {"prose": 40, "chat": 15, "guide": 10, "code": 8, "chinese": 12, "latin": 8, "foreign": 7}
LETTERED: Bases = {"prose": 50, "chat": 15, "guide": 10, "chinese": 12, "latin": 7, "foreign": 6}
ENGLISH: Bases = {"prose": 75, "guide": 25}
PROSE: Bases = {"prose": 100}
MANY: Bases = {"prose": 15, "chinese": 30, "latin": 25, "foreign": 30}
LATIN: Bases = {"prose": 60, "guide": 15, "latin": 25}

SHORTEST_BASE = 64
"""Tokens."""
ATTEMPTS = 2000


class Recipe(NamedTuple):
    """How many documents of a kind of damage are made, by which generator in which half."""

    kind: str
    documents: int
    tuning: Generator
    test: Generator | None
    """None where a second generator is to keep a kind from being tuned on the first one alone."""
    bases: Bases = MIXED

    def generator(self, half: Half) -> Generator | None:
        return self.tuning if half == "tuning" else self.test


PERIODS: tuple[loops.Periods, ...] = ((1, 8), (9, 30), (31, 80), (81, 170))
LOOP_NOISE = (0.0, 0.02, 0.05, 0.10)
CORRUPTION_NOISE = (0.03, 0.10, 0.30)

RECIPES: tuple[Recipe, ...] = (
    *(
        Recipe(
            "loop",
            100,
            partial(loops.loop_of_tokens, periods=periods, noise=noise),
            partial(loops.loop_of_phrases, periods=periods, noise=noise),
        )
        for periods in PERIODS
        for noise in LOOP_NOISE
    ),
    *(
        Recipe("loop", 100, partial(loops.loop_with_slips, periods=periods, noise=noise), None)
        for periods in PERIODS
        for noise in LOOP_NOISE[1:]
    ),
    Recipe("numbered-loop", 300, near_loops.numbered_list, near_loops.numbered_prose, LETTERED),
    Recipe("paraphrase-loop", 200, near_loops.edited_copies, near_loops.refilled_frames, LETTERED),
    Recipe("stuck-token", 120, stuck.one_token, stuck.favourite_token),
    Recipe("stuck-char", 120, stuck.one_character, stuck.drawn_out_character),
    Recipe("blanks", 120, stuck.blank_pieces, stuck.empty_lines),
    Recipe("special-tokens", 120, stuck.repeated_marker, stuck.leaked_turns),
    Recipe("soup", 300, soup.vocabulary_soup, soup.script_soup),
    Recipe("small-soup", 160, soup.few_tokens, soup.few_words, LETTERED),
    *(
        Recipe(
            "corruption",
            150,
            partial(soup.wrong_tokens, noise=noise),
            partial(soup.hot_tokens, noise=noise),
        )
        for noise in CORRUPTION_NOISE
    ),
    Recipe("mixed-scripts", 160, text.words_of_many, text.intruders_of_many, LETTERED),
    Recipe("mojibake", 300, text.misread_text, text.misread_stretch, MANY),
    Recipe("replacement", 120, text.lost_characters, text.lost_bytes),
    Recipe("script-flip", 200, flips.script_for_good, flips.script_in_mid_sentence, ENGLISH),
    Recipe("language-flip", 300, flips.language_for_good, flips.language_for_a_while, LATIN),
    Recipe("word-salad", 200, soup.shuffled_words, soup.drawn_words, PROSE),
    Recipe("empty", 60, lengths.nothing, lengths.only_blanks),
    Recipe("early-end", 100, lengths.cut_short, lengths.other_opening),
    Recipe("runaway", 100, lengths.stranger_follows, lengths.strangers_follow, LETTERED),
)


def build_damaged(corpus: Path) -> None:
    """Write the damaged documents of both halves, replacing any that are there.

    Raises UsageError if the healthy documents or the tokenizer have not been fetched.
    """
    tokenizer = load(corpus)
    for half in HALVES:
        library = Library(list(read_documents(corpus, half, "healthy")), tokenizer)
        write_documents(corpus, damage_half(half, library))


def damage_half(half: Half, library: Library, recipes: tuple[Recipe, ...] = RECIPES) -> Iterator[Document]:
    """Yield the damaged documents of a half, kind by kind."""
    numbers: dict[str, Iterator[int]] = {}
    shelves: dict[str, Shelves] = {}
    groups = _grouped(library)
    for recipe in recipes:
        generate = recipe.generator(half)
        if generate is None:
            continue
        numbered = numbers.setdefault(recipe.kind, count(1))
        bases = shelves.setdefault(recipe.kind, Shelves(groups, f"{half} {recipe.kind}"))
        for _ in range(recipe.documents):
            name = f"{half}-{recipe.kind}-{next(numbered):04}"
            yield _damage(recipe, generate, name, bases, library)


def group_of(document: Document, library: Library) -> str | None:
    """Return the group of healthy documents that a base is drawn from; None for what is no base.

    Lists, tables, JSON and verse repeat by themselves, so that damage to them is not clear to a reader.
    """
    if document.kind.startswith("code"):
        return "code"
    if not is_running_text(document) or len(document.token_ids) < SHORTEST_BASE:
        return None
    if document.kind.startswith("chat"):
        return "chat"
    script, language = library.script_of(document), library.language_of(document)
    if script != "Latin":
        return "chinese" if script == "Han" else "foreign"
    if language == "en":
        return "guide" if document.kind.startswith(GUIDE_KINDS) else "prose"
    return "latin" if document.kind.startswith(OTHER_KINDS) else None


class Shelves:
    """Bases for one kind of damage: each group in an order of its own, from the start again at its end."""

    def __init__(self, groups: Mapping[str, Sequence[Document]], seed: str) -> None:
        self._groups = {name: _endless(group, Random(f"{seed} {name}")) for name, group in groups.items()}

    def take(self, group: str) -> Document:
        return next(self._groups[group])


def _grouped(library: Library) -> dict[str, list[Document]]:
    groups: dict[str, list[Document]] = defaultdict(list)
    for document in library.documents:
        if group := group_of(document, library):
            groups[group].append(document)
    return groups


def _endless(documents: Sequence[Document], random: Random) -> Iterator[Document]:
    return cycle(random.sample(documents, len(documents)))


def _damage(recipe: Recipe, generator: Generator, name: str, shelves: Shelves, library: Library) -> Document:
    random = Random(name)
    group = random.choices(list(recipe.bases), list(recipe.bases.values()))[0]
    for _ in range(ATTEMPTS):
        base = shelves.take(group)
        draft = generator(base, random, library)
        if draft is not None:
            return _labelled(draft, recipe.kind, _name(generator), name, base)
    raise UsageError(f"no healthy document of group {group!r} of this half serves {recipe.kind}")


def _name(generator: Generator) -> str:
    function = generator.func if isinstance(generator, partial) else generator
    return str(function.__name__)


def _labelled(draft: Draft, kind: str, generator: str, name: str, base: Document) -> Document:
    damage = Damage(kind, generator, draft.start, draft.end, draft.severity, draft.period, draft.noise)
    return Document(
        id=name,
        kind=kind,
        source=base.source,
        half=base.half,
        text=draft.text,
        token_ids=draft.token_ids,
        damage=damage,
        baseline=draft.baseline,
        finish_reason=draft.finish_reason,
    )
