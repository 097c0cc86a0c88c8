"""Goldens: whether what an engine writes now is still what it, or its baseline, once wrote.

There are three ways to match, each with all that the next one asks for:

``exact``
    token by token. That counts only where the engines are alike in all that can change an output; where they
    are not, ``divergence`` decides.
``divergence``
    the engine's log-probabilities of the golden's texts lie within the limits, as for a verdict. Sets that
    are not scored (penalised ones and tasks) are held to ``safe`` alone.
``safe``
    no more degenerate or empty outputs than in the golden, no more repetition under penalties, and no fewer
    right answers, beyond the limits. The golden itself is held to what a baseline is held to: its share of
    degenerate outputs, and of right answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from pathlib import Path
from typing import Literal, get_args

from pytest_kvcache.assertions.arguments import check_enough, check_enough_texts, misuse_of, read_sets
from pytest_kvcache.endpoints import (
    Comparisons,
    Endpoint,
    baseline_answers,
    baseline_endpoints,
    compare_all,
    judge_endpoints,
    not_finite,
    primary_samples,
    secondary_samples,
)
from pytest_kvcache.errors import GoldenMismatchError
from pytest_kvcache.evidence import Evidence, Faults, find_faults, wrong_answers
from pytest_kvcache.golden import name_of
from pytest_kvcache.golden_diff import (
    PRIMARY,
    differences,
    differing,
    pairs_of,
    told_provenance,
)
from pytest_kvcache.measures.views import kind_of
from pytest_kvcache.plan import is_scored
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import (
    Golden,
    OutputSet,
    PlannedGoldens,
    PlannedOutputs,
    Reason,
    ReasonCode,
    ScoreSet,
)
from pytest_kvcache.text import listed, printable

Match = Literal["exact", "divergence", "safe"]

DEFAULTS = Limits()
NOT_SAFE = (
    "degenerate_excess",
    "degenerate_excess_penalised",
    "empty_excess",
    "recall_loss",
    "penalised_repetition_excess",
)


def assert_matches_golden(
    output: OutputSet | PlannedOutputs,
    golden: Golden | PlannedGoldens,
    *,
    match: Match = "divergence",
    limits: Limits = DEFAULTS,
    scores: ScoreSet | None = None,
) -> None:
    """Fail unless outputs match the goldens of their prompt sets, as exactly as ``match`` asks for.

    ``golden`` is what the fixture ``kv_golden`` gives, or one golden with ``scores``: what the engine
    under test gives the golden's texts, needed wherever divergence decides. Outputs that are equal to a sound
    golden's, from an engine that is alike, match in any way. Else the 95 % intervals over all sets together
    must lie within ``limits``, as for a verdict; what is undecided does not match. The message shows how many
    outputs differ, the figures, at most three prompts where they part, and the files to accept it in; in a
    test of the plugin's, pytest adds the command.

    Raises :class:`~pytest_kvcache.errors.QualityError` also where nothing can be compared: another model,
    other tokens of a prompt, a golden without log-probabilities. Raises
    :class:`~pytest_kvcache.errors.UsageError` for outputs without their golden, for fewer than two, and for
    arguments of other types.
    """
    __tracebackhide__ = True
    with misuse_of("assert_matches_golden"):
        _check_arguments(golden, match, limits, scores)
        cases = _cases(read_sets(output, "output"), golden, scores)
        for case in cases:
            _check_same_question(case)
        open_cases = [case for case in cases if not case.is_settled]
        mismatched = [case for case in open_cases if match == "exact" and case.is_alike]
        decided = [case for case in open_cases if match != "safe" and case not in mismatched]
        for case in decided:
            _check_scored(case)
        endpoints, reasons = _held_against(cases, match, limits)
        if not (mismatched or reasons):
            _check_evidence(open_cases, endpoints, needs_scores=any(case.is_scored for case in decided))
            return
    is_unsound = any(reason.code == ReasonCode.BASELINE_DEGENERATE for reason in reasons)
    shown = cases if is_unsound else open_cases
    told = differences([case.evidence for case in shown], endpoints, reasons)
    codes = () if mismatched else tuple(dict.fromkeys(reason.code for reason in reasons))
    raise GoldenMismatchError(f"{told}\n{_what_to_do(shown, is_unsound=is_unsound)}", codes)


@dataclass(frozen=True, slots=True)
class _Case:
    """One prompt set: what was written now, beside its golden."""

    golden: Golden
    evidence: Evidence

    @property
    def name(self) -> str:
        return printable(self.golden.prompt_set.name)

    @property
    def is_scored(self) -> bool:
        return is_scored(self.golden.prompt_set)

    @property
    def made_otherwise(self) -> str:
        """What can change an output and differs; nothing if the engines are alike in all of it."""
        return told_provenance(self.evidence.baseline, self.evidence.candidate)

    @property
    def is_alike(self) -> bool:
        return not self.made_otherwise

    @property
    def is_settled(self) -> bool:
        return self.is_alike and not differing(self.evidence)


def _cases(
    sets: Sequence[OutputSet], golden: Golden | PlannedGoldens, scores: ScoreSet | None
) -> list[_Case]:
    """Pair each prompt set's outputs with its golden. Raises ValueError where that cannot be done."""
    if not any(sets):
        raise ValueError("output holds no outputs")
    if isinstance(golden, PlannedGoldens):
        goldens = list(zip(golden.goldens, golden.scores, strict=True))
    else:
        goldens = [(golden, scores)]
    return [_case(each, goldens) for each in sets]


def _case(outputs: OutputSet, goldens: Sequence[tuple[Golden, ScoreSet | None]]) -> _Case:
    wanted = outputs.prompt_set
    namesakes = [pair for pair in goldens if pair[0].prompt_set.name == wanted.name]
    if not namesakes:
        given = listed(each.prompt_set.name for each, _ in goldens) or "nothing"
        raise ValueError(f"no golden of the prompt set {printable(wanted.name)} was given, but of {given}")
    golden, scores = next((pair for pair in namesakes if pair[0].prompt_set.key == wanted.key), namesakes[0])
    _check_scorer(outputs, golden, scores)
    case = _Case(golden, Evidence(wanted, golden.outputs, outputs, golden.scores, scores))
    if golden.prompt_set.key != wanted.key:
        raise ValueError(
            f"the golden of {case.name} is of other prompts or another sampling than the outputs: refresh it "
            "(pytest --kv-golden-update=all)"
        )
    try:
        pairs_of(case.evidence)
    except ValueError as error:
        raise ValueError(f"outputs and golden of {case.name} cannot be paired: {error}") from None
    return case


def _check_scorer(outputs: OutputSet, golden: Golden, scores: ScoreSet | None) -> None:
    """Raise ValueError unless the engine of the outputs gave these scores, and to the golden's texts."""
    if scores is None:
        return
    name, ours = printable(golden.prompt_set.name), outputs.spec
    if scores.spec != ours:
        by = "the golden's own engine" if scores.spec == golden.outputs.spec else "another engine"
        raise ValueError(
            f"the scores of {name} are by {by}, not by the one that wrote the outputs: give what that engine "
            "gives the golden's texts (the fixture kv_golden brings it)"
        )
    writers = (golden.outputs.spec, replace(ours, golden=golden.variant))
    if scores.text_of not in [writer.key for writer in writers]:
        raise ValueError(
            f"the scores of {name} are of another engine's texts: give what the engine of the outputs gives "
            "the golden's texts (the fixture kv_golden brings it)"
        )


def _check_arguments(golden: object, match: object, limits: object, scores: object) -> None:
    wanted = (
        ("golden", golden, Golden | PlannedGoldens, "a Golden or planned goldens"),
        ("limits", limits, Limits, "Limits"),
        ("scores", scores, ScoreSet | None, "a ScoreSet"),
    )
    for name, value, kinds, told in wanted:
        if not isinstance(value, kinds):
            raise ValueError(f"{name} takes {told}, not {kind_of(value)}")
    if match not in get_args(Match):
        raise ValueError(f"match is one of {', '.join(get_args(Match))}, not {printable(repr(match), 40)}")
    if scores is not None and isinstance(golden, PlannedGoldens):
        raise ValueError("leave scores out: planned goldens bring their own")


def _check_same_question(case: _Case) -> None:
    """Raise QualityError if the engine is of another model, or read other tokens, than the golden's."""
    ours, theirs = case.evidence.candidate.provenance, case.evidence.baseline.provenance
    if ours.model_id != theirs.model_id:
        raise _incomparable(
            case,
            f"is of another model ({printable(theirs.model_id)}, now {printable(ours.model_id)})",
            "pin the revision, or refresh the golden",
        )
    changed = [pair.prompt.id for pair in pairs_of(case.evidence) if pair.asked_otherwise]
    if changed:
        raise _incomparable(
            case,
            f"was asked otherwise: the tokens of {len(changed)} prompts changed ({listed(changed)})",
            "look for a new tokenizer, or a chat template that holds the date; then refresh the golden",
        )


def _check_scored(case: _Case) -> None:
    """Raise an error if divergence is to decide, and log-probabilities are not there."""
    if not case.is_scored:
        return
    if case.golden.scores is None:
        made = f" and was made otherwise ({case.made_otherwise})" if case.made_otherwise else ""
        raise _incomparable(
            case,
            f"holds no log-probabilities{made}",
            'refresh it with them (pytest --kv-golden-update=all), or use match="safe"',
            ReasonCode.TOO_LITTLE_EVIDENCE,
        )
    if case.evidence.candidate_scores is None:
        raise ValueError(
            f"the outputs of {case.name} are not the golden's, so give scores: what this engine gives the "
            "golden's texts (the fixture kv_golden brings them)"
        )


def _incomparable(
    case: _Case, what: str, advice: str, code: ReasonCode = ReasonCode.MODEL_CHANGED
) -> GoldenMismatchError:
    return GoldenMismatchError(
        f"{case.name}: the golden {what}, so nothing can be compared: {advice}", (code,)
    )


def _held_against(
    cases: Sequence[_Case], match: Match, limits: Limits
) -> tuple[list[Endpoint], list[Reason]]:
    """Judge all sets together. Return the figures, and what speaks against a match.

    What is settled says nothing more of the engine, and still of the golden: equal nonsense is no match.
    """
    faults = [find_faults([case.evidence]) for case in cases]
    still_open = [not case.is_settled for case in cases]
    evidence = [case.evidence for case in compress(cases, still_open)]
    comparisons: Comparisons = compare_all(evidence)
    if match == "safe":
        comparisons = {}
    secondary = secondary_samples(_flat(compress(faults, still_open)), evidence)
    samples = primary_samples(comparisons) | {name: secondary[name] for name in NOT_SAFE if name in secondary}
    endpoints = [
        *baseline_endpoints(_flat(faults), limits),
        *baseline_answers(wrong_answers([case.evidence for case in cases]), limits),
        *judge_endpoints(samples, limits),
    ]
    against = [endpoint.reason for endpoint in endpoints if endpoint.reason]
    return endpoints, [*not_finite(comparisons), *against]


def _flat(faults: Iterable[list[Faults]]) -> list[Faults]:
    return list(chain.from_iterable(faults))


def _check_evidence(cases: Sequence[_Case], endpoints: Sequence[Endpoint], *, needs_scores: bool) -> None:
    """Raise ValueError where a match would rest on less than two outputs or two scored texts."""
    if cases:
        check_enough(sum(len(case.evidence.candidate) for case in cases))
    if needs_scores:
        check_enough_texts(max((each.metric.n for each in endpoints if each.name in PRIMARY), default=0))


def _what_to_do(cases: Sequence[_Case], *, is_unsound: bool) -> str:
    """Name the goldens, each by its file in the golden directory, and say what may be done with them."""
    files = listed(name_of(case.golden).path(Path()).as_posix() for case in cases)
    if is_unsound:
        return f"no output can match a golden that is no good, and only a better one can replace it: {files}"
    return f"to accept what it writes now, write anew: {files}"
