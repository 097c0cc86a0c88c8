"""Redact: secrets taken out of whatever is kept or shown: the command line, engine arguments, failure lines.

A value is a secret when its name says so (``hf_token=``, ``--api-key``, ``Authorization:``), when it
has the shape of a well-known access token, or when it is the user part of a URL. Names are matched
whole: ``tokenizer=``, ``max_tokens=`` and ``seed=`` are settings, and stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pytest_kvcache.records import EngineSpec, Json

HIDDEN = "***"
"""Stands where a secret was."""

_WORDS = (
    r"(?:token|secret|password|passwd|passphrase|credentials?|authorization"
    r"|(?:api|access|secret|private)[-_]?key)"
)
_NAME = rf"(?:(?:[a-z0-9]+[-_])*{_WORDS})"
_VALUE = r"""(?:"[^"]*"|'[^']*'|(?:(?:bearer|basic)\s+)?[^\s"'&,;}\])]+)"""
_NAMED = re.compile(rf"""(?i)(?<![a-z0-9_])({_NAME}["']?\s*[=:]\s*){_VALUE}""")
_FLAG = re.compile(rf"(?i)--{_NAME}")
_SETTING = re.compile(rf"(?i)((?:--[\w-]+=)?(?:--)?{_NAME}=).*", re.DOTALL)
_WHOLE_NAME = re.compile(rf"(?i){_NAME}")
_USER_OF_URL = re.compile(r"(?<=://)[^/?#\s\"']+@")
_SHAPES = re.compile(
    r"\b(?:hf_\w{16,}|sk-[\w-]{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[a-z]-[\w-]{10,}|AKIA[A-Z0-9]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)


def is_secret_name(name: str) -> bool:
    """Whether what has this name is a secret: ``hf_token``, ``HF_TOKEN``, never ``max_tokens``."""
    return _WHOLE_NAME.fullmatch(name) is not None


def redact(text: str) -> str:
    """Return ``text`` with every secret in it replaced by :data:`HIDDEN`."""
    text = _USER_OF_URL.sub(f"{HIDDEN}@", text)
    text = _NAMED.sub(rf"\g<1>{HIDDEN}", text)
    return _SHAPES.sub(HIDDEN, text)


def redact_command(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return a command line without its secrets; ``--api-key VALUE`` loses the whole next argument."""
    return tuple(_redacted_arguments(arguments))


def redact_spec(spec: EngineSpec) -> EngineSpec:
    """Return ``spec`` with the secrets in its model, revision and engine arguments hidden."""
    return replace(
        spec,
        model=redact(spec.model),
        revision=None if spec.revision is None else redact(spec.revision),
        engine_args=tuple((name, _redacted_json(name, value)) for name, value in spec.engine_args),
    )


def _redacted_arguments(arguments: Sequence[str]) -> Iterator[str]:
    hide_next = False
    for argument in arguments:
        if hide_next:
            yield HIDDEN
        elif setting := _SETTING.fullmatch(argument):
            yield setting[1] + HIDDEN
        else:
            yield redact(argument)
        hide_next = _FLAG.fullmatch(argument) is not None and not hide_next


def _redacted_json(name: str, text: str) -> str:
    value = json.loads(text)
    hidden = _redacted_value(name, value)
    return text if hidden == value else json.dumps(hidden)


def _redacted_value(name: str, value: Json) -> Json:
    if value is not None and is_secret_name(name):
        return HIDDEN
    match value:
        case str():
            return redact(value)
        case dict():
            return {key: _redacted_value(key, item) for key, item in value.items()}
        case list():
            return [_redacted_value("", item) for item in value]
        case _:
            return value
