"""The directory of goldens: what there is, the one that is wanted, and changes made whole."""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden.changing import commit, remove, remove_leftovers
from pytest_kvcache.golden.finding import (
    check_own,
    check_prompt_set,
    check_subject,
    digest_at,
    golden_at,
    missing,
)
from pytest_kvcache.golden.leftovers import Problem, leftovers
from pytest_kvcache.golden.names import TEXT_SUFFIX, GoldenName, name_from, name_of
from pytest_kvcache.golden.places import Listing, check_writable, listing, locked
from pytest_kvcache.golden.reading import read
from pytest_kvcache.records import Golden, PromptSet
from pytest_kvcache.redact import redact


class GoldenDirectory:
    """All goldens below one directory, which need not exist until something is committed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> tuple[GoldenName, ...]:
        """Return what there are goldens of, sorted, going by their files' names alone.

        Raises GoldenError if a directory cannot be read.
        """
        found = listing(self.root)
        for error in found.refused.values():
            raise error
        names = {name_from(path): path for path in _texts(found)}
        return tuple(sorted(name for name, path in names.items() if name and self.path(name) == path))

    def path(self, name: GoldenName) -> Path:
        return name.path(self.root)

    def find(self, model: str, variant: str, prompt_set: PromptSet, platforms: Sequence[str]) -> Golden:
        """Return the golden of a model and variant for a prompt set, of the first platform that has one.

        Raises GoldenError, with advice, if there is none, if it is of other prompts, or if it is damaged.
        """
        model, tokens = redact(model), prompt_set.sampling.max_tokens
        wanted = [GoldenName(model, prompt_set.name, tokens, variant, platform) for platform in platforms]
        for name in wanted:
            golden = self.get(name)
            if golden is not None:
                check_subject(self.path(name), golden, model, variant, prompt_set.name)
                check_prompt_set(self.path(name), golden.prompt_set, prompt_set)
                return golden
        raise missing(self.root, wanted, self.names())

    def get(self, name: GoldenName) -> Golden | None:
        """Return a golden, or None if there is none. Raises GoldenError if it is damaged or misnamed."""
        return golden_at(self.root, name)

    def check_own(self, name: GoldenName, prompt_set: PromptSet) -> None:
        """Raise GoldenError if the golden of that name is another prompt set's, as far as it can be read."""
        golden = None
        with suppress(GoldenError):
            golden = self.get(name)
        if golden is not None:
            check_own(self.path(name), golden.prompt_set, prompt_set)

    def digest(self, name: GoldenName) -> str | None:
        """Return the SHA-256 of a golden's text file, or None if there is none."""
        return digest_at(self.root, name)

    def check_writable(self) -> None:
        """Raise GoldenError if no golden can be written here, as anybody would know before engines run."""
        check_writable(self.root)

    def commit(
        self, goldens: Sequence[Golden], *, expected: Mapping[GoldenName, str | None] | None = None
    ) -> tuple[Path, ...]:
        """Write goldens, all or none of them, and return the paths of those that differ from what was there.

        With ``expected`` (:meth:`digest` of names as it was before), a golden that somebody else has
        changed since is not overwritten. Waits for other writers. Raises GoldenError if a golden may not
        be written, and KvCacheError if the file system refuses; what was there then stays. Only where it
        refuses the last step for some goldens is it PartlyWrittenError, which names those that were written.
        """
        return commit(self.root, goldens, expected or {})

    def remove(self, digests: Mapping[GoldenName, str]) -> tuple[GoldenName, ...]:
        """Delete goldens whose :meth:`digest` is still the one that is given, and return which.

        Waits for writers; what they have changed meanwhile, or deleted, is passed over. Raises KvCacheError.
        """
        return remove(self.root, digests)

    def remove_leftovers(self) -> tuple[Path, ...]:
        """Delete what belongs to no golden, as :meth:`problems` tells of it, and return what that was.

        Waits for writers. Raises KvCacheError.
        """
        return remove_leftovers(self.root)

    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong in the directory: what cannot be read, bad names, leftovers.

        Waits for a writer, whose temporary files are no leftovers.
        """
        found = listing(self.root)
        refused = [Problem(path, str(error)) for path, error in found.refused.items()]
        wrong = [problem for path in _texts(found) if (problem := self._problem(path)) is not None]
        return tuple(sorted([*refused, *wrong, *self._leftovers()]))

    def _leftovers(self) -> list[Problem]:
        with ExitStack() as stack:
            # Where it cannot be locked nobody writes, and where it cannot be opened nothing is seen.
            with suppress(OSError, GoldenError):
                stack.enter_context(locked(self.root, fcntl.LOCK_SH))
            return list(leftovers(self.root))

    def _problem(self, path: Path) -> Problem | None:
        name = name_from(path)
        try:
            if name is None or self.path(name) != path:
                rightful = self.path(name_of(read(path)))
                return Problem(path, f"{path}: no golden has this name; it should be {rightful}")
            self.get(name)
        except GoldenError as error:
            return Problem(path, str(error))
        return None


def _texts(found: Listing) -> list[Path]:
    return [path for path in found.files if path.suffix == TEXT_SUFFIX and not path.name.startswith(".")]
