"""Evidence about the reference models: what each of them does under each kv dtype, in one command.

    python benchmarks/reference_models.py --out DIR
    python benchmarks/reference_models.py --out DIR --runs .kvcache/runs/*

Every model writes a prompt set and a penalised one under ``auto`` and each candidate dtype; every
engine scores the model's own text from ``auto``. From that come the tables and the sample texts in
``DIR/reference-models.md`` and ``DIR/reference-models.json``:

- per model and dtype: the verdict, NLL and top-1 agreement on the model's own baseline text, and
  outputs that loop, are empty, or differ;
- the 2x2 experiment: attention (multi-head or grouped-query) by key bias (without or with), and how
  much each factor adds to NLL and disagreement.

``--runs`` names run directories of pytest whose outputs and scores are copied to ``DIR/run`` first. An
engine is started only for what is not there yet, and what it produces is kept there too, so that an
interrupted recording goes on where it stopped. Verdicts are decided anew, under the default limits; runs
recorded before noise floors were are judged without one.

Intervals are 95 % percentile bootstraps over prompts. Engines use the cores this process may use;
prefix the command with ``taskset -c 0`` to leave the others alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pytest_kvcache import endpoints
from pytest_kvcache.endpoints import (
    compare_all,
    find_faults,
    first_divergences,
    judge_endpoints,
    primary_samples,
    secondary_samples,
)
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.measures.runs import find_tails, sequence_of_ids
from pytest_kvcache.plan import Request, Target, is_scored, make_plan
from pytest_kvcache.policy import Limits
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Metric, Output, OutputSet, PromptSet, ScoreSet
from pytest_kvcache.refmodels import RECIPES
from pytest_kvcache.report.table import figure
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore
from pytest_kvcache.text import printable
from pytest_kvcache.verdicts import Identity, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

BASELINE = "auto"
CANDIDATES = ("fp8_e4m3", "fp8_e5m2")
FACTORS = {
    ("mha-rotated", "none"): "mha-rotated",
    ("gqa", "none"): "gqa",
    ("mha-rotated", "512"): "mha-rotated-kbias",
    ("gqa", "512"): "gqa-kbias",
}
"""Not ``mha`` and ``mha-kbias``: their heads are copies that round alike, so that they equal ``gqa`` and
``gqa-kbias`` by construction, and an effect of attention could not show."""
WRITERS = tuple(name for name in RECIPES if name != "tiny-qwen3")
ENDPOINTS = {
    "delta_nll": "delta NLL",
    "kld": "KLD",
    "same_top_loss": "same-top loss",
    "degenerate_excess": "degenerate excess",
    "suspicious_excess": "suspicious excess",
}
"""The endpoints that are shown, with their headings."""
SECONDS_PER_STEP = 3600.0
SAMPLES = 3
SAMPLE_CHARS = 240
RESAMPLES = 4000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


@dataclass(frozen=True)
class PromptFigures:
    """What one engine made of each prompt's baseline text; one entry per prompt."""

    tokens: Floats
    nll: Floats
    """Summed over the text's tokens, in nats."""
    disagreements: Floats
    """Tokens of the text that are not the engine's most probable ones."""

    def columns(self) -> Floats:
        """Return ``float[prompts, 3]``: tokens, nll, disagreements."""
        return np.stack([self.tokens, self.nll, self.disagreements], axis=1)


@dataclass(frozen=True)
class Row:
    """One model under one dtype."""

    model: str
    kv_dtype: str
    resolved_kv_dtype: str
    verdict: str | None
    """With its reasons; None for a baseline, and where no named run has one."""
    prompts: int
    scored_tokens: int
    nll: Estimate
    delta_nll: Estimate
    top1_agreement: Estimate
    endpoints: dict[str, Metric]
    """Those of ENDPOINTS that could be measured, whatever the verdict."""
    parts_at: Metric | None
    """Median position, in tokens, at which outputs part from the baseline's; None if none does."""
    loops: int
    loops_penalised: int
    prompts_penalised: int
    empty: int
    mean_tokens: float
    same_as_baseline: int
    """Outputs equal to the baseline's, token by token."""
    samples: dict[str, str]


def main() -> int:
    arguments = _arguments()
    plain, penalised = load_prompt_set(arguments.prompts), load_prompt_set(arguments.penalised)
    targets = {(m, d): _target(m, d) for m in arguments.models for d in (BASELINE, *CANDIDATES)}
    store = RunStore(arguments.out / "run")
    for run in arguments.runs:
        adopt(run, store)
    evidence = Evidence(store, list(targets.values()), plain, penalised)
    began = time.monotonic()
    try:
        rows = [evidence.row(targets[key], targets[key[0], BASELINE]) for key in targets]
        two_by_two = {
            dtype: effects for dtype in CANDIDATES if (effects := evidence.two_by_two(targets, dtype))
        }
    finally:
        evidence.session.release()
    seconds = time.monotonic() - began
    (arguments.out / "reference-models.json").write_text(
        json.dumps(
            {
                "prompt_sets": [plain.name, penalised.name],
                "rows": [asdict(row) for row in rows],
                "two_by_two": {
                    d: {k: asdict(e) for k, e in effects.items()} for d, effects in two_by_two.items()
                },
            },
            indent=2,
        )
        + "\n"
    )
    text = "\n".join(markdown(rows, two_by_two, penalised.sampling.repetition_penalty))
    (arguments.out / "reference-models.md").write_text(text + "\n")
    print(text)
    print(f"\n{seconds / 60:.1f} minutes for {len(targets)} engines: {arguments.out}", file=sys.stderr)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Record what the reference models do under each kv dtype.")
    parser.add_argument("--models", nargs="+", default=WRITERS, choices=WRITERS, metavar="NAME")
    parser.add_argument("--prompts", default="smoke", help="the set to write and score (default: smoke)")
    parser.add_argument(
        "--penalised", default="smoke-penalised", help="the set with a penalty (default: smoke-penalised)"
    )
    parser.add_argument(
        "--runs", nargs="+", type=_run_directory, default=[], metavar="DIR", help="earlier runs to read"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser.parse_args()


def _run_directory(path: str) -> Path:
    if not (Path(path) / "engines").is_dir():
        raise argparse.ArgumentTypeError(f"{path} is no run directory: it has no engines/")
    return Path(path)


def _target(model: str, dtype: str) -> Target:
    return Target(
        id=f"{model}-{dtype}",
        spec=EngineSpec(f"ref:{model}", dtype),
        kv_dtype=dtype,
        variant=None,
        baseline=EngineSpec(f"ref:{model}", BASELINE),
        baseline_id=f"{model}-{BASELINE}",
    )


def adopt(run: Path, store: RunStore) -> None:
    """Copy an earlier run's outputs and scores into a run store."""
    for pattern in ("engines/*/outputs-*.jsonl", "engines/*/scores-*.xz", "engines/*/floor-*.xz"):
        for file in run.glob(pattern):
            kept = store.root / file.relative_to(run)
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copyfile(file, kept)


class Evidence:
    """The outputs and scores of all engines, each produced when first asked for and then kept."""

    def __init__(
        self, store: RunStore, targets: Sequence[Target], plain: PromptSet, penalised: PromptSet
    ) -> None:
        self.store = store
        self.plain = plain
        self.penalised = penalised
        requests = [Request(target, (plain, penalised), with_scores=True) for target in targets]
        self.session = Session(
            make_plan(requests),
            store,
            child_engine_factory(SECONDS_PER_STEP),
            DevicePool(),
            notify=_report_steps(),
        )

    def row(self, target: Target, baseline: Target) -> Row:
        outputs = self.session.outputs(target, self.plain)
        penalised = self.session.outputs(target, self.penalised)
        trusted = self.session.outputs(baseline, self.plain)
        pairs_of = self._pairs(target)
        parts = [e.metric for e in first_divergences(pairs_of) if e.name == "first_divergence"]
        own = self.figures(target).columns()
        pairs = np.hstack([own, self.figures(baseline).columns()])
        return Row(
            model=target.spec.model,
            kv_dtype=target.kv_dtype,
            resolved_kv_dtype=outputs.provenance.kv_cache_dtype,
            verdict=None if target.is_baseline else _verdict(target, pairs_of),
            prompts=len(outputs),
            scored_tokens=int(own[:, 0].sum()),
            nll=bootstrap(own, _nll),
            delta_nll=bootstrap(pairs, lambda sums: _nll(sums) - _nll(sums[..., 3:])),
            top1_agreement=bootstrap(own, lambda sums: 1 - _disagreement(sums)),
            endpoints={} if target.is_baseline else _endpoints(pairs_of),
            parts_at=parts[0] if parts else None,
            loops=sum(map(ends_in_loop, outputs)),
            loops_penalised=sum(map(ends_in_loop, penalised)),
            prompts_penalised=len(penalised),
            empty=sum(len(output.token_ids) <= 1 for output in outputs),
            mean_tokens=sum(len(output.token_ids) for output in outputs) / len(outputs),
            same_as_baseline=sum(a.token_ids == b.token_ids for a, b in zip(outputs, trusted, strict=True)),
            samples={output.prompt_id: output.text for output in _spread(outputs, SAMPLES)},
        )

    def _pairs(self, target: Target) -> list[endpoints.Evidence]:
        """Return what the target and its baseline made of both sets, as a verdict takes it."""
        return [self._pair(target, prompt_set) for prompt_set in (self.plain, self.penalised)]

    def _pair(self, target: Target, prompt_set: PromptSet) -> endpoints.Evidence:
        baseline, scored = target.of_baseline(), is_scored(prompt_set)
        return endpoints.Evidence(
            prompt_set,
            self.session.outputs(baseline, prompt_set),
            as_probed(self.session.outputs(target, prompt_set)),
            self.session.scores(baseline, prompt_set) if scored else None,
            self.session.scores(target, prompt_set) if scored else None,
            self.store.floor(baseline.spec, prompt_set) if scored else None,
        )

    def figures(self, target: Target) -> PromptFigures:
        """Return what an engine made of its model's baseline texts, in the prompts' order."""
        return _figures(self.session.scores(target, self.plain), self.plain)

    def two_by_two(self, targets: dict[tuple[str, str], Target], dtype: str) -> dict[str, Estimate] | None:
        """Return how much each factor adds under ``dtype``, or None if a model of the four is missing."""
        if not all((model, dtype) in targets for model in FACTORS.values()):
            return None
        columns = [
            self.figures(targets[model, of]).columns()
            for model in FACTORS.values()
            for of in (dtype, BASELINE)
        ]
        data = np.hstack(columns)
        effects = {}
        for name, ratio in (("NLL", _nll), ("disagreement", _disagreement)):
            for contrast, weights in CONTRASTS.items():
                effects[f"{name}, {contrast}"] = bootstrap(data, _contrast(ratio, weights))
        return effects


def as_probed(outputs: OutputSet) -> OutputSet:
    """Take the engine of an early recording for one that proved to read its cache.

    Engines were not probed then. What stands in for the proof is that of ``benchmarks/scoring_paths.py``, on
    the same version of vLLM and the same attention: both ways of scoring agree to the last bit.
    """
    if outputs.provenance.can_follow:
        return outputs
    return replace(outputs, provenance=replace(outputs.provenance, scoring_difference=0.0))


def _verdict(target: Target, evidence: Sequence[endpoints.Evidence]) -> str:
    """Decide under the default limits, and say it in short."""
    spec = target.spec
    identity = Identity(target.id, spec.model, spec.revision, target.kv_dtype, None, target.baseline_id)
    verdict = decide(identity, evidence, limits=Limits(), known_bad=None, today=date.today())
    codes = dict.fromkeys(reason.code for reason in verdict.reasons)
    return f"{verdict.verdict}: {', '.join(codes)}" if codes else str(verdict.verdict)


def _endpoints(evidence: Sequence[endpoints.Evidence]) -> dict[str, Metric]:
    """Measure the shown endpoints, also where the baseline voids every verdict."""
    faults = find_faults(evidence)
    samples = {**primary_samples(compare_all(evidence)), **secondary_samples(faults, evidence)}
    return {e.name: e.metric for e in judge_endpoints(samples, Limits()) if e.name in ENDPOINTS}


CONTRASTS = {
    "key bias (with less without)": (-0.5, -0.5, 0.5, 0.5),
    "attention (grouped-query less multi-head)": (-0.5, 0.5, -0.5, 0.5),
    "interaction (what bias adds in gqa less in mha)": (1.0, -1.0, -1.0, 1.0),
}
"""Weights of the four models in the order of FACTORS."""


def _contrast(ratio: Callable[[Floats], Floats], weights: Sequence[float]) -> Callable[[Floats], Floats]:
    def effect(sums: Floats) -> Floats:
        harms = [ratio(sums[..., 6 * i :]) - ratio(sums[..., 6 * i + 3 :]) for i in range(len(weights))]
        return np.asarray(np.tensordot(weights, np.array(harms), axes=1))

    return effect


def _nll(sums: Floats) -> Floats:
    return np.asarray(sums[..., 1] / sums[..., 0])


def _disagreement(sums: Floats) -> Floats:
    return np.asarray(sums[..., 2] / sums[..., 0])


def bootstrap(columns: Floats, statistic: Callable[[Floats], Floats]) -> Estimate:
    """Return a statistic of column sums with its interval over resampled prompts (rows)."""
    generator = np.random.default_rng(0)
    n = len(columns)
    weights = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    low, high = np.percentile(statistic(weights @ columns), [2.5, 97.5])
    return Estimate(float(statistic(columns.sum(axis=0))), float(low), float(high))


def ends_in_loop(output: Output) -> bool:
    """Whether an output ends in exact repetition: 24 tokens in 4 copies, or 48 tokens in 2.5."""
    sequence = sequence_of_ids(output.token_ids)
    return bool(
        find_tails(sequence, min_length=24, min_copies=4)
        or find_tails(sequence, min_length=48, min_copies=2.5)
    )


def _figures(scores: ScoreSet, prompt_set: PromptSet) -> PromptFigures:
    by_prompt = {score.prompt_id: score for score in scores.scores}
    tokens, nll, disagreements = [], [], []
    for prompt in prompt_set.prompts:
        score = by_prompt.get(prompt.id)
        if score is None:  # an empty text has nothing to score
            given, missed, n = 0.0, 0, 0
        else:
            n = len(score.token_ids)
            given = -float(np.frombuffer(score.logprobs, "<f4").sum(dtype=np.float64))
            top = np.frombuffer(score.top_ids, "<i4").reshape(n, score.k)[:, 0]
            missed = int((top != np.array(score.token_ids)).sum())
        tokens.append(n)
        nll.append(given)
        disagreements.append(missed)
    return PromptFigures(*(np.array(values, dtype=np.float64) for values in (tokens, nll, disagreements)))


def _spread(outputs: OutputSet, count: int) -> list[Output]:
    step = max(1, len(outputs) // count)
    return list(outputs.outputs[::step][:count])


def markdown(
    rows: Sequence[Row], two_by_two: dict[str, dict[str, Estimate]], penalty: float
) -> Iterator[str]:
    """Write the tables and the samples."""
    first = rows[0]
    yield f"{first.prompts} prompts; NLL in nats per token of the model's own `auto` text; 95 % intervals."
    yield ""
    heads = ("model", "kv dtype", "verdict", *ENDPOINTS.values(), "parts at", f"equal of {first.prompts}")
    yield from _table(heads, (_judged_cells(row) for row in rows if row.verdict))
    yield ""
    yield "What each engine made of the `auto` text of its model, and of the prompts:"
    yield ""
    heads = ("model", "kv dtype", "scored tokens", "NLL", "delta NLL of all tokens", "top-1 agreement")
    counts = ("loops", f"loops, penalty {penalty}", "empty", "mean tokens")
    yield from _table((*heads, *counts), map(_engine_cells, rows))
    for dtype, effects in two_by_two.items():
        yield from ("", *_two_by_two_markdown(dtype, effects, rows))
    yield from ("", *_samples_markdown(rows))


def _judged_cells(row: Row) -> tuple[object, ...]:
    shown = (figure(row.endpoints.get(name)) for name in ENDPOINTS)
    parts = (
        f"{row.parts_at.value:.0f} [{row.parts_at.ci_low:.0f}, {row.parts_at.ci_high:.0f}]"
        if row.parts_at
        else "-"
    )
    return (row.model, row.kv_dtype, row.verdict, *shown, parts, row.same_as_baseline)


def _engine_cells(row: Row) -> tuple[object, ...]:
    scored = (f"{row.nll.value:.3f}", f"{row.delta_nll:+.3f}", f"{row.top1_agreement:.3f}")
    counts = (row.loops, row.loops_penalised, row.empty, f"{row.mean_tokens:.0f}")
    return (row.model, row.kv_dtype, row.scored_tokens, *scored, *counts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(map(str, cells))} |"


def _two_by_two_markdown(dtype: str, effects: dict[str, Estimate], rows: Sequence[Row]) -> Iterator[str]:
    cells = {row.model: row for row in rows if row.kv_dtype == dtype}
    yield f"Under `{dtype}`: delta NLL / top-1 agreement / loops with the penalty."
    yield ""
    yield "| | no key bias | key bias 512 |"
    yield "| --- | --- | --- |"
    for attention in ("mha-rotated", "gqa"):
        pair = [cells[f"ref:{FACTORS[attention, bias]}"] for bias in ("none", "512")]
        figures = [
            f"{row.delta_nll.value:+.3f} / {row.top1_agreement.value:.3f} / {row.loops_penalised}"
            for row in pair
        ]
        yield f"| {attention} | {figures[0]} | {figures[1]} |"
    yield ""
    yield "| effect on | size |"
    yield "| --- | --- |"
    for name, estimate in effects.items():
        yield f"| {name} | {estimate:+.3f} |"


def _samples_markdown(rows: Sequence[Row]) -> Iterator[str]:
    yield "| model | kv dtype | prompt | begins |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        for prompt, text in row.samples.items():
            shown = printable(text, SAMPLE_CHARS).replace("|", "\\|").replace("`", "'")
            yield f"| {row.model} | {row.kv_dtype} | {prompt} | {f'`{shown}`' if shown else '(empty)'} |"


def _report_steps() -> Callable[[str, str, int, int], None]:
    said: set[tuple[str, str]] = set()

    def report(label: str, phase: str, _done: int, _total: int) -> None:
        if (label, phase) not in said:
            said.add((label, phase))
            print(f"{time.strftime('%H:%M:%S')} {label}: {phase}", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
