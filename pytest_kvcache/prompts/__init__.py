"""Prompts: finds and reads prompt sets, the shipped ones and a team's own.

A prompt set is a file of JSON lines: an optional header, then one prompt a line. A set may instead
borrow the prompts of a shipped set and give them other sampling parameters, so that two sets that
are compared cannot drift apart.
"""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kvcache.errors import UsageError
from pytest_kvcache.prompts._lines import Header, Row, read_rows
from pytest_kvcache.records import Prompt, PromptSet
from pytest_kvcache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHIPPED = Path(__file__).parent
_SUFFIX = ".jsonl"


def shipped_prompt_sets() -> tuple[str, ...]:
    """Return the names of the shipped prompt sets, sorted."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob(f"*{_SUFFIX}")))


def load_prompt_set(
    name_or_path: str, *, base_dir: Path | None = None, max_tokens: int | None = None
) -> PromptSet:
    """Return a shipped prompt set by its name, or the one in a ``.jsonl`` file.

    A relative path is looked for in ``base_dir`` first, then in the working directory.
    ``max_tokens``, in tokens per prompt, replaces the set's own. Raises UsageError when there is no
    such set or file, or when the file is malformed.
    """
    if max_tokens is not None and max_tokens < 1:
        raise UsageError(f"max_tokens is {max_tokens}; ask for at least 1 token per prompt")
    loaded = _read(_find(name_or_path, base_dir))
    if max_tokens is None:
        return loaded
    return replace(loaded, sampling=replace(loaded.sampling, max_tokens=max_tokens))


def is_fixed(name: str) -> bool:
    """Whether a shipped set is made for a purpose, so that a team's own prompts cannot take its place."""
    first = read_rows(_find(name, None))[0]
    return first.is_header and first.header().fixed


def given_sampling(name_or_path: str) -> dict[str, Any]:
    """Return what a set's header says about sampling; what it leaves open is not there.

    Raises UsageError as :func:`load_prompt_set` does.
    """
    rows = read_rows(_find(name_or_path, None))
    return rows[0].header().sampling.given() if rows and rows[0].is_header else {}


def _find(name_or_path: str, base_dir: Path | None) -> Path:
    if name_or_path.endswith(_SUFFIX):
        return _find_file(name_or_path, base_dir)
    shipped = shipped_prompt_sets()
    if name_or_path in shipped:
        return _SHIPPED / f"{name_or_path}{_SUFFIX}"
    raise UsageError(
        printable(
            f"no prompt set is called {name_or_path!r}{_nearest(name_or_path, shipped)}; "
            f"shipped are {', '.join(shipped)}; the path of your own must end in {_SUFFIX}"
        )
    )


def _find_file(path: str, base_dir: Path | None) -> Path:
    folders = [Path.cwd()] if base_dir is None else [base_dir, Path.cwd()]
    for folder in folders:
        if _is_file(folder / path):
            return folder / path
    looked_in = " or ".join(dict.fromkeys(str(folder) for folder in folders))
    raise UsageError(printable(f"no prompt file {path!r} in {looked_in}; check the path"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, a folder that may not be entered
        return False


def _read(path: Path) -> PromptSet:
    rows = read_rows(path)
    if not (rows and rows[0].is_header):
        return PromptSet(_default_name(path), _own(path, rows))
    first, *rest = rows
    header = first.header()
    prompts = _own(path, rest) if header.prompts_of is None else _borrowed(first, header, rest)
    return PromptSet(header.name or _default_name(path), prompts, header.sampling.record())


def _default_name(path: Path) -> str:
    return re.sub(r"[^\w.-]+", "-", path.stem).lstrip(".-") or "prompts"


def _own(path: Path, rows: Sequence[Row]) -> tuple[Prompt, ...]:
    if not rows:
        raise UsageError(printable(f"{path}: the file has no prompts; write one JSON object per prompt"))
    line_of: dict[str, int] = {}
    prompts: list[Prompt] = []
    for row in rows:
        prompt = row.prompt()
        if prompt.id in line_of:
            row.refuse(f"the id {prompt.id!r} is that of line {line_of[prompt.id]}; make it another")
        if prompts and (prompt.answer is None) is not (prompts[0].answer is None):
            row.refuse(
                "in a set either every prompt has an answer or none has; put those with an answer into a "
                "file of their own"
            )
        line_of[prompt.id] = row.number
        prompts.append(prompt)
    return tuple(prompts)


def _borrowed(first: Row, header: Header, rest: Sequence[Row]) -> tuple[Prompt, ...]:
    if rest:
        rest[0].refuse(
            "a set that borrows its prompts (prompts_of) has none of its own; drop one or the other"
        )
    prompts = {prompt.id: prompt for prompt in _lender(first, header.prompts_of or "").prompts}
    ids = tuple(prompts) if header.ids is None else header.ids
    for position, name in enumerate(ids):
        if name not in prompts:
            first.refuse(
                f"ids has {name!r}, which {header.prompts_of} lacks{_nearest(name, prompts)}; correct it"
            )
        if name in ids[:position]:
            first.refuse(f"ids has {name!r} twice; name each prompt once")
    return tuple(prompts[name] for name in ids)


def _lender(first: Row, name: str) -> PromptSet:
    shipped = shipped_prompt_sets()
    if name not in shipped:
        names = ", ".join(shipped)
        first.refuse(f"prompts_of is {name!r}, no shipped set{_nearest(name, shipped)}; shipped are {names}")
    return load_prompt_set(name)


def _nearest(name: str, names: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(names))
    return f" (did you mean {' or '.join(nearest)}?)" if nearest else ""
