"""What a test holds of one target: a handle on its engine, and what was planned for the test's own sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_kvcache.engines.pool import TOP_K
from pytest_kvcache.plan import Target, scored_sets
from pytest_kvcache.records import (
    EngineSpec,
    Output,
    OutputSet,
    PlannedGoldens,
    PlannedOutputs,
    PlannedScores,
    Prompt,
    PromptSet,
    Provenance,
    Sampling,
    Score,
    ScoreRequest,
)
from pytest_kvcache.session import Session


@dataclass(frozen=True, slots=True)
class EngineHandle:
    """What a test holds of one target: stored outputs of whole sets, and the engine itself if it must.

    Nothing is started before it is needed.
    """

    session: Session
    target: Target
    load_set: Callable[[str], PromptSet]
    """Finds a prompt set by its name or file."""

    def outputs(self, prompt_set: str | PromptSet) -> OutputSet:
        """Return the outputs for a whole prompt set, from the run store or generated now."""
        if isinstance(prompt_set, str):
            prompt_set = self.load_set(prompt_set)
        return self.session.outputs(self.target, prompt_set)

    def generate(self, prompts: Sequence[str | Prompt], **sampling: object) -> tuple[Output, ...]:
        """Generate ad hoc, in one batch; ``sampling``: fields of `Sampling`. No store or verdict sees it."""
        asked = [
            p if isinstance(p, Prompt) else Prompt(f"prompt-{i}", "ad-hoc", text=p)
            for i, p in enumerate(prompts)
        ]
        return self.session.live(self.target).generate(asked, Sampling(**sampling))  # type: ignore[arg-type]

    def score(self, token_ids: Sequence[int], prompt_token_ids: Sequence[int] = ()) -> Score:
        """Score one text ad hoc. Without a prompt its first token is context and gets no score."""
        ids = (*prompt_token_ids, *token_ids)
        context = len(prompt_token_ids) or 1
        request = ScoreRequest("ad-hoc", ids[:context], ids[context:])
        return self.session.live(self.target).score([request], top_k=TOP_K)[0]

    @property
    def spec(self) -> EngineSpec:
        return self.target.spec

    @property
    def provenance(self) -> Provenance:
        """What vLLM resolved; starts the engine unless it has run already."""
        return self.session.provenance(self.target)


def planned_outputs(session: Session, target: Target, prompt_sets: Sequence[PromptSet]) -> PlannedOutputs:
    """Return a target's outputs, if they are what they will be taken for.

    Raises `EngineError` as `Session.outputs` and `Session.check_resolved` do.
    """
    planned = tuple(session.outputs(target, prompt_set) for prompt_set in prompt_sets)
    for outputs in planned:
        session.check_resolved(target, outputs.provenance)
    return PlannedOutputs(planned)


def planned_scores(session: Session, target: Target, prompt_sets: Sequence[PromptSet]) -> PlannedScores:
    """Return a target's scores of its baseline's texts, for those sets that are scored.

    Raises `UsageError` if none is, else as `Session.scores` does.
    """
    scored = scored_sets(prompt_sets, "kv_scores, e.g. smoke")
    return PlannedScores(tuple(session.scores(target, prompt_set) for prompt_set in scored))


def planned_goldens(session: Session, target: Target, prompt_sets: Sequence[PromptSet]) -> PlannedGoldens:
    """Return a target's own goldens, and what its engine gives their texts today.

    Raises `EngineError` for a golden that is missing or not fit to be read, and as `Session.scores` does.
    """
    goldens = tuple(session.golden(target, prompt_set) for prompt_set in prompt_sets)
    scores = (
        session.scores(target, golden.prompt_set, text_of=target.golden) if golden.scores else None
        for golden in goldens
    )
    return PlannedGoldens(goldens, tuple(scores))
