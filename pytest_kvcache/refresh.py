"""Refreshing goldens: which ones tests need, how they come to be, what that changes, and writing them.

It knows no pytest. A refresh remembers what lay in the golden directory when it began, and writes all of
its goldens or none: where somebody else changed one meanwhile, theirs stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pytest_kvcache.dtypes import is_quantized
from pytest_kvcache.errors import GoldenError, UsageError
from pytest_kvcache.golden import (
    GoldenDirectory,
    GoldenName,
    as_kept,
    is_outdated,
    name_of,
    named,
    too_large,
)
from pytest_kvcache.golden_diff import GoldenChange, compare_goldens, refusals
from pytest_kvcache.models import kept_name
from pytest_kvcache.plan import Request, Target, is_scored
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import Golden, PromptSet, ScoreSet, content_key
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore
from pytest_kvcache.surroundings import is_ci
from pytest_kvcache.text import printable


class Update(StrEnum):
    """Which goldens a refresh makes: those that are not there, or all that are needed."""

    NEW = "new"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Want:
    """A golden that is needed: what one target writes for one prompt set."""

    target: Target
    prompt_set: PromptSet
    is_baseline: bool
    """Candidates will be held against it, so it may be neither quantized nor degenerate."""
    logprobs: bool = True

    @property
    def key(self) -> str:
        """Identifies the golden by the engine, the set and the name it will have."""
        return content_key([self.target.spec.key, self.variant, self.prompt_set.key, self.prompt_set.name])

    @property
    def variant(self) -> str:
        return self.target.variant or self.target.spec.kv_cache_dtype

    @property
    def is_scored(self) -> bool:
        return self.logprobs and is_scored(self.prompt_set)

    @property
    def alone(self) -> Target:
        """The target as its own baseline: it scores its own texts, and nobody else runs."""
        return replace(self.target, baseline=self.target.spec, baseline_id=self.target.id)

    @property
    def request(self) -> Request:
        return Request(self.alone, (self.prompt_set,), with_scores=self.is_scored)

    def __str__(self) -> str:
        return f"{self.prompt_set.name} of {self.target.id}"


@dataclass(frozen=True, slots=True)
class Review:
    """What a refresh would change, and what speaks against it."""

    goldens: tuple[Golden, ...]
    changes: tuple[GoldenChange, ...]
    refusals: tuple[str, ...]
    """One line for each golden that must not be written."""


class Refresh:
    """One refresh of a golden directory, from what is there at its beginning to what is written."""

    def __init__(self, directory: GoldenDirectory, project: Path | None = None) -> None:
        """``project`` is pytest's root directory, as to `kept_name`; by default the working directory."""
        self._directory = directory
        self._project = project or Path()
        self._before = {name: _digest(directory, name) for name in directory.names()}

    def has(self, want: Want, platforms: Iterable[str]) -> bool:
        """Whether a golden was there for any of the platforms that an engine may run on."""
        return any(name in self._before for name in self._names(want, platforms))

    def check_own(self, wants: Iterable[Want], platforms: Sequence[str]) -> None:
        """Raise `GoldenError` if a golden to be made would replace another prompt set's of the same name."""
        for want in wants:
            for name in self._names(want, platforms):
                self._directory.check_own(name, want.prompt_set)

    def unfit(self, want: Want, platforms: Sequence[str], policy: Policy) -> str | None:
        """Return why a gate would refuse the golden that is there, or None if it would not."""
        spec = want.target.spec
        try:
            model = kept_name(spec.model, self._project)
            golden = self._directory.find(model, want.variant, want.prompt_set, platforms)
        except GoldenError as error:
            return str(error)
        return refusals(golden, policy.limits_for(spec.model), want.is_baseline)

    def review(self, made: Iterable[tuple[Want, Golden]], policy: Policy) -> Review:
        """Compare new goldens with those that are there, and look for what may not be blessed."""
        kept = ((want, self._named(golden)) for want, golden in made)
        pairs = sorted(kept, key=lambda pair: str(name_of(pair[1])))
        return Review(
            goldens=tuple(golden for _, golden in pairs),
            changes=tuple(self._change(golden, policy) for _, golden in pairs),
            refusals=tuple(refusal for want, golden in pairs if (refusal := _refusal(want, golden, policy))),
        )

    def commit(self, review: Review) -> tuple[Path, ...]:
        """Write all goldens of a review; return the files that changed.

        Raises `GoldenError` if one of them may not be blessed, or changed since the refresh began, and
        `KvCacheError` where there is no room. Then nothing is written.
        """
        if review.refusals:
            raise GoldenError("; ".join(review.refusals))
        names = [name_of(golden) for golden in review.goldens]
        return self._directory.commit(
            review.goldens, expected={name: self._before.get(name) for name in names}
        )

    def _names(self, want: Want, platforms: Iterable[str]) -> list[GoldenName]:
        """Return what a golden may be called, by the platform that its engine will run on."""
        model, prompt_set = kept_name(want.target.spec.model, self._project), want.prompt_set
        tokens = prompt_set.sampling.max_tokens
        return [GoldenName(model, prompt_set.name, tokens, want.variant, platform) for platform in platforms]

    def _named(self, golden: Golden) -> Golden:
        model = golden.outputs.spec.model
        name = kept_name(model, self._project)
        return golden if name == model else as_kept(named(golden, name))

    def _change(self, new: Golden, policy: Policy) -> GoldenChange:
        try:
            old = self._directory.get(name_of(new))
        except GoldenError as error:
            change = compare_goldens(None, new)
            return replace(change, lines=(*change.lines, f"in place of one that cannot be read: {error}"))
        change = compare_goldens(old, new, policy.limits_for(new.outputs.spec.model))
        if old is not None and is_outdated(self._directory.path(name_of(new))):
            change = replace(
                change, lines=(*change.lines, "  in the schema of today, in place of an older one")
            )
        return change


def wants_of(request: Request) -> tuple[Want, ...]:
    """Return the goldens that one test needs: of its baseline where it compares, of its target by name."""
    wants: list[Want] = []
    if request.is_paired:
        wants += [Want(request.target.of_baseline(), s, is_baseline=True) for s in request.prompt_sets]
    if request.with_golden:
        is_baseline = request.target.is_baseline
        wants += [Want(request.target, s, is_baseline=is_baseline) for s in request.prompt_sets]
    return merge(wants)


def merge(wants: Iterable[Want]) -> tuple[Want, ...]:
    """Return each golden once, in order; as a baseline's where anybody needs it as one."""
    merged: dict[str, Want] = {}
    for want in wants:
        known = merged.get(want.key, want)
        merged[want.key] = replace(known, is_baseline=known.is_baseline or want.is_baseline)
    return tuple(merged.values())


def produce(session: Session, want: Want) -> None:
    """Make sure that the run store holds all that a golden is made of.

    Raises `EngineError` with the engine's own reason if it broke or refused the set.
    """
    session.outputs(want.alone, want.prompt_set)
    if want.is_scored:
        session.floor(want.alone, want.prompt_set)


def assemble(store: RunStore, want: Want) -> Golden | None:
    """Return a golden from the run store; None if it was not produced whole."""
    spec, prompt_set = want.target.spec, want.prompt_set
    outputs = store.outputs(spec, prompt_set)
    scores = store.scores(spec, prompt_set, spec) if want.is_scored else None
    floor = store.floor(spec, prompt_set) if want.is_scored else None
    if outputs is None or (want.is_scored and (scores is None or floor is None)):
        return None
    return as_kept(Golden(want.variant, outputs, _in_memory(scores), _in_memory(floor)))


def _in_memory(scores: ScoreSet | None) -> ScoreSet | None:
    """Return scores that stay when the run store goes."""
    return scores and replace(scores, scores=tuple(scores.scores))


def check_may_write(environ: Mapping[str, str], *, allow_ci: bool) -> None:
    """Raise `UsageError` in CI, where goldens are read: writing there must be asked for by name."""
    if is_ci(environ) and not allow_ci:
        raise UsageError(
            "goldens are not refreshed in CI (CI is set): refresh them elsewhere and commit them, "
            "or add --kv-golden-allow-ci"
        )


def check_sizes(wants: Iterable[Want]) -> None:
    """Raise `UsageError` for a golden that could not be kept once engines have written it."""
    for want in wants:
        if why := too_large(want.prompt_set):
            raise UsageError(
                printable(
                    f"the golden of {want} cannot be kept: {why}; split the set, or lower its max_tokens"
                )
            )


def _refusal(want: Want, golden: Golden, policy: Policy) -> str | None:
    asked, resolved = want.target.spec.kv_cache_dtype, golden.outputs.provenance
    if is_quantized(asked) and not resolved.kv_cache_quantized:
        return f"{name_of(golden)}: vLLM resolved {resolved.kv_cache_dtype}, so it is no golden of {asked}"
    return refusals(golden, policy.limits_for(want.target.spec.model), want.is_baseline)


def _digest(directory: GoldenDirectory, name: GoldenName) -> str | None:
    """Return a golden's digest; None for what is no file, which no commit can replace anyway."""
    try:
        return directory.digest(name)
    except GoldenError:
        return None
