"""Decisions: how often the gate errs, by the whole decision procedure on recorded real outputs.

    python benchmarks/decisions.py --run .kvcache/runs/RUN --out docs/decisions.md

Takes a run of reference models (``benchmarks/reference_models.py``) under ``auto`` and candidate dtypes,
draws prompts from it again and again, and judges every draw as a verdict would be, under the default limits
but without their minimum of evidence. No engine is started.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
from reference_models import as_probed

from pytest_kvcache.endpoints import (
    Evidence,
    Faults,
    baseline_endpoints,
    compare_all,
    find_faults,
    judge_endpoints,
    primary_samples,
    secondary_samples,
)
from pytest_kvcache.measures.noninferiority import Differences, Means, Sample
from pytest_kvcache.measures.paired import share_interval
from pytest_kvcache.policy import Limits
from pytest_kvcache.prompts import load_prompt_set
from pytest_kvcache.records import EngineSpec, Output, OutputSet, ScoreSet, VerdictKind
from pytest_kvcache.report.table import figure
from pytest_kvcache.store import RunStore
from pytest_kvcache.verdicts import Identity, decide, outcome

HEALTHY = ("llama", "gqa", "mha-rotated")
FRAGILE = (
    "gqa-kbias-64",
    "gqa-kbias-96",
    "gqa-kbias-128",
    "gqa-kbias-half",
    "gqa-kbias-256",
    "gqa-kbias",
    "mha-rotated-kbias",
)
QUANTIZED = ("gqa-gptq", "gqa-awq", "gqa-kbias-gptq", "gqa-kbias-awq")
"""The weights are in 4 bits."""
SHOWN = ("delta_nll", "kld", "same_top_loss", "suspicious_excess")
TUNED_ON = ("gqa", "mha-rotated", "gqa-kbias-64", "gqa-kbias-256")
DTYPES = ("fp8_e4m3", "fp8_e5m2")
PROMPTS = (8, 12, 16, 24, 32)
TOKENS = (32, 64, 96, 160)
STEPS = np.linspace(0, 1, 41)
LIMITS = Limits(min_prompts=1, min_tokens_per_prompt=1, min_kinds=1)

Draw = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recorded:
    """What was measured on one candidate: one value per prompt of the plain and of the penalised set."""

    samples: dict[str, Sample]
    faults: list[Faults]
    plain: int
    penalised: int

    def verdict(self, plain: Draw, penalised: Draw) -> VerdictKind | None:
        """Judge the drawn prompts as if they were the whole run; None if the baseline degenerates."""
        rows = {
            self.plain: plain,
            self.penalised: penalised,
            self.plain + self.penalised: np.concatenate([plain, self.plain + penalised]),
        }
        faults = [self.faults[i] for i in rows[self.plain + self.penalised]]
        if any(endpoint.reason for endpoint in baseline_endpoints(faults, LIMITS)):
            return None
        drawn = {name: _rows(sample, rows[_size(sample)]) for name, sample in self.samples.items()}
        return outcome([e.reason for e in judge_endpoints(drawn, LIMITS) if e.reason])[0]


@dataclass(frozen=True)
class Tally:
    """Verdicts on draws; void are those whose baseline degenerates by chance of the draw."""

    runs: int
    failed: int
    open: int
    void: int

    @property
    def judged(self) -> int:
        return max(1, self.runs - self.void)

    @property
    def power(self) -> float:
        return self.failed / self.judged

    def __str__(self) -> str:
        """Failed / inconclusive, in per cent of the runs that are not void."""
        return f"{100 * self.power:.0f} / {100 * self.open / self.judged:.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate verdicts on recorded outputs.")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run directory")
    parser.add_argument("--draws", type=int, default=200, help="draws for each cell (default: 200)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    bench = Bench(RunStore(arguments.run), arguments.draws)
    arguments.out.write_text("\n".join(bench.document()) + "\n", encoding="utf-8")
    return 0


class Bench:
    """The simulation. Draws depend on what is asked for alone, not on the order of the tables."""

    def __init__(self, store: RunStore, draws: int) -> None:
        self.store = store
        self.draws = draws
        self.known: dict[tuple[str, str, int], Recorded] = {}

    def document(self) -> Iterator[str]:
        yield INTRODUCTION.format(draws=self.draws)
        yield from self._verdicts()
        yield from self._false_alarms()
        yield from self._power()
        yield from self._lengths()
        yield from self._effects()
        yield from self._margins()

    def _verdicts(self) -> Iterator[str]:
        yield VERDICTS
        yield _table("candidate", "delta NLL", "KLD", "same-top loss", "suspicious excess", "verdict")
        for model in (*HEALTHY, *QUANTIZED, *FRAGILE):
            for dtype in DTYPES:
                evidence = self._evidence_of(model, dtype, TOKENS[-1])
                identity = Identity(model, f"ref:{model}", None, dtype, None, "auto")
                verdict = decide(identity, evidence, limits=Limits(), known_bad=None, today=date.today())
                cells = [figure(verdict.metrics.get(name)) for name in SHOWN]
                codes = ", ".join(dict.fromkeys(reason.code for reason in verdict.reasons))
                yield _row(f"{model} {dtype}", *cells, f"{verdict.verdict}{': ' * bool(codes)}{codes}")
        yield ""

    def _false_alarms(self) -> Iterator[str]:
        yield FALSE_ALARMS
        yield _table("fp8_e4m3 of", *(f"{n} prompts" for n in PROMPTS), "halves of 16")
        total: list[Tally] = []
        for model in HEALTHY:
            recorded = self.recorded(model, "fp8_e4m3")
            cells = [self.tally(recorded, n) for n in PROMPTS]
            cells.append(self.tally(recorded, 16, replacement=False))
            total += cells
            yield _row(model, *cells)
        runs, failed, unclear, void = (
            sum(of) for of in zip(*((t.runs, t.failed, t.open, t.void) for t in total), strict=True)
        )
        failures, open_ = (share_interval(count, runs - void) for count in (failed, unclear))
        yield (
            f"\nOf {runs - void} healthy runs {failed} failed ({failures.value:.2%}, 95 % interval "
            f"{failures.low:.2%} to {failures.high:.2%}), {unclear} were inconclusive ({open_.value:.1%}). "
            f"In {void} more the baseline itself degenerated in more than half of the drawn prompts, which "
            "voids the comparison.\n"
        )
        excess = {m: self._degenerate_excess(m) for m in HEALTHY}
        worst = max(HEALTHY, key=lambda model: excess[model])
        yield CAVEAT.format(model=worst, excess=excess[worst], margin=LIMITS.degenerate_excess)

    def _degenerate_excess(self, model: str) -> float:
        return self.recorded(model, "fp8_e4m3").samples["degenerate_excess"].interval().value

    def _power(self) -> Iterator[str]:
        yield POWER
        yield _table("candidate", "delta NLL", "KLD", "same-top loss", *(f"{n} prompts" for n in PROMPTS))
        for model, dtype in (
            *((m, "fp8_e5m2") for m in HEALTHY),
            *((m, d) for d in DTYPES for m in FRAGILE),
        ):
            recorded = self.recorded(model, dtype)
            yield _row(f"{model} {dtype}", *_harms(recorded), *(self.tally(recorded, n) for n in PROMPTS))
        yield ""

    def _lengths(self) -> Iterator[str]:
        yield LENGTHS
        yield _table("candidate", *(f"{t} tokens" for t in TOKENS), *(f"{t}, 16 prompts" for t in TOKENS))
        for model in (*HEALTHY, *FRAGILE):
            cells = [
                self.tally(self.recorded(model, "fp8_e4m3", tokens), n) for n in (32, 16) for tokens in TOKENS
            ]
            yield _row(f"{model} fp8_e4m3", *cells)
        yield ""

    def _effects(self) -> Iterator[str]:
        yield EFFECTS
        yield _table(
            "towards", "prompts", "found in 50 % at: delta NLL", "KLD", "in 95 % at: delta NLL", "KLD"
        )
        healthy = self.recorded("gqa", "fp8_e4m3")
        for model, dtype in (
            ("gqa-kbias-64", "fp8_e4m3"),
            ("gqa-kbias", "fp8_e4m3"),
            ("mha-rotated", "fp8_e5m2"),
        ):
            worse = self.recorded(model, dtype)
            mixed = [_mixed(healthy, worse, step) for step in STEPS]
            for n in PROMPTS:
                power = [self.tally(each, n).power for each in mixed]
                cells = [_crossing(mixed, power, level) for level in (0.5, 0.95)]
                yield _row(f"{model} {dtype}", n, *(cell for pair in cells for cell in pair))
        yield ""

    def _margins(self) -> Iterator[str]:
        yield MARGINS
        yield _table(
            "model", "used to choose", *(f"{d}, {half} half" for d in DTYPES for half in ("1st", "2nd"))
        )
        for model in (*HEALTHY, *FRAGILE):
            cells = []
            for dtype in DTYPES:
                kld = self.recorded(model, dtype).samples["kld"]
                assert isinstance(kld, Means)
                cells += [f"{kld.values[half::2].mean():.3f}" for half in (0, 1)]
            yield _row(model, "yes" if model in TUNED_ON else "", *cells)

    def tally(self, recorded: Recorded, prompts: int, *, replacement: bool = True) -> Tally:
        """Judge draws of ``prompts`` plain prompts and half as many penalised ones."""
        rng = np.random.default_rng([prompts, replacement])
        kinds = []
        for _ in range(self.draws):
            plain = rng.choice(recorded.plain, prompts, replace=replacement)
            penalised = rng.choice(recorded.penalised, prompts // 2, replace=replacement)
            kinds.append(recorded.verdict(plain, penalised))
        return Tally(
            self.draws,
            kinds.count(VerdictKind.FAIL),
            kinds.count(VerdictKind.INCONCLUSIVE),
            kinds.count(None),
        )

    def recorded(self, model: str, dtype: str, tokens: int = TOKENS[-1]) -> Recorded:
        key = (model, dtype, tokens)
        if key not in self.known:
            self.known[key] = self._read(model, dtype, tokens)
        return self.known[key]

    def _read(self, model: str, dtype: str, tokens: int) -> Recorded:
        evidence = self._evidence_of(model, dtype, tokens)
        faults = find_faults(evidence)
        samples = {**primary_samples(compare_all(evidence)), **secondary_samples(faults, evidence)}
        plain, penalised = (len(each.candidate) for each in evidence)
        return Recorded(samples, faults, plain, penalised)

    def _evidence_of(self, model: str, dtype: str, tokens: int) -> list[Evidence]:
        return [self._evidence(name, model, dtype, tokens) for name in ("smoke", "smoke-penalised")]

    def _evidence(self, name: str, model: str, dtype: str, tokens: int) -> Evidence:
        prompts = load_prompt_set(name)
        theirs, ours = EngineSpec(f"ref:{model}", "auto"), EngineSpec(f"ref:{model}", dtype)
        outputs = [self.store.outputs(spec, prompts) for spec in (theirs, ours)]
        scores = [self.store.scores(spec, prompts, theirs) for spec in (theirs, ours)]
        if None in outputs or (not prompts.sampling.penalised and None in scores):
            raise SystemExit(f"{self.store.root} holds no outputs and scores of ref:{model} under {dtype}")
        baseline, candidate = (_shortened(each, tokens) for each in outputs if each)
        cut = [_shortened_scores(each, tokens) if each else None for each in scores]
        return Evidence(prompts, baseline, as_probed(candidate), *cut)


def _size(sample: Sample) -> int:
    assert isinstance(sample, Means | Differences)
    return sample.values.size


def _rows(sample: Sample, rows: Draw) -> Sample:
    if isinstance(sample, Means):
        return Means(sample.values[rows])
    assert isinstance(sample, Differences)
    return Differences(sample.values[rows])


def _harms(recorded: Recorded) -> list[str]:
    return [
        f"{recorded.samples[name].interval().value:.3f}" for name in ("delta_nll", "kld", "same_top_loss")
    ]


def _mixed(healthy: Recorded, worse: Recorded, step: float) -> Recorded:
    """Move what is scored of each prompt a part of the way from one candidate to another."""
    samples: dict[str, Sample] = dict(healthy.samples)
    for name in ("delta_nll", "kld", "same_top_loss"):
        one, other = healthy.samples[name], worse.samples[name]
        assert isinstance(one, Means)
        assert isinstance(other, Means)
        samples[name] = Means((1 - step) * one.values + step * other.values)
    return replace(healthy, samples=samples)


def _crossing(mixed: Sequence[Recorded], power: Sequence[float], level: float) -> tuple[str, str]:
    """Return delta NLL and KLD where the power first reaches a level, between the steps."""
    at = next((i for i, value in enumerate(power) if value >= level), None)
    if at is None:
        delta, kld = _harm_of(mixed[-1])
        return (f"> {delta:.3f}", f"> {kld:.3f}")
    share = 0.0 if at == 0 else (power[at] - level) / (power[at] - power[at - 1])
    before, after = _harm_of(mixed[max(0, at - 1)]), _harm_of(mixed[at])
    delta, kld = ((1 - share) * b + share * a for a, b in zip(before, after, strict=True))
    return (f"{delta:.3f}", f"{kld:.3f}")


def _harm_of(recorded: Recorded) -> tuple[float, float]:
    return recorded.samples["delta_nll"].interval().value, recorded.samples["kld"].interval().value


def _shortened(outputs: OutputSet, tokens: int) -> OutputSet:
    def cut(output: Output) -> Output:
        n = len(output.token_ids)
        if n <= tokens:
            return output
        text = output.text[: round(len(output.text) * tokens / n)]
        return replace(output, token_ids=output.token_ids[:tokens], text=text, finish_reason="length")

    return replace(outputs, outputs=tuple(map(cut, outputs)))


def _shortened_scores(scores: ScoreSet, tokens: int) -> ScoreSet:
    return replace(scores, scores=tuple(score.first(tokens) for score in scores.scores))


def _table(*header: object) -> str:
    return f"{_row(*header)}\n{'| --- ' * len(header)}|"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


INTRODUCTION = """\
# How often the gate errs

Written by `python benchmarks/decisions.py --run RUN --out docs/decisions.md` from recorded outputs and
scores of the reference models (sets `smoke`, 32 prompts, and `smoke-penalised`, 16; at most 160 tokens;
vLLM 0.32.0 on CPU). Each cell judges {draws} runs made of prompts drawn with replacement, and half as many
penalised ones, by the whole procedure of [the policy](policy.md#how-a-verdict-is-reached) under the default
limits, but without its minimum of evidence, so that small runs show as well. Cells are per cent of runs that
**fail / are inconclusive**; the rest pass.

What this cannot tell: draws repeat prompts, so they say how verdicts vary with prompts like these, not with
prompts of another sort. Where texts are cut to fewer tokens, their characters are cut in proportion. The
4-bit models stand in the first table alone: most of their baselines loop in more than half of their outputs,
which voids every comparison (`baseline-degenerate`); draws of the others to which that happens by chance are
no part of the cells either. The recording is older than the noise floor and the proof that scoring reads
the cache, which are no part of these decisions; they are part of those on [engines run anew](reruns.md).
"""

VERDICTS = """\
## Every reference model under either dtype

The verdict on all prompts under the default limits, with 95 % intervals.
"""

FALSE_ALARMS = """\
## Healthy models: false alarms
"""

CAVEAT = """\
Draws vary around what was recorded: `{model}` degenerates in {excess:.0%} more of the 32 prompts than its
baseline, beside a margin of {margin:.0%}, so its failures are hardly false. With few prompts, what is
inconclusive is an interval of delta NLL or same-top that still reaches over the margin; with many, an excess
of loops beyond it.
"""

POWER = """\
## Harmed models: what is found, by the number of prompts

The first three are healthy models under e5m2, whose rounding costs about as much as the margins allow, or
more. The figures are those of all 32 prompts.
"""

LENGTHS = """\
## By the length of the texts

With 32 prompts, and with 16.
"""

EFFECTS = """\
## Where detection begins

What is scored of each prompt is moved in 40 steps from `gqa` under fp8_e4m3 to a harmed candidate; outputs
stay the healthy ones. The harm at which half, or 95 %, of the runs fail:
"""

MARGINS = """\
## How the margin of KLD was chosen

Mean KLD in nats (a lower bound, k = 20), on every other prompt. The margin of 0.05 follows from the first
halves of the four models marked, under fp8_e4m3, alone: the geometric mean of the worst healthy figure and
the mildest harmed one, rounded. All other figures took no part in the rule, and none of fp8_e4m3 lies on the
other side; but they were known when it was set down, so they confirm it less than unseen ones would.
"""


if __name__ == "__main__":
    sys.exit(main())
