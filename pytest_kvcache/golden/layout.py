"""Layout: JSON as goldens are written, for people who read a change of it line by line.

One scalar a line and one element of a list a line, but a list of integers on one line: what changes in
an output shows as one line of token ids and the lines of text that differ. Characters that do not show,
or reverse what a reviewer reads, are escaped. The last line seals the others with their hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from pytest_kvcache.records import Json

SEAL = "checksum"

_HIDDEN = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)
"""Controls, bidi and format characters, lone surrogates, noncharacters: written out, because what a
Python calls printable changes with its Unicode tables, and the same golden must give the same bytes."""


def sealed(value: Mapping[str, Json]) -> bytes:
    """Return the text of an object that has no :data:`SEAL` yet, with the SHA-256 of its other lines."""
    body = "".join(_pieces(value, "\n")).encode()
    seal = f',\n  "{SEAL}": "{hashlib.sha256(body).hexdigest()}"\n}}\n'
    return body.removesuffix(_END) + seal.encode()


def is_sealed(text: bytes) -> bool:
    """Whether a text is, to the byte, as :func:`sealed` has written it."""
    seal = _SEALED.search(text, max(0, len(text) - _SEAL_BYTES))
    return seal is not None and hashlib.sha256(text[: seal.start()] + _END).hexdigest() == seal[1].decode()


_END = b"\n}"
_SEALED = re.compile(rb',\n  "' + SEAL.encode() + rb'": "([0-9a-f]{64})"\n\}\n\Z')
_SEAL_BYTES = 100


def _pieces(value: Json, line: str) -> list[str]:
    """Return the text of a value; ``line`` is the line break and indentation before its closing bracket."""
    if isinstance(value, str):
        return [_string(value)]
    if isinstance(value, Mapping):
        items = [[f"{_string(key)}: ", *_pieces(item, f"{line}  ")] for key, item in value.items()]
        return _enclosed("{", items, "}", line)
    if isinstance(value, Sequence):
        if all(type(item) is int for item in value):
            return ["[", ",".join(map(str, value)), "]"]
        return _enclosed("[", [_pieces(item, f"{line}  ") for item in value], "]", line)
    return [json.dumps(value)]


def _enclosed(opening: str, items: Sequence[Sequence[str]], closing: str, line: str) -> list[str]:
    pieces = [opening]
    for number, item in enumerate(items):
        pieces.append(f"{',' if number else ''}{line}  ")
        pieces += item
    return [*pieces, line, closing] if items else [opening, closing]


def _string(text: str) -> str:
    return _HIDDEN.sub(_escape, json.dumps(text, ensure_ascii=False))


def _escape(character: re.Match[str]) -> str:
    return json.dumps(character[0])[1:-1]
