"""What differs from a golden, so that an engineer grasps it in a minute. Pure.

Three questions are answered here: what refreshing a golden would change (:func:`compare_goldens`), in what
outputs differ from the golden that they are held against (:func:`differences`), and whether a golden may be
trusted at all (:func:`refusals`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from pytest_kvcache.endpoints import Endpoint, baseline_answers, baseline_endpoints
from pytest_kvcache.evidence import Evidence, Faults, wrong_answers
from pytest_kvcache.findings import (
    SHOWN,
    Pair,
    Standing,
    failures,
    median_parting,
    show_difference,
)
from pytest_kvcache.golden import name_of, prompt_changes, provenance_as_kept
from pytest_kvcache.golden_scores import compare_golden_scores
from pytest_kvcache.measures.divergence import divergence
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import (
    EngineSpec,
    Golden,
    OutputSet,
    PromptSet,
    Provenance,
    Reason,
    Sampling,
    Score,
)
from pytest_kvcache.redact import redact_spec
from pytest_kvcache.text import listed, printable

ChangeKind = Literal["new", "unchanged", "provenance", "prompts", "text", "scores"]

DEFAULTS = Limits()
PRIMARY = ("delta_nll", "kld", "same_top_loss")
NAMED = 8
"""Outputs that a line names, unless it is of all."""
FACTS = 6
"""Facts of a provenance that a line tells of."""
LONGEST_FACT = 60

_HARMLESS = frozenset(
    {
        "asked_kv_dtype",
        "model",
        "scoring",
        "scoring_difference",
        "versions.python",
        "versions.pytest_kvcache",
    }
)
"""What changes no output: names, how texts are scored, who asks, and for what if it resolved alike."""
_MAY_BE_UNKNOWN = frozenset(
    {"enforce_eager", "chunked_prefill", "checkpoint_scales", "scales_differ", "preemptions"}
)
"""What not every engine tells, and no golden of schema 1: what one side does not know is no difference."""

_BY_KV_DTYPE = frozenset(
    {"kv_cache_dtype", "kv_cache_quantized", "kv_scales", "checkpoint_scales", "scales_differ"}
)
"""What a kv dtype itself changes."""


@dataclass(frozen=True, slots=True)
class GoldenChange:
    """What writing a golden anew would change."""

    name: str
    kind: ChangeKind
    """The gravest of what changed: prompts, then texts, log-probabilities, and provenance alone."""
    lines: tuple[str, ...]
    """For people; the first one is a headline. Harmless to print."""
    worse: bool
    """Whether, on the prompts that both hold, more outputs are degenerate, more repeat themselves under
    penalties, fewer answers are right, or delta NLL or KLD lies beyond its limit with the whole interval."""


def compare_goldens(old: Golden | None, new: Golden, limits: Limits = DEFAULTS) -> GoldenChange:
    """Return what changes where ``new`` takes the place of ``old``, which is None if there was none."""
    name = str(name_of(new))
    if old is None:
        standing = Standing.of(_stayed(new, new), "new")
        return GoldenChange(name, "new", (f"{name}: new, {standing.told()}",), worse=False)
    stayed = _stayed(old, new)
    judged = stayed if any(pair.differs for pair in stayed) else []
    before, after = Standing.of(judged, "old"), Standing.of(judged, "new")
    scores = compare_golden_scores(old, new, stayed, limits)
    found: dict[ChangeKind, Sequence[str]] = {
        "prompts": [
            *_changes_of_prompts(old.prompt_set, new.prompt_set),
            *_outputs_without_old(stayed, new),
            *_changes_of_tokens(stayed),
        ],
        "text": _changes_of_text(stayed, before, after),
        "scores": scores.lines,
        "provenance": _changes_of_provenance(old.outputs, new.outputs),
    }
    kind: ChangeKind = next((kind for kind, lines in found.items() if lines), "unchanged")
    worse = after.is_worse_than(before) or scores.worse
    headline = f"{name}: {_HEADLINES[kind]}{', and it got worse' * worse}"
    lines = [headline, *(f"  {line}" for told in found.values() for line in told)]
    return GoldenChange(name, kind, tuple(map(printable, lines)), worse)


def pairs_of(evidence: Evidence) -> list[Pair]:
    """Pair the outputs for each prompt, the golden's being the baseline's.

    Raises ValueError if they are not of the same prompts.
    """
    of = evidence.prompt_set
    return [
        Pair(f"{of.name}/{prompt.id}", prompt, of.is_tasks, of.sampling.penalised, theirs, ours)
        for prompt, ours, theirs in evidence.pairs()
    ]


def differing(evidence: Evidence) -> list[Pair]:
    """Return the pairs of outputs, golden's and candidate's, in which anything that was written differs."""
    return [pair for pair in pairs_of(evidence) if pair.differs]


def differences(
    evidence: Sequence[Evidence], endpoints: Sequence[Endpoint] = (), reasons: Sequence[Reason] = ()
) -> str:
    """Return in a few lines how outputs differ from the goldens that are the evidence's baselines.

    How many do, and in what the provenance differs; the ``reasons``, and the figures of the primary
    ``endpoints`` that have none; at most three prompts, the worst first, at the place where they part.
    """
    pairs = [pair for each in evidence for pair in pairs_of(each)]
    parted = [pair for pair in pairs if pair.differs]
    told = Standing.of(pairs, "new").told(Standing.of(pairs, "old"))
    lines = [
        _headline(evidence),
        *(f"  {reason.message}" for reason in reasons),
        *_fine_figures(endpoints),
        f"  {'; '.join(filter(None, (told, median_parting(parted))))}",
    ]
    harm = _harm(evidence)
    ranked = sorted(parted, key=lambda pair: (bool(pair.flaws()), harm.get(pair.name, 0.0)), reverse=True)
    shown = [line for pair in ranked[:SHOWN] for line in show_difference(pair, ("golden", "now"))]
    return "\n".join([*map(printable, lines), *shown])


def same_provenance(a: OutputSet, b: OutputSet) -> tuple[str, ...]:
    """Return the names of what differs among all that can change an output; none if all is the same.

    Engine arguments, versions and environment variables are named one by one: ``versions.vllm``.
    """
    ours, theirs = _facts(a), _facts(b)
    return tuple(name for name in _differing(ours, theirs) if name not in _HARMLESS)


def told_provenance(old: OutputSet, new: OutputSet) -> str:
    """Return in half a line what can change an output and differs, old -> new; nothing if nothing does."""
    return _told(_facts(old), _facts(new), same_provenance(old, new))


def told_surroundings(golden: OutputSet, candidate: OutputSet) -> str:
    """Return in half a line where a golden was made and a candidate was not, golden -> candidate.

    That is what can change an output, but for what engines are asked for, what a kv dtype itself changes,
    and what either side does not tell. Nothing if nothing is left.
    """
    old, new = _facts(golden), _facts(candidate)
    asked = {*_asked(golden.spec), *_asked(candidate.spec)}
    names = [
        name
        for name in same_provenance(golden, candidate)
        if name not in _BY_KV_DTYPE | asked and "None" not in (old.get(name), new.get(name))
    ]
    return _told(old, new, names)


def told_arguments(old: EngineSpec, new: EngineSpec) -> str:
    """Return in half a line in which engine arguments, or revision, two engines differ, old -> new."""
    before, after = _asked(old), _asked(new)
    return _told(before, after, [name for name in _differing(before, after) if name not in _HARMLESS])


def refusals(golden: Golden, limits: Limits, is_baseline: bool) -> str | None:
    """Return in one line why a golden cannot be trusted to hold others against; None if it can.

    Quantized, where it is a baseline; empty; degenerate, or of too few right answers, beyond the limits that
    hold for a baseline that runs; or with log-probabilities that are not finite.
    """
    why = next(_refusals(golden, limits, is_baseline), None)
    return None if why is None else printable(f"{name_of(golden)}: {why}")


# Pairs of outputs


def _stayed(old: Golden, new: Golden) -> list[Pair]:
    """Pair the outputs for the prompts that both goldens hold, in the new one's order."""
    prompts = {prompt.id: prompt for prompt in old.prompt_set.prompts}
    before, after = ({each.prompt_id: each for each in golden.outputs} for golden in (old, new))
    kind = new.prompt_set.is_tasks, new.prompt_set.sampling.penalised
    return [
        Pair(prompt.id, prompt, *kind, before[prompt.id], after[prompt.id])
        for prompt in new.prompt_set.prompts
        if prompts.get(prompt.id) == prompt
    ]


# Changes of a golden

_HEADLINES: Mapping[ChangeKind, str] = {
    "unchanged": "unchanged",
    "provenance": "the same, made otherwise",
    "scores": "the same texts, other log-probabilities",
    "text": "other texts",
    "prompts": "other prompts",
}


def _changes_of_prompts(old: PromptSet, new: PromptSet) -> list[str]:
    lines = [f"prompts {what}: {listed(names)}" for what, names in prompt_changes(old, new).items()]
    if not lines and old.prompts != new.prompts:
        lines.append("the order of the prompts changed, and with it what shares a batch")
    if old.sampling != new.sampling:
        lines.append(f"sampling: {_told(_plain(old.sampling), _plain(new.sampling))}")
    return lines


def _outputs_without_old(stayed: Sequence[Pair], new: Golden) -> list[str]:
    """Say how outputs for prompts stand that the old golden does not hold, or holds otherwise."""
    known = {pair.prompt.id for pair in stayed}
    fresh = [pair for pair in _stayed(new, new) if pair.prompt.id not in known]
    if not fresh:
        return []
    return [f"without an old output beside them: {Standing.of(fresh, 'new').told()}"]


def _changes_of_tokens(pairs: Sequence[Pair]) -> list[str]:
    changed = [pair.name for pair in pairs if pair.asked_otherwise]
    if not changed:
        return []
    return [f"tokens of prompts changed (tokenizer or chat template): {listed(changed)}"]


def _changes_of_text(stayed: Sequence[Pair], before: Standing, after: Standing) -> list[str]:
    pairs = [pair for pair in stayed if pair.differs]
    if not pairs:
        return []
    which = f": {listed((pair.name for pair in pairs), NAMED)}" if len(pairs) < len(stayed) else ""
    return [
        f"{len(pairs)} of {len(stayed)} outputs{which}",
        "; ".join(filter(None, (after.told(before), median_parting(pairs)))),
        *(line for pair in pairs[:SHOWN] for line in show_difference(pair, ("old", "new"))),
    ]


def _changes_of_provenance(old: OutputSet, new: OutputSet) -> list[str]:
    told = _told(_facts(old), _facts(new))
    return [f"provenance: {told}"] if told else []


def _asked(spec: EngineSpec) -> dict[str, str]:
    spec = redact_spec(spec)
    arguments = {f"engine_args.{name}": json.dumps(value) for name, value in spec.arguments().items()}
    return {"revision": str(spec.revision), "asked_kv_dtype": spec.kv_cache_dtype, **arguments}


# Facts of a provenance


def _facts(of: OutputSet) -> dict[str, str]:
    """Return all facts that a golden keeps, as text, each under a name of its own."""
    provenance = provenance_as_kept(of.provenance)
    facts = _asked(of.spec) | _plain(provenance)
    for table in ("versions", "environment"):
        del facts[table]
        facts |= {f"{table}.{name}": value for name, value in getattr(provenance, table)}
    del facts["cpu_flags"]
    facts |= {f"cpu_flags.{flag}": "yes" for flag in provenance.cpu_flags}
    facts["preemptions"] = str(of.counts.preemptions)
    if provenance.checkpoint_scales is not None and provenance.scales_differ is None:
        facts["scales_differ"] = "nowhere"
    return {name: value for name, value in facts.items() if name not in _MAY_BE_UNKNOWN or value != "None"}


def _plain(record: Provenance | Sampling) -> dict[str, str]:
    return {field.name: str(getattr(record, field.name)) for field in fields(record)}


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    return [name for name in names if name not in _MAY_BE_UNKNOWN or (name in old and name in new)]


def _told(old: Mapping[str, str], new: Mapping[str, str], names: Sequence[str] | None = None) -> str:
    """Return what differs, old -> new; of many facts the first few."""
    if names is None:
        names = _differing(old, new)
    told = [f"{_plainly(name)} {_fact(old, name)} -> {_fact(new, name)}" for name in names]
    return listed(told, FACTS)


def _plainly(name: str) -> str:
    return printable(name.removeprefix("versions.").removeprefix("environment."), LONGEST_FACT)


def _fact(facts: Mapping[str, str], name: str) -> str:
    return printable(facts[name], LONGEST_FACT) if name in facts else "none"


# Differences of outputs from goldens


def _headline(evidence: Sequence[Evidence]) -> str:
    counts = [
        f"{len(differing(each))} of {len(each.candidate)} of {each.prompt_set.name}" for each in evidence
    ]
    made = {told_provenance(each.baseline, each.candidate) for each in evidence} - {""}
    otherwise = f"; made otherwise: {'; '.join(sorted(made))}" if made else ""
    return f"outputs that differ from the golden: {', '.join(counts)}{otherwise}"


def _fine_figures(endpoints: Sequence[Endpoint]) -> list[str]:
    told = [
        f"{each.name} {each.metric.value:.3f} [{each.metric.ci_low:.3f}, {each.metric.ci_high:.3f}] "
        f"(margin {each.metric.margin:.3f})"
        for each in endpoints
        if each.name in PRIMARY and not each.reason
    ]
    return [f"  within the limits: {', '.join(told)}"] if told else []


def _harm(evidence: Sequence[Evidence]) -> dict[str, float]:
    """Return by how much each text of a golden is less probable now, where both scored it."""
    harm: dict[str, float] = {}
    for each in evidence:
        if each.baseline_scores and each.candidate_scores and not each.penalised:
            sides = (each.candidate_scores, each.baseline_scores)
            found = divergence(*([score for score in side.scores if score.token_ids] for side in sides))
            harm |= {f"{each.prompt_set.name}/{text.prompt_id}": text.delta_nll for text in found.texts}
    return harm


# Whether a golden can be trusted


def _refusals(golden: Golden, limits: Limits, is_baseline: bool) -> Iterator[str]:
    provenance, outputs = golden.outputs.provenance, golden.outputs.outputs
    if is_baseline and provenance.kv_cache_quantized:
        yield (
            f"its own cache is quantized ({provenance.kv_cache_dtype}), so it is no baseline: make one with "
            "bfloat16, and use --kv-baseline=golden:bfloat16"
        )
    if not any(output.text.strip() for output in outputs):
        yield "there is no text in it: look at what the engine writes before making a golden of it"
    for endpoint in baseline_endpoints(_faults(golden), limits):
        if endpoint.reason:
            metric = endpoint.metric
            yield (
                f"{metric.value:.0%} of its {metric.n} outputs are degenerate, above the limit "
                f"{metric.margin:.0%} ({endpoint.name}): nothing can be held against it"
            )
    itself = Evidence(golden.prompt_set, golden.outputs, golden.outputs)
    for endpoint in baseline_answers(wrong_answers([itself]), limits):
        if endpoint.reason:
            metric = endpoint.metric
            yield (
                f"{metric.value:.0%} of its {metric.n} answers are right, below the limit "
                f"{metric.margin:.0%} ({endpoint.name}): nothing can be lost of them; give tasks that the "
                "model can do, leave them out, or lower that limit for the model in the policy"
            )
    sick = sum(
        _has_non_finite(score) for each in (golden.scores, golden.floor) if each for score in each.scores
    )
    if sick:
        yield f"log-probabilities of {sick} texts are not finite: nothing can be held against it"


def _faults(golden: Golden) -> list[Faults]:
    """Return what is wrong with a golden's outputs, in the place of a baseline's; nothing of tasks."""
    neither = (False, False)
    penalised = golden.prompt_set.sampling.penalised
    return [
        Faults(penalised, (False, bool(failures(pair.new, pair.prompt))), neither, neither, neither)
        for pair in _stayed(golden, golden)
        if not pair.is_task
    ]


def _has_non_finite(score: Score) -> bool:
    return not all(
        np.isfinite(np.frombuffer(array, "<f4")).all() for array in (score.logprobs, score.top_logprobs)
    )
