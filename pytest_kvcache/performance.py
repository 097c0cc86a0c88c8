"""Performance: how fast each target's engine is and how much its cache holds, beside its baseline's.

Speed is measured by tests in rounds of equal work, which they leave in the run directory. What a cache
holds every engine tells by itself. No verdict rests on either: it is the gain for which one takes the risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Literal, get_args

import msgspec

from pytest_kvcache.files import slug, write_atomically
from pytest_kvcache.plan import Target
from pytest_kvcache.records import EngineSpec, Measurement, Performance, Provenance, Ratio

Figure = Literal["tokens_per_second", "seconds_to_first_token", "seconds_to_first_token_long"]

_FIGURES: tuple[Figure, ...] = get_args(Figure)
_DIRECTORY = "performance"


class Rounds(msgspec.Struct, frozen=True):
    """What each round of one measurement gave."""

    target_id: str
    figure: Figure
    values: tuple[float, ...]


def put_rounds(directory: Path, rounds: Rounds) -> None:
    """Keep a measurement in the run directory, in place of an earlier one of the same."""
    path = directory / _DIRECTORY / f"{slug(rounds.target_id)}-{rounds.figure}.json"
    write_atomically(path, msgspec.json.encode(rounds))


def read_rounds(directory: Path) -> tuple[Rounds, ...]:
    """Return all measurements of a run."""
    entries = (
        msgspec.json.decode(file.read_bytes(), type=Rounds)
        for file in (directory / _DIRECTORY).glob("*.json")
    )
    return tuple(sorted(entries, key=lambda entry: (entry.target_id, _FIGURES.index(entry.figure))))


def performances(
    targets: Sequence[Target],
    provenances: Mapping[EngineSpec, Provenance],
    measured: Sequence[Rounds],
    not_measured: Mapping[str, str],
) -> tuple[Performance, ...]:
    """Return what is known of each target and baseline, the baselines before their candidates.

    ``not_measured`` says why, by the ids of targets whose tests were to measure and did not. Of whom nothing
    is known there is no entry.
    """
    sides = {side.id: side for target in targets for side in (target.of_baseline(), target)}
    alone = {
        name: replace(
            _capacity(side, provenances.get(side.spec)),
            measured={each.figure: _measurement(each.values) for each in measured if each.target_id == name},
            not_measured=not_measured.get(name),
        )
        for name, side in sides.items()
    }
    return tuple(
        _beside(each, alone[each.baseline_id])
        for each in alone.values()
        if each.kv_capacity_tokens or each.measured or each.not_measured
    )


def _capacity(target: Target, provenance: Provenance | None) -> Performance:
    """Return what a target's cache holds; what a golden has kept says nothing of it."""
    if provenance is None or not provenance.kv_capacity_tokens:
        return Performance(target.id, target.baseline_id, None, None, None, None)
    tokens, longest = provenance.kv_capacity_tokens, provenance.max_model_len
    return Performance(target.id, target.baseline_id, tokens, longest, tokens / longest, None)


def _measurement(values: Sequence[float]) -> Measurement:
    return Measurement(median(values), min(values), max(values), len(values))


def _beside(performance: Performance, baseline: Performance) -> Performance:
    """Add how a candidate's figures compare with its baseline's."""
    if performance.id == baseline.id:
        return performance
    own, other = performance.kv_capacity_tokens, baseline.kv_capacity_tokens
    return replace(
        performance,
        kv_capacity_ratio=own / other if own and other else None,
        measured={
            figure: replace(each, ratio=_ratio(each, baseline.measured.get(figure)))
            for figure, each in performance.measured.items()
        },
    )


def _ratio(candidate: Measurement, baseline: Measurement | None) -> Ratio | None:
    if baseline is None:
        return None
    return Ratio(
        candidate.value / baseline.value, candidate.low / baseline.high, candidate.high / baseline.low
    )
