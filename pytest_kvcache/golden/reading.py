"""Reading: a golden from its files, whatever somebody has put in their place."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden.damage import DamageError
from pytest_kvcache.golden.format import decode
from pytest_kvcache.golden.parsing import MAX_TEXT_BYTES, is_current
from pytest_kvcache.golden.places import is_there
from pytest_kvcache.records import Golden
from pytest_kvcache.text import printable

_LONGEST_MESSAGE = 1000
_GIT_LFS = b"version https://git-lfs.github.com/spec/"
"""How a pointer begins: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md."""


def read(path: Path) -> Golden:
    """Return the golden whose text file is ``path``; its sidecar lies beside it.

    Raises GoldenError, one line with the file and what to do, if there is none or it is damaged.
    """
    while True:
        try:
            text = content(path, MAX_TEXT_BYTES)
            return decode(text, lambda file, limit: _sidecar(path.with_name(file), limit))
        except DamageError as damage:
            if not _changed(path, text):
                raise refusal(path, str(damage), damage.advice, damage.error) from None
        except MemoryError:
            raise refusal(path, "there is not enough memory to read it", "make room for it") from None


def is_outdated(path: Path) -> bool:
    """Whether a golden's text is of an older schema. Raises GoldenError if it cannot be read."""
    return not is_current(content(path, MAX_TEXT_BYTES))


def content(path: Path, limit: int) -> bytes:
    """Return up to one byte more than ``limit`` of a regular file.

    Raises GoldenError if it is none or cannot be read.
    """
    try:
        # A pipe must not be waited for, and a link may lead anywhere.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise refusal(path, "this is no regular file", "put the golden's own file there")
            with os.fdopen(handle, "rb", closefd=False) as stream:
                found = stream.read(limit + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise refusal(path, "there is no such golden", "check the path") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise refusal(
                path, "it is a link, and links are not followed", "put the file itself there"
            ) from None
        raise refusal(path, f"it cannot be read ({error.strerror})", "make it a readable file") from None
    if found.startswith(_GIT_LFS):
        raise refusal(path, "it is a Git LFS pointer, and not the file itself", "git lfs pull brings that")
    return found


def refusal(path: Path, problem: str, advice: str, error: type[GoldenError] = GoldenError) -> GoldenError:
    """Return the error that says what is wrong with a golden's file and what to do, in one line."""
    return error(f"{printable(f'{path}: {problem}', _LONGEST_MESSAGE)}; {advice}")


def _sidecar(path: Path, limit: int) -> bytes:
    try:
        return content(path, limit)
    except GoldenError:
        if is_there(path):
            raise
        raise DamageError(f"its sidecar {path.name} is missing") from None


def _changed(path: Path, text: bytes) -> bool:
    """Whether somebody has replaced the golden while it was read, and perhaps taken its old sidecar away."""
    return content(path, MAX_TEXT_BYTES) != text
