"""Recorded runs: what engines gave for a reference model under a kv dtype, as a verdict takes it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_kvcache.evidence import Evidence
from pytest_kvcache.plan import Target, is_scored
from pytest_kvcache.records import EngineSpec, OutputSet, PromptSet
from pytest_kvcache.store import RunStore

BASELINE = "auto"


def target(model: str, dtype: str) -> Target:
    """Return a reference model under a kv dtype, to be compared with its own baseline."""
    baseline = EngineSpec(f"ref:{model}", BASELINE)
    return Target(
        id=f"{model} {dtype}",
        spec=replace(baseline, kv_cache_dtype=dtype),
        kv_dtype=dtype,
        variant=None,
        baseline=baseline,
        baseline_id=f"{model} {BASELINE}",
    )


def adopt(run: Path, store: RunStore) -> None:
    """Copy an earlier run's outputs and scores into a run store."""
    for pattern in ("engines/*/outputs-*.jsonl", "engines/*/*.scores"):
        for file in run.glob(pattern):
            kept = store.root / file.relative_to(run)
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(file, kept)


@dataclass(frozen=True)
class Recordings:
    """What a run store holds for some prompt sets."""

    store: RunStore
    prompt_sets: Sequence[PromptSet]

    def evidence(self, model: str, dtype: str) -> list[Evidence]:
        """Return what a model gave for each set under a dtype and as the baseline.

        Raises SystemExit, in one line, if the store lacks any of it but the noise floor.
        """
        return [self._evidence(target(model, dtype), prompt_set) for prompt_set in self.prompt_sets]

    def evidence_at_hand(self, model: str, dtype: str) -> list[Evidence]:
        """Return the same without the tasks where they were not recorded."""
        of = target(model, dtype)
        return [
            self._evidence(of, prompt_set)
            for prompt_set in self.prompt_sets
            if not prompt_set.is_tasks
            or all(self.store.has_outputs(spec, prompt_set) for spec in (of.baseline, of.spec))
        ]

    def _evidence(self, of: Target, prompt_set: PromptSet) -> Evidence:
        baseline, candidate = (self.store.outputs(spec, prompt_set) for spec in (of.baseline, of.spec))
        theirs, ours = (self.store.scores(spec, prompt_set, of.baseline) for spec in (of.baseline, of.spec))
        missing = not (baseline and candidate) or (is_scored(prompt_set) and not (theirs and ours))
        if missing or not (baseline and candidate):
            what = "outputs and scores" if is_scored(prompt_set) else "outputs"
            raise SystemExit(
                f"{self.store.root} holds no {what} of {of.spec.model} under {of.kv_dtype} "
                f"for {prompt_set.name}"
            )
        floor = self.store.floor(of.baseline, prompt_set) if is_scored(prompt_set) else None
        return Evidence(prompt_set, baseline, as_probed(candidate), theirs, ours, floor)


def as_quiet(evidence: Evidence) -> Evidence:
    """Take the baseline of an early recording for one that gives a text alone what it gives it in a batch.

    No text was scored alone then, so its noise floor is taken as zero. The gate itself does not pass what has
    no floor; what floors are like on the same processor stands in ``docs/reruns.md``.
    """
    if evidence.baseline_scores is None or evidence.floor_scores is not None:
        return evidence
    return replace(evidence, floor_scores=evidence.baseline_scores)


def as_probed(outputs: OutputSet) -> OutputSet:
    """Take the engine of an early recording for one that proved to read its cache.

    Engines were not probed then. What stands in for the proof is that of ``benchmarks/scoring_paths.py``, on
    the same version of vLLM and the same attention: both ways of scoring agree to the last bit.
    """
    if outputs.provenance.can_follow:
        return outputs
    return replace(outputs, provenance=replace(outputs.provenance, scoring_difference=0.0))
