"""Characters: a text as arrays, made once and shared by the detectors that look at its characters.

Each character has a script: that of its Unicode block, or ``COMMON`` for what every script uses (digits,
punctuation, symbols, emoji, combining marks). Chinese and Japanese are written in one family of scripts,
``HAN``, which takes in kana and bopomofo. Blocks suffice here: detectors ask where a text changes from
one script to another, not what a rare sign is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

_BLOCKS = {
    "Latin": "41-5a 61-7a c0-d6 d8-f6 f8-2af 1d00-1d25 1d6b-1d77 1d79-1d9a 1e00-1eff 2c60-2c7f a722-a7ff "
    "ab30-ab64 fb00-fb06 ff21-ff3a ff41-ff5a",
    "other letters": "700-7fa 800-86a 13a0-13fd 1401-16f8 1700-1773 18b0-18f5 1900-1bff 1c00-1c7d "
    "2c00-2c5f 2c80-2cf3 2d30-2d7f a000-a4fd a500-a63f a6a0-a6f1 a800-a8df a900-a9df aa00-aa5f aa80-aaf6 "
    "ab70-abf9 10000-1018f 10280-11fff 12000-1254f 13000-1345f 14400-14646 16800-16faf 17000-18cff "
    "1e100-1e14f 1e2c0-1e2f9 1e800-1e95f",
    "Greek": "370-373 376-37d 37f-386 388-3ff 1f00-1fff",
    "Cyrillic": "400-481 483-52f 1c80-1c8f 2de0-2dff a640-a69f",
    "Armenian": "531-588 fb13-fb17",
    "Hebrew": "591-5bd 5bf 5c1-5f2 fb1d-fb4f",
    "Arabic": "610-61a 620-669 66e-6d3 6d5-6ff 750-77f 870-8ff fb50-fdfb fe70-fefc",
    "Devanagari": "900-963 966-97f a8e0-a8ff",
    "Bengali": "980-9fe",
    "Gurmukhi": "a01-a76",
    "Gujarati": "a81-aff",
    "Oriya": "b01-b77",
    "Tamil": "b82-bfa",
    "Telugu": "c00-c7f",
    "Kannada": "c80-cf3",
    "Malayalam": "d00-d7f",
    "Sinhala": "d81-df3",
    "Thai": "e01-e3a e40-e59",
    "Lao": "e81-edf",
    "Tibetan": "f00 f18-f39 f3e-fbc",
    "Myanmar": "1000-109f a9e0-a9fe aa60-aa7f",
    "Georgian": "10a0-10ff 1c90-1cbf 2d00-2d2d",
    "Hangul": "1100-11ff 3131-318e a960-a97c ac00-d7fb ffa0-ffdc",
    "Ethiopic": "1200-139f 2d80-2dde ab01-ab2e",
    "Khmer": "1780-17d3 17d7-17e9",
    "Mongolian": "1810-18aa",
    "Han": "2e80-2fdf 3005-3007 3021-3029 3031-3035 3038-303c 3041-3096 309d-309f 30a1-30fa 30fc-312f "
    "31a0-31bf 31f0-31ff 3400-4dbf 4e00-9fff f900-faff ff66-ff9f 1aff0-1b16f 20000-323af",
}
"""Hexadecimal ranges of code points by script, after Unicode's blocks; a later script wins. Signs and
mathematical letters in between are left out: they are common."""

COMMON = 0
SCRIPTS = ("common", *_BLOCKS)
LATIN = SCRIPTS.index("Latin")
GREEK = SCRIPTS.index("Greek")
CYRILLIC = SCRIPTS.index("Cyrillic")
HANGUL = SCRIPTS.index("Hangul")
HAN = SCRIPTS.index("Han")
"""Scripts are numbers: places in :data:`SCRIPTS`, their names."""


@dataclass(frozen=True, slots=True)
class Segments:
    """The ``k`` runs of letters of one script in a text: ``text[start:end]``, in order."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    script: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Switches:
    """The ``k`` places where running text goes on in another script, after nothing or a single space.

    Where punctuation or a line break stands between two scripts (lists, brackets, quotes), there is none.
    """

    place: NDArray[np.int64]
    """Where the second script begins."""
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    glued: NDArray[np.bool_]
    """Whether nothing stands in between."""


class Characters:
    """One text and what its characters are. Any ``str`` will do, lone surrogates included."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def codes(self) -> NDArray[np.uint32]:
        """uint32[n]: the code point of each character."""
        return np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), "<u4")

    @cached_property
    def scripts(self) -> NDArray[np.uint8]:
        """uint8[n]: the script of each character."""
        return _script_of_code()[self.codes]

    @cached_property
    def is_latin(self) -> bool:
        """Whether there are no letters beyond the Latin ones."""
        return self.text.isascii() or int(self.scripts.max()) <= LATIN

    @cached_property
    def segments(self) -> Segments:
        """The longest runs of letters of one script. One or two Greek ones are symbols (µ, Δx), no word."""
        scripts = self.scripts
        edges = np.flatnonzero(scripts[1:] != scripts[:-1]) + 1
        start = np.concatenate(([0], edges))[: scripts.size]
        end = np.concatenate((edges, [scripts.size]))[: scripts.size]
        script = scripts[start]
        letters = (script != COMMON) & ((script != GREEK) | (end - start > 2))
        return Segments(start[letters], end[letters], script[letters])

    @cached_property
    def switches(self) -> Switches:
        """The places where running text goes on in another script."""
        found = self.segments
        gap = found.start[1:] - found.end[:-1]
        glued = gap == 0
        bare = glued | ((gap == 1) & (self.codes[found.end[:-1] % max(self.codes.size, 1)] == ord(" ")))
        at = np.flatnonzero(bare & (found.script[1:] != found.script[:-1]))
        return Switches(found.start[at + 1], found.script[at], found.script[at + 1], glued[at])

    @cached_property
    def letters(self) -> NDArray[np.int64]:
        """int64[len(SCRIPTS)]: how many characters each script has."""
        return np.bincount(self.scripts, minlength=len(SCRIPTS))


@cache
def _script_of_code() -> NDArray[np.uint8]:
    """Return uint8[0x110000]: the script of each code point."""
    table = np.zeros(0x110000, np.uint8)
    for script, ranges in enumerate(_BLOCKS.values(), start=1):
        for span in ranges.split():
            first, _, last = span.partition("-")
            table[int(first, 16) : int(last or first, 16) + 1] = script
    return table
