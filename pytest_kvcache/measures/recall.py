"""Recall: whether an output gives the one right answer that its prompt asks for.

Answers are compared as words: full-width forms, case, punctuation and the commas of 1,000 do not count.
``contains``
    the answer stands in the output, as whole words ("48" is not in "480").
``starts``
    the output begins with it.
``json``
    the first JSON object in the output has all members of the answer's, with the same values; further
    members do not matter. ``null`` in the answer stands for any value but an empty one, and ``{}`` for an
    object without members alone.
``tool-call``
    the same for a call: ``name``, and ``arguments`` (or ``parameters``), an object or the JSON text of one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_kvcache.measures.views import RUN_TOGETHER
from pytest_kvcache.records import Check, Json, Prompt

MOST_ATTEMPTS = 64
"""Opening braces that are tried as the beginning of a JSON object."""

_WORD = re.compile(
    rf"(?<![\w-])-?\d+(?:\.\d+)?|\d+(?:\.\d+)?|[{RUN_TOGETHER}]|(?:(?![{RUN_TOGETHER}])[^\W\d_])+"
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def is_right(text: str, prompt: Prompt) -> bool:
    """Return whether a text answers its prompt.

    Raises ValueError for a prompt without an answer, or with one that its check cannot read.
    """
    if prompt.answer is None:
        raise ValueError(f"the prompt {prompt.id} has no answer")
    check = _CHECKS.get(prompt.check)
    if check is None:
        raise ValueError(
            f"the check of the prompt {prompt.id} is {prompt.check!r}; there are {', '.join(_CHECKS)}"
        )
    wanted = check.read(prompt.answer)
    if wanted is None:
        raise ValueError(
            f"the answer of the prompt {prompt.id} is not {check.reads}, as {prompt.check} needs"
        )
    return check.agrees(text, wanted)


def words(text: str) -> list[str]:
    """Return the words, numbers and, of scripts without blanks, the characters of a text, to compare."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-").casefold()
    return _WORD.findall(_THOUSANDS.sub("", plain))


def _contains(text: str, wanted: list[str]) -> bool:
    found = words(text)
    return any(found[k : k + len(wanted)] == wanted for k in range(len(found) - len(wanted) + 1))


def _starts(text: str, wanted: list[str]) -> bool:
    return words(text)[: len(wanted)] == wanted


def _has_members(text: str, wanted: Json) -> bool:
    return _agrees(first_object(text), wanted)


def _calls(text: str, wanted: Json) -> bool:
    call = first_object(text)
    if call is None or call.get("name") != wanted["name"]:
        return False
    arguments = call.get("arguments", call.get("parameters"))
    if isinstance(arguments, str):
        arguments = first_object(arguments)
    return _agrees(arguments, wanted["arguments"])


def _words_wanted(answer: object) -> list[str] | None:
    return words(answer) or None if isinstance(answer, str) else None


def _object_wanted(answer: object) -> Json:
    try:
        wanted = json.loads(answer) if isinstance(answer, str) else None
    except (ValueError, RecursionError):
        return None
    return wanted if isinstance(wanted, dict) else None


def _call_wanted(answer: object) -> Json:
    call = _object_wanted(answer) or {}
    is_call = isinstance(call.get("name"), str) and isinstance(call.get("arguments"), dict)
    return call if is_call else None


@dataclass(frozen=True, slots=True)
class _Check:
    """How one check reads the right answer (None if it cannot), and holds a text against what it read."""

    reads: str
    read: Callable[[object], Json]
    agrees: Callable[[str, Json], bool]


_CHECKS: Mapping[Check, _Check] = {
    "contains": _Check("a text with letters or digits", _words_wanted, _contains),
    "starts": _Check("a text with letters or digits", _words_wanted, _starts),
    "json": _Check("the JSON text of an object", _object_wanted, _has_members),
    "tool-call": _Check("the JSON text of an object with name and arguments", _call_wanted, _calls),
}


def first_object(text: str) -> dict[str, Json] | None:
    """Return the first JSON object in a text, whatever stands around it; None if there is none.

    Only the first 64 opening braces are tried. NaN and Infinity are no JSON.
    """
    for _, brace in zip(range(MOST_ATTEMPTS), re.finditer(r"\{", text), strict=False):
        try:
            found, _end = _DECODER.raw_decode(text, brace.start())
        except (ValueError, RecursionError):
            continue
        return dict(found)
    return None


def _no_json(name: str) -> Json:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_json)


def _has(found: Mapping[str, Json], wanted: Mapping[str, Json]) -> bool:
    """Whether all wanted members are there; an object of none is wanted as it is."""
    if not wanted:
        return not found
    return all(name in found and _agrees(found[name], value) for name, value in wanted.items())


def _agrees(found: Json, wanted: Json) -> bool:
    if wanted is None:
        return found not in (None, "", [], {})
    if isinstance(wanted, dict):
        return isinstance(found, dict) and _has(found, wanted)
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_agrees, found, wanted))
    if isinstance(wanted, str):
        return isinstance(found, str) and found.strip().casefold() == wanted.strip().casefold()
    return isinstance(found, bool) is isinstance(wanted, bool) and bool(found == wanted)
