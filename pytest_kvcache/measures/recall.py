"""Recall: whether an output gives the one right answer that its prompt asks for.

Answers are compared as words: full-width forms, case, punctuation and the commas of 1,000 do not count.
``contains``
    the answer stands in the output, as whole words ("48" is not in "480").
``starts``
    the output begins with it.
``json``
    the first JSON object in the output has all members of the answer's, with the same values; further
    members do not matter. ``null`` in the answer stands for any value but an empty one.
``tool-call``
    the same for a call: ``name``, and ``arguments`` (or ``parameters``), an object or the JSON text of one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping

from pytest_kvcache.records import Check, Json, Prompt

MOST_ATTEMPTS = 64
"""Opening braces that are tried as the beginning of a JSON object."""

_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\u0e00-\u0eff"
_WORD = re.compile(rf"(?<![\w-])-?\d+(?:\.\d+)?|\d+(?:\.\d+)?|[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W\d_])+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def is_right(text: str, prompt: Prompt) -> bool:
    """Return whether a text answers its prompt. Raises ValueError for a prompt without an answer."""
    if prompt.answer is None:
        raise ValueError(f"the prompt {prompt.id} has no answer")
    return _CHECKS[prompt.check](text, prompt.answer)


def words(text: str) -> list[str]:
    """Return the words, numbers and, of scripts without blanks, the characters of a text, to compare."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-").casefold()
    return _WORD.findall(_THOUSANDS.sub("", plain))


def _contains(text: str, answer: str) -> bool:
    found, wanted = words(text), words(answer)
    return any(found[k : k + len(wanted)] == wanted for k in range(len(found) - len(wanted) + 1))


def _starts(text: str, answer: str) -> bool:
    wanted = words(answer)
    return words(text)[: len(wanted)] == wanted


def _has_members(text: str, answer: str) -> bool:
    return _agrees(first_object(text), json.loads(answer))


def _calls(text: str, answer: str) -> bool:
    call, wanted = first_object(text), json.loads(answer)
    if call is None or call.get("name") != wanted["name"]:
        return False
    arguments = call.get("arguments", call.get("parameters"))
    if isinstance(arguments, str):
        arguments = first_object(arguments)
    return _agrees(arguments, wanted["arguments"])


_CHECKS: Mapping[Check, Callable[[str, str], bool]] = {
    "contains": _contains,
    "starts": _starts,
    "json": _has_members,
    "tool-call": _calls,
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


def _agrees(found: Json, wanted: Json) -> bool:
    if wanted is None:
        return found not in (None, "", [], {})
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and _agrees(found[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_agrees, found, wanted))
    if isinstance(wanted, str):
        return isinstance(found, str) and found.strip().casefold() == wanted.strip().casefold()
    return isinstance(found, bool) is isinstance(wanted, bool) and bool(found == wanted)
