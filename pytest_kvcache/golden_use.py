"""Goldens in a run: where tests find them, and which of those that are there no test asks for."""

from __future__ import annotations

from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path

from pytest_kvcache.engines.devices import platforms
from pytest_kvcache.errors import GoldenError, UsageError
from pytest_kvcache.golden import GoldenDirectory, GoldenName, named
from pytest_kvcache.models import is_same_model, kept_name
from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets
from pytest_kvcache.records import Declared, EngineSpec, Golden, PromptSet
from pytest_kvcache.report import Goldens
from pytest_kvcache.seeding import FindGolden
from pytest_kvcache.store import RunStore
from pytest_kvcache.text import printable


def finder(root: Path, project: Path) -> FindGolden:
    """Return what finds goldens below ``root`` that were written on a platform like this one.

    ``project`` is pytest's root directory, as to `kept_name`. What is found calls its model as the run does.
    """
    directory = GoldenDirectory(root)

    def find(spec: EngineSpec, prompt_set: PromptSet) -> Golden:
        assert spec.golden is not None, "only the engine of a golden has one"
        name = kept_name(spec.model, project)
        golden = directory.find(name, spec.golden, prompt_set, platforms())
        return golden if name == spec.model else named(golden, spec.model)

    return find


def check_namesakes(wanted: Iterable[tuple[str, EngineSpec, PromptSet]], project: Path) -> None:
    """Raise `UsageError` for two models, or two prompt sets, whose golden would be one and the same.

    Each comes with what it is known by to whoever reads the line, and with the engine of its golden.
    """
    first: dict[GoldenName, tuple[str, EngineSpec, PromptSet]] = {}
    for known_by, spec, prompt_set in wanted:
        tokens = prompt_set.sampling.max_tokens
        name = _name(spec, prompt_set.name, tokens, "any", project)
        other, others, namesake = first.setdefault(name, (known_by, spec, prompt_set))
        if not is_same_model(spec.model, others.model):
            raise UsageError(
                printable(
                    f"goldens of {others.model} and of {spec.model} would both be kept as {name.model}: keep "
                    "those of one of them in another directory, by a run of its own (--kv-golden-dir)"
                )
            )
        if namesake.key != prompt_set.key:
            raise UsageError(
                printable(
                    f"{other} and {known_by} are different prompt sets that are both called "
                    f"{prompt_set.name} ({tokens} tokens), and would have one golden: give one of "
                    "them another name in the header line of its file"
                )
            )


def goldens_of_run(
    root: Path, project: Path, store: RunStore, declared: Declared, *, is_whole: bool
) -> Goldens:
    """Return the goldens that a run has read, and, if it was whole, those that no test asks for.

    The latter only of models, variants and platforms that its tests are about, and not of the shipped sets:
    the shipped suites use them, which a run over a team's own tests does not collect.
    """
    used = {
        _name(of.spec, of.prompt_set.name, of.prompt_set.sampling.max_tokens, of.provenance.platform, project)
        for of in store.read_goldens()
    }
    if not (used and is_whole):
        return Goldens(_files(used))
    directory = GoldenDirectory(root)
    asked = {
        _name(use.spec, use.prompt_set.name, use.prompt_set.max_tokens, platform, project)
        for use in declared.goldens
        for platform in platforms()
    }
    unused = _unasked(directory, asked) - used
    return Goldens(_files(used), _files(unused), _digests(directory, unused))


def _unasked(directory: GoldenDirectory, asked: Set[GoldenName]) -> set[GoldenName]:
    kinds = {(name.model, name.variant, name.platform) for name in asked}
    return {
        name
        for name in directory.names()
        if name not in asked
        and (name.model, name.variant, name.platform) in kinds
        and not _is_of_shipped_set(name)
    }


def _is_of_shipped_set(name: GoldenName) -> bool:
    shipped = name.prompt_set in shipped_prompt_sets()
    return shipped and name.max_tokens == load_prompt_set(name.prompt_set).sampling.max_tokens


def _name(spec: EngineSpec, prompt_set: str, max_tokens: int, platform: str, project: Path) -> GoldenName:
    """Return what the golden of an engine is called; ``spec`` names its model as the run does."""
    model = kept_name(spec.model, project)
    return GoldenName(model, prompt_set, max_tokens, spec.golden or "", platform)


def _digests(directory: GoldenDirectory, names: Iterable[GoldenName]) -> dict[str, str]:
    """Return the digests of goldens by their files; none of what cannot be read, which nobody may delete."""
    digests = {}
    for name in names:
        with suppress(GoldenError):
            if digest := directory.digest(name):
                digests[name.path(Path()).as_posix()] = digest
    return dict(sorted(digests.items()))


def _files(names: Iterable[GoldenName]) -> tuple[str, ...]:
    return tuple(name.path(Path()).as_posix() for name in sorted(names))
