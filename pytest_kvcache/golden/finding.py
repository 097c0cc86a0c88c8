"""Finding: a golden by its name, or why it is not there, said so that somebody can put it right."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden.names import GoldenName, name_of
from pytest_kvcache.golden.parsing import MAX_TEXT_BYTES
from pytest_kvcache.golden.places import is_there
from pytest_kvcache.golden.reading import content, read, refusal
from pytest_kvcache.records import Golden, Prompt, PromptSet
from pytest_kvcache.text import listed, printable

_SHOWN = 3
"""How many prompts or goldens a message names."""
_UNNAMED = re.compile(r"line-[0-9]+")
"""The id of a prompt that has none: its line."""


def golden_at(root: Path, name: GoldenName) -> Golden | None:
    """Return the golden of that name below ``root``, or None if there is none. Raises GoldenError."""
    path = name.path(root)
    if not is_there(path):
        return None
    golden = read(path)
    if name_of(golden) != name:
        raise refusal(path, f"this is the golden of {name_of(golden)}", "give it back its own name")
    return golden


def digest_at(root: Path, name: GoldenName) -> str | None:
    """Return the SHA-256 of a golden's text file, or None if there is none. Raises GoldenError."""
    path = name.path(root)
    return hashlib.sha256(content(path, MAX_TEXT_BYTES)).hexdigest() if is_there(path) else None


def check_subject(path: Path, golden: Golden, model: str, variant: str, prompt_set: str) -> None:
    """Raise GoldenError if a golden is of something else, of which the file has the same name."""
    of = golden.outputs
    there, wanted = (of.spec.model, golden.variant, of.prompt_set.name), (model, variant, prompt_set)
    # A directory that was kept as it was typed is the one that it names.
    if there[1:] != wanted[1:] or there[0].removeprefix("./") != model.removeprefix("./"):
        raise refusal(
            path,
            f"this is the golden of {' '.join(there)}, and {' '.join(wanted)} would have the same name",
            "rename one of them, or keep its goldens in another directory (--kv-golden-dir)",
        )


def missing(root: Path, wanted: Sequence[GoldenName], there: Sequence[GoldenName]) -> GoldenError:
    """Return the error for a golden that no platform has, with those that come close."""
    name = wanted[0]
    near = [other for other in there if (other.model, other.prompt_set) == (name.model, name.prompt_set)]
    others = near or [other for other in there if other.model == name.model]
    have = f"; there is {listed(map(str, others), _SHOWN)}" if others else ""
    return GoldenError(
        printable(f"there is no golden of {name} in {root}{have}")
        + "; write it: run these tests with --kv-golden-update=new"
    )


def check_own(path: Path, golden: PromptSet, wanted: PromptSet) -> None:
    """Raise GoldenError if a golden is another prompt set's of that name: one without a common prompt."""
    if _marks(golden).isdisjoint(_marks(wanted)):
        raise refusal(
            path,
            f"this is the golden of another prompt set called {wanted.name} too: they share no prompt",
            "give one of the two another name in the header line of its file, or another --kv-golden-dir; "
            "if this set was written anew, delete the golden first",
        )


def check_prompt_set(path: Path, golden: PromptSet, wanted: PromptSet) -> None:
    """Raise GoldenError, saying what differs, if a golden is of other prompts or sampling than wanted."""
    check_own(path, golden, wanted)
    if golden.key != wanted.key:
        raise refusal(
            path,
            f"the prompt set {wanted.name} is no longer what it was written for: {_changes(golden, wanted)}",
            "refresh it: run these tests with --kv-golden-update=all",
        )


def prompt_changes(old: PromptSet, new: PromptSet) -> dict[str, list[str]]:
    """Return the ids of the prompts that are changed, new, and gone, under these words; what holds none."""
    before, after = ({prompt.id: prompt for prompt in each.prompts} for each in (old, new))
    kinds = {
        "changed": [name for name in after if name in before and after[name] != before[name]],
        "new": [name for name in after if name not in before],
        "gone": [name for name in before if name not in after],
    }
    return {kind: names for kind, names in kinds.items() if names}


def _marks(prompt_set: PromptSet) -> set[str | Prompt]:
    """Return what its prompts are known by: what they ask, and the ids that somebody gave them."""
    named = {prompt.id for prompt in prompt_set.prompts if not _UNNAMED.fullmatch(prompt.id)}
    return named | {replace(prompt, id="") for prompt in prompt_set.prompts}


def _changes(old: PromptSet, new: PromptSet) -> str:
    kinds = prompt_changes(old, new)
    said = [f"{len(names)} {kind} ({listed(names, _SHOWN)})" for kind, names in kinds.items()]
    was, is_now = asdict(old.sampling), asdict(new.sampling)
    said += [f"{field} {was[field]} -> {is_now[field]}" for field in was if was[field] != is_now[field]]
    return "; ".join(said) or "its prompts are in another order"
