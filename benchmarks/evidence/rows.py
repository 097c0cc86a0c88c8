"""Rows: the figures of one reference model under one kv dtype, from its recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import fmean

import numpy as np

from evidence.baseline_text import PromptFigures, disagreement, nll, prompt_figures
from evidence.bootstrap import Estimate, bootstrap
from evidence.recorded import BASELINE, Recordings, as_quiet, target
from evidence.tables import in_short
from pytest_kvcache.endpoints import (
    compare_all,
    first_divergences,
    judge_endpoints,
    primary_samples,
    secondary_samples,
)
from pytest_kvcache.evidence import Evidence, find_faults, wrong_answers
from pytest_kvcache.measures.divergence import Divergence, divergence
from pytest_kvcache.measures.paired import Interval
from pytest_kvcache.measures.positions import PositionBin
from pytest_kvcache.measures.runs import find_tails, sequence_of_ids
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Metric, Output, OutputSet, Verdict
from pytest_kvcache.verdicts import Identity, decide

SAMPLES = 3


@dataclass(frozen=True)
class Against:
    """What a candidate is beside its baseline."""

    verdict: str
    """With its codes."""
    metrics: dict[str, Metric]
    """The endpoints, and where outputs part; also where the baseline voids every verdict."""
    has_floor: bool
    """Whether a noise floor took part."""
    growth: Interval
    """Nats by which KLD grows over 100 tokens of text."""
    positions: tuple[PositionBin, ...]
    """KLD along the text."""
    baseline_nll: tuple[float, ...]
    """The baseline's own NLL in the same bins, in nats per token: how hard the text is to foretell there."""


@dataclass(frozen=True)
class Row:
    """One model under one dtype."""

    model: str
    kv_dtype: str
    resolved_kv_dtype: str
    engine: str
    """Its device, and the version of vLLM."""
    against: Against | None
    """None for the baseline itself."""
    prompts: int
    scored_tokens: int
    nll: Estimate
    delta_nll: Estimate
    top1_agreement: Estimate
    loops: int
    loops_penalised: int
    prompts_penalised: int
    empty: int
    mean_tokens: float
    same_as_baseline: int
    """Outputs equal to the baseline's, token by token."""
    right_answers: int
    tasks: int
    """0 where none were recorded."""
    samples: dict[str, str]


def row_of(recordings: Recordings, model: str, dtype: str) -> Row:
    """Measure one model under one dtype; the sets are a plain one, a penalised one and maybe tasks."""
    evidence = recordings.evidence_at_hand(model, dtype)
    plain, penalised, *tasks = evidence
    outputs = plain.candidate
    ours, theirs = figures_of(plain)
    own = ours.columns()
    pairs = np.hstack([own, theirs.columns()])
    versions = dict(outputs.provenance.versions)
    return Row(
        model=f"ref:{model}",
        kv_dtype=dtype,
        resolved_kv_dtype=outputs.provenance.kv_cache_dtype,
        engine=f"{outputs.provenance.device}, vLLM {versions.get('vllm')}",
        against=None if dtype == BASELINE else against(model, dtype, evidence),
        prompts=len(outputs),
        scored_tokens=int(own[:, 0].sum()),
        nll=bootstrap(own, nll),
        delta_nll=bootstrap(pairs, lambda sums: nll(sums) - nll(sums[..., 3:])),
        top1_agreement=bootstrap(own, lambda sums: 1 - disagreement(sums)),
        loops=_loops(outputs),
        loops_penalised=_loops(penalised.candidate),
        prompts_penalised=len(penalised.candidate),
        empty=sum(len(output.token_ids) <= 1 for output in outputs),
        mean_tokens=sum(len(output.token_ids) for output in outputs) / len(outputs),
        same_as_baseline=sum(a.token_ids == b.token_ids for _, a, b in plain.pairs()),
        right_answers=sum(not wrong for wrong, _ in wrong_answers(tasks)),
        tasks=sum(len(each.candidate) for each in tasks),
        samples={output.prompt_id: output.text for output in _spread(outputs, SAMPLES)},
    )


def figures_of(plain: Evidence) -> tuple[PromptFigures, PromptFigures]:
    """Return what candidate and baseline made of the baseline's texts."""
    assert plain.candidate_scores
    assert plain.baseline_scores
    ours, theirs = (
        prompt_figures(scores, plain.prompt_set) for scores in (plain.candidate_scores, plain.baseline_scores)
    )
    return ours, theirs


def against(model: str, dtype: str, evidence: Sequence[Evidence]) -> Against:
    """Judge a candidate under the default limits."""
    verdict = verdict_on(model, dtype, evidence)
    along = _divergence(evidence[0])
    positions = along.by_position()
    return Against(
        verdict=in_short(verdict),
        metrics=verdict.metrics if "delta_nll" in verdict.metrics else _measured(evidence),
        has_floor=any(each.floor_scores for each in evidence),
        growth=along.growth,
        positions=positions,
        baseline_nll=tuple(_baseline_nll(along, each) for each in positions),
    )


def verdict_on(model: str, dtype: str, evidence: Sequence[Evidence]) -> Verdict:
    """Decide under the default limits, without declarations."""
    of = target(model, dtype)
    identity = Identity(of.id, of.spec.model, None, dtype, None, of.baseline_id)
    quiet = [as_quiet(each) for each in evidence]
    return decide(identity, quiet, limits=Limits(), known_bad=None, today=date.today())


def ends_in_loop(output: Output) -> bool:
    """Whether an output ends in exact repetition: 24 tokens in 4 copies, or 48 tokens in 2.5."""
    sequence = sequence_of_ids(output.token_ids)
    return bool(
        find_tails(sequence, min_length=24, min_copies=4)
        or find_tails(sequence, min_length=48, min_copies=2.5)
    )


def _measured(evidence: Sequence[Evidence]) -> dict[str, Metric]:
    """Measure what a baseline that degenerates keeps out of its candidate's verdict."""
    samples = {**primary_samples(compare_all(evidence)), **secondary_samples(find_faults(evidence), evidence)}
    endpoints = [*judge_endpoints(samples, Limits()), *first_divergences(evidence)]
    return {endpoint.name: endpoint.metric for endpoint in endpoints}


def _divergence(plain: Evidence) -> Divergence:
    assert plain.candidate_scores
    assert plain.baseline_scores
    return divergence(plain.candidate_scores, plain.baseline_scores)


def _baseline_nll(along: Divergence, within: PositionBin) -> float:
    parts = [
        text.nll_base[(text.positions >= within.start) & (text.positions < within.end)]
        for text in along.texts
    ]
    return fmean(float(part.mean()) for part in parts if part.size)


def _loops(outputs: Iterable[Output]) -> int:
    return sum(map(ends_in_loop, outputs))


def _spread(outputs: OutputSet, count: int) -> list[Output]:
    step = max(1, len(outputs) // count)
    return list(outputs.outputs[::step][:count])
