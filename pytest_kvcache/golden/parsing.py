"""Parsing: the fields of a golden's text file, if it is to the byte as it was written.

The seal is looked at before anything else, so that a file which somebody else has made or changed is
refused without being taken apart.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

import msgspec

from pytest_kvcache.golden.damage import DamageError, NewerError
from pytest_kvcache.golden.document import Document
from pytest_kvcache.golden.layout import SEAL, is_sealed
from pytest_kvcache.golden.migrate import VERSION, migrated
from pytest_kvcache.records import Json

MAX_TEXT_BYTES = 32 * 2**20

_CONFLICT_MARK = re.compile(rb"^(<<<<<<<|=======|>>>>>>>)", re.MULTILINE)
"""Only a merge writes one at the beginning of a line: in a golden every text is indented."""
_VERSION = re.compile(rb'\A\{\s*"schema_version":\s*([0-9]{1,9})\b')


def parse(text: bytes) -> Document:
    """Return the fields of a text file, brought to the present version. Raises DamageError."""
    if len(text) > MAX_TEXT_BYTES:
        raise DamageError(f"it has more than {MAX_TEXT_BYTES:,} bytes")
    if not is_sealed(text):
        raise _unsealed(text)
    value = _object(text)
    version = value.get("schema_version")
    if type(version) is not int:
        raise DamageError("it has no schema_version")
    current = migrated({key: item for key, item in value.items() if key != SEAL}, version)
    try:
        return msgspec.convert(current, Document)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise DamageError(f"it does not fit its schema: {error}") from None


def is_current(text: bytes) -> bool:
    """Whether a text is of the version that is written today."""
    version = _VERSION.match(text)
    return version is not None and int(version[1]) == VERSION


def _unsealed(text: bytes) -> DamageError:
    """Return what seems to have happened to a text that is not as it was written."""
    if _CONFLICT_MARK.search(text):
        return DamageError(
            "it holds an unresolved merge conflict",
            "take one side whole, with its sidecar (git checkout --ours or --theirs), and refresh it",
        )
    version = _VERSION.match(text)
    if version and int(version[1]) > VERSION:
        return NewerError(int(version[1]))
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return DamageError(f"it is not UTF-8 (byte {error.start:,})")
    if b"\r\n" in text:
        return DamageError(
            "its line breaks have become CRLF", "tell git to leave them (.gitattributes: *.json -text)"
        )
    if version is None:
        return DamageError("it is no golden, or its beginning is damaged")
    if not text.endswith(b"}\n"):
        return DamageError("its end is missing")
    return DamageError("it was changed since it was written (its checksum does not match)")


def _object(text: bytes) -> dict[str, Json]:
    try:
        value = json.loads(text.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except DamageError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamageError(f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise DamageError("it is no JSON object")
    return value


def _distinct(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise DamageError("a key stands in it twice")
    return value


def _no_constant(name: str) -> NoReturn:
    raise DamageError(f"it holds {name}, which is not JSON")
