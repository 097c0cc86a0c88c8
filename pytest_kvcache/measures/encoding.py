"""Encoding: text whose bytes were read in the wrong way.

*Mojibake* is UTF-8 read in another charset: ``donâ€™t``, ``РџСЂРёРІРµС‚``, ``浣犲ソ``. Each character of
UTF-8 begins with a lead byte that says how many continuation bytes follow, so the images of lead and
continuation bytes stand side by side all over such a text, and hardly ever in any other. Where they do,
the suspicious stretch is put to the proof: encoded in that charset and decoded as UTF-8, it must give
a text again. Proof by turning back is the idea of the library *ftfy* (Robyn Speer, 2012).

*Replacement* is U+FFFD, which stands for bytes that are no text. One character that the end of an output
cut in two is healthy.

Both miss damage of a few characters (they warn or are silent), mojibake whose image lost its control
characters, and legacy bytes read in another legacy charset.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pytest_kvcache.measures.characters import Characters
from pytest_kvcache.records import Signal
from pytest_kvcache.text import printable

SINGLE_BYTE = ("cp1252", "cp1250", "cp1251", "koi8-r", "cp1254", "mac-roman", "cp437")
"""Charsets of one byte a character. What they leave undefined is read as in Latin-1."""
DOUBLE_BYTE = ("gbk", "cp932")
"""Charsets of East Asia: one or two bytes a character."""

MOJIBAKE_MARKS = 3
"""Pairs of a lead and a continuation byte that make a stretch suspicious, ..."""
MOJIBAKE_DENSITY = 0.22
"""... and their share of its characters outside ASCII: a third in UTF-8 of three bytes, half in two."""
MOJIBAKE_RECOVERED = 0.6
"""Share of its characters outside ASCII that turning back must make text of."""
MOJIBAKE_PROOF = 6
"""Characters recovered that are a proof: texts about encodings quote a few. Twice as many in double-byte
charsets, where some healthy words can be turned back (系统, 目录)."""
REPLACEMENTS = 2
"""U+FFFD that are a proof."""
CUT_OFF = 3
"""U+FFFD at the very end that one character cut in two may leave."""
SHOWN = 24
"""Characters of the damage that evidence shows."""

_SIGNS = {charset: 1 << 2 * k for k, charset in enumerate(SINGLE_BYTE)} | {
    charset: 1 << 2 * len(SINGLE_BYTE) + k for k, charset in enumerate(DOUBLE_BYTE)
}
"""Bits of the marks of a character. In a single-byte charset: a lead byte (a continuation byte has the
next bit). In a double-byte charset: both, a lead byte and a continuation byte."""
_LEADS = sum(_SIGNS[charset] for charset in SINGLE_BYTE)
_PAIRS = sum(_SIGNS[charset] for charset in DOUBLE_BYTE)
_DOUBLE_LEADS = (
    0xC3,
    0xC4,
    0xC5,
    *range(0xC8, 0xCC),
    0xCE,
    0xCF,
    0xD0,
    0xD1,
    *range(0xD7, 0xDA),
    *range(0xE0, 0xF0),
)
"""Lead bytes of Latin, Greek, Cyrillic, Hebrew, Arabic, and of all in three bytes: together they begin
few of the characters that real text has."""
_CODES = 0x10000
"""Code points that these charsets know of."""
_LOST = "\ufffd"


def find_mojibake(characters: Characters) -> list[Signal]:
    """Return at most one signal: from first to last sign of UTF-8 read in another charset."""
    text = characters.text
    if text.isascii():
        return []
    marks = _marks_of_code()[np.minimum(characters.codes, _CODES - 1)]
    signs = marks & _PAIRS
    signs[:-1] |= marks[:-1] & (marks[1:] >> 1) & _LEADS
    places = np.flatnonzero(signs)
    if places.size < MOJIBAKE_MARKS:
        return []
    signs, outside = signs[places], characters.codes > 0x7F
    present = int(np.bitwise_or.reduce(signs))
    for charset, bit in _SIGNS.items():
        if not present & bit:
            continue
        of_charset = places[signs & bit != 0]
        if of_charset.size >= MOJIBAKE_MARKS:
            start, end = int(of_charset[0]), int(of_charset[-1]) + 2
            if of_charset.size >= MOJIBAKE_DENSITY * np.count_nonzero(outside[start:end]):
                signals = _proved(text, start, min(end + 1, len(text)), charset)
                if signals:
                    return signals
    return []


def find_replacement(characters: Characters) -> list[Signal]:
    """Return at most one signal: from the first to the last U+FFFD that no cut at the end explains."""
    text = characters.text
    if _LOST not in text:
        return []
    whole = text.rstrip(_LOST)
    if len(text) - len(whole) > CUT_OFF:
        whole = text
    count = whole.count(_LOST)
    if not count:
        return []
    start, end = whole.index(_LOST), whole.rindex(_LOST) + 1
    severity: Literal["fail", "warn"] = "fail" if count >= REPLACEMENTS else "warn"
    around = printable(text[max(start - SHOWN // 2, 0) : start + SHOWN // 2], SHOWN)
    return [Signal("replacement", severity, "char", start, end, f'{count} U+FFFD, the first in "{around}"')]


def _proved(text: str, start: int, end: int, charset: str) -> list[Signal]:
    recovered, lost, reading = _turn_back(text[start:end], charset)
    if recovered < MOJIBAKE_MARKS or recovered < MOJIBAKE_RECOVERED * (recovered + lost):
        return []
    needed = MOJIBAKE_PROOF if charset in SINGLE_BYTE else 2 * MOJIBAKE_PROOF
    severity: Literal["fail", "warn"] = "fail" if recovered >= needed else "warn"
    shown = printable(text[start : start + SHOWN], SHOWN)
    evidence = f'"{shown}" is UTF-8 read as {charset}: "{printable(reading[:SHOWN], SHOWN)}"'
    return [Signal("mojibake", severity, "char", start, end, evidence)]


def _turn_back(text: str, charset: str) -> tuple[int, int, str]:
    """Return the characters outside ASCII that turning back recovers, those it loses, and the text."""
    if charset in SINGLE_BYTE:
        image = text.translate(_bytes_of(charset)).encode("latin-1", "replace")
    else:
        image = text.encode(charset, "replace")
    reading = image.decode("utf-8", "replace")
    unknown = image.count(b"?") - text.count("?")
    lost = reading.count(_LOST) + unknown
    recovered = len(reading) - len(reading.encode("ascii", "ignore")) - reading.count(_LOST)
    return recovered, lost, reading


@cache
def _marks_of_code() -> NDArray[np.uint16]:
    """Return uint16[0x10000]: what bytes each code point stands for in the charsets, by bits."""
    marks = np.zeros(_CODES, np.uint16)
    for charset in SINGLE_BYTE:
        bit = _SIGNS[charset]
        for code, byte in _bytes_of(charset).items():
            marks[code] |= bit * (0xC2 <= byte <= 0xF4) | 2 * bit * (byte <= 0xBF)
    for charset in DOUBLE_BYTE:
        for lead in _DOUBLE_LEADS:
            for continuation in range(0x80, 0xC0):
                char = bytes((lead, continuation)).decode(charset, "ignore")
                if len(char) == 1:
                    marks[ord(char)] |= _SIGNS[charset]
    return marks


@cache
def _bytes_of(charset: str) -> dict[int, int]:
    """Return the byte above 0x7F of each code point of a single-byte charset."""
    latin = {byte: byte for byte in range(0x80, 0x100)}
    return latin | {ord(char): byte for byte in latin for char in bytes((byte,)).decode(charset, "ignore")}
