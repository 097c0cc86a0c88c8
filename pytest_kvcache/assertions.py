"""Assertions for a team's own tests. They raise :class:`~pytest_kvcache.errors.QualityError`.

Those about outputs take one (an ``Output``, a text, or token ids) or many (an ``OutputSet``, the planned
outputs of a test, or outputs or texts one after the other, each output of another prompt). A message names
every output that failed, shows the first three, and holds no control characters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from pytest_kvcache.endpoints import LEAST_FOR_AN_INTERVAL, reason_against
from pytest_kvcache.errors import QualityError, UsageError
from pytest_kvcache.measures.degeneration import find_degeneration
from pytest_kvcache.measures.divergence import Divergence, ScoreComparison, Scores, divergence
from pytest_kvcache.measures.noninferiority import Means, judge
from pytest_kvcache.measures.paired import mean_interval, paired_difference_interval
from pytest_kvcache.measures.penalties import repetition_excess
from pytest_kvcache.measures.recall import is_right
from pytest_kvcache.measures.repetition import ngram_repetition
from pytest_kvcache.measures.views import Outputlike, Promptlike, view_output
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Output, OutputSet, PlannedOutputs, Prompt, ReasonCode, Signal
from pytest_kvcache.text import printable

Outputs = Outputlike | OutputSet | PlannedOutputs | Iterable[Output] | Iterable[str]

DEFAULTS = Limits()
SHOWN = 3
NAMED = 20
BEFORE, AFTER = 20, 60
"""Characters of the output that are shown before and after the beginning of a finding."""


def assert_not_degenerate(
    output: Outputs, *, prompt: Promptlike | None = None, baseline: Outputs | None = None
) -> None:
    """Fail for outputs that loop, are stuck, or are empty.

    ``baseline`` holds what the baseline wrote for the same prompts; what it does as well is no
    finding. ``prompt`` is that of a single output; an ``OutputSet`` knows its own.
    """
    cases = _cases(output, prompt)
    beside = {} if baseline is None else {case.name: case.output for case in _cases(baseline)}
    if baseline is not None and beside.keys() != {case.name for case in cases}:
        raise UsageError("assert_not_degenerate: output and baseline are not of the same prompts")
    found = [(case, signal) for case in cases for signal in _failures(case, beside.get(case.name))[:1]]
    if found:
        codes = _codes(signal for _, signal in found)
        raise QualityError(_message("degenerate", _lines(found), len(cases)), tuple(sorted(codes)))


def assert_degeneration_within(output: Outputs, baseline: Outputs, *, margin: float = 0.10) -> None:
    """Fail if a larger share of outputs is degenerate than of the baseline's for the same prompts.

    The assertion for models that loop now and then by themselves. Fails if the paired difference of the
    two shares lies beyond ``margin`` (0 to 1) with its 95 % interval; empty outputs are judged likewise,
    by themselves. Few outputs prove nothing: at the default margin fewer than 5 cannot fail, of 16 it takes
    6, and of 32 it takes 8.
    Raises :class:`~pytest_kvcache.errors.UsageError` for fewer than two.
    """
    _check_margins("assert_degeneration_within", {"margin": margin})
    cases = _cases(output)
    ours = {case.name: _failures(case) for case in cases}
    theirs = {case.name: _failures(case) for case in _cases(baseline)}
    if ours.keys() != theirs.keys():
        raise UsageError("assert_degeneration_within: output and baseline are not of the same prompts")
    _check_enough("assert_degeneration_within", len(cases))
    beyond = []
    for code in (ReasonCode.DEGENERATE, ReasonCode.EMPTY):
        worse = [(c, ours[c.name][0]) for c in cases if code in _codes(ours[c.name]) - _codes(theirs[c.name])]
        better = sum(code in _codes(theirs[name]) - _codes(ours[name]) for name in ours)
        interval = paired_difference_interval(len(worse), better, len(cases))
        if interval.low > margin:
            beyond.append((code, worse, interval))
    if beyond:
        parts = [
            f"{code} outputs exceed the baseline's by {interval.value:.2f} [{interval.low:.2f}, "
            f"{interval.high:.2f}], beyond the margin {margin:.2f} ({interval.n} outputs)\n"
            + _message(f"{code} where the baseline's is not", _lines(worse), len(cases))
            for code, worse, interval in beyond
        ]
        raise QualityError("\n".join(parts), tuple(code for code, *_ in beyond))


def assert_no_ngram_repetition(output: Outputs, n: int = 4, *, limit: float = 0.6) -> None:
    """Fail for outputs of which more than ``limit`` (0 to 1) of all n-grams occurred before.

    Of 12,400 healthy passages of prose and manuals, 512 tokens each, 1.2 % are beyond the default; of
    code, JSON and HTML far more are.
    """
    if n < 1:
        raise UsageError(f"assert_no_ngram_repetition: n must be at least 1, not {n}")
    _check_margins("assert_no_ngram_repetition", {"limit": limit})
    cases = _cases(output)
    shares = [(case, ngram_repetition(case.output, n)) for case in cases]
    lines = [
        (case.name, f"{share:.2f} of all {n}-grams occurred before (limit {limit:.2f}){_end_of(case.output)}")
        for case, share in shares
        if share > limit
    ]
    if lines:
        raise QualityError(_message("repetitive", lines, len(cases)), (ReasonCode.REPETITION,))


def assert_penalties_effective(
    output: OutputSet | PlannedOutputs | Iterable[Output],
    baseline: OutputSet | PlannedOutputs | Iterable[Output],
    *,
    margin: float = 0.10,
) -> None:
    """Fail if penalties leave more repetition in the outputs than in the baseline's.

    Both are outputs for the same prompts under the same penalties; of planned outputs only the penalised
    sets count. Fails if the mean excess of 4-gram repetition (0 to 1) lies beyond ``margin`` with its
    95 % interval. Raises :class:`~pytest_kvcache.errors.UsageError` for outputs that were not penalised,
    and for fewer than two.
    """
    _check_margins("assert_penalties_effective", {"margin": margin})
    ours, theirs = _penalised(output), _penalised(baseline)
    if len(ours) != len(theirs):
        raise UsageError("assert_penalties_effective: output and baseline are not of the same prompt sets")
    try:
        excess = [value for pair in zip(ours, theirs, strict=True) for value in repetition_excess(*pair)]
    except ValueError as error:
        raise UsageError(f"assert_penalties_effective: {error}") from None
    _check_enough("assert_penalties_effective", len(excess))
    interval = mean_interval(excess)
    if interval.low > margin:
        raise QualityError(
            f"penalties do not keep it from repeating itself: 4-gram repetition exceeds the baseline's by "
            f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}], beyond the margin {margin:.2f} "
            f"({interval.n} outputs)",
            (ReasonCode.PENALTIES,),
        )


def assert_recall(
    output: OutputSet | PlannedOutputs,
    baseline: OutputSet | PlannedOutputs | None = None,
    *,
    loss: float = DEFAULTS.recall_loss,
    share: float | None = None,
) -> None:
    """Fail if fewer tasks have a right answer than under the baseline, or than a share of them.

    Outputs are of a prompt set whose prompts have answers; of planned outputs only such sets count. With a
    baseline it fails if the paired difference of the two shares of right answers lies beyond ``loss`` (0 to
    1) with its 95 % interval; ``share`` (0 to 1) is a plain limit. The message names the tasks whose right
    answers were lost. Raises :class:`~pytest_kvcache.errors.UsageError` for outputs without tasks, for
    neither a baseline nor a share, and for fewer than two tasks beside a baseline.
    """
    if baseline is None and share is None:
        raise UsageError("assert_recall: give the baseline's outputs, or the share of right answers to reach")
    limits = {"loss": loss} if share is None else {"loss": loss, "share": share}
    _check_margins("assert_recall", limits)
    ours = _answers(output)
    wrong = [name for name, answer in ours.items() if not answer.right]
    if share is not None and len(ours) - len(wrong) < share * len(ours):
        head = f"{len(ours) - len(wrong)} of {len(ours)} answers are right, less than a share of {share:.2f}"
        raise QualityError(_recall_message(head, "wrong", ours, wrong), (ReasonCode.RECALL,))
    if baseline is not None:
        _check_recall_loss(ours, _answers(baseline), loss)


def assert_divergence_within(
    candidate: Scores,
    baseline: Scores,
    *,
    kld: float | None = DEFAULTS.kld,
    delta_nll: float | None = DEFAULTS.delta_nll,
    same_top_loss: float | None = DEFAULTS.same_top_loss,
) -> None:
    """Fail unless the candidate is proven to be within all margins on the texts that both scored.

    Scores are a ``ScoreSet`` or several ``Score``, of the same texts. A margin of None leaves its figure
    out; their meaning and defaults are those of the policy's limits. As for a verdict, each 95 % interval
    over prompts must lie within its margin; where it does not, the message tells harm (with its code)
    from too few prompts (``undecided``), and names the worst prompts. Raises
    :class:`~pytest_kvcache.errors.UsageError` for fewer than two texts, or where there is nothing to compare.
    """
    named = {"delta_nll": delta_nll, "kld": kld, "same_top_loss": same_top_loss}
    margins = {name: margin for name, margin in named.items() if margin is not None}
    _check_margins("assert_divergence_within", margins)
    try:
        found = divergence(candidate, baseline)
    except ValueError as error:
        raise UsageError(f"assert_divergence_within: {printable(str(error))}") from None
    _check_scores("assert_divergence_within", found)
    samples = {name: Means(np.array(list(map(_HARM[name], found.texts)))) for name in margins}
    judged = judge(samples, margins).items()
    against = [reason for name, judgement in judged if (reason := reason_against(name, judgement))]
    if against:
        lines = [
            f"  {reason.message}; worst: {_worst(found, _HARM[reason.metric or ''])}" for reason in against
        ]
        raise QualityError(
            "\n".join(["the candidate is not proven to be within the margins:", *lines]),
            tuple(dict.fromkeys(reason.code for reason in against)),
        )


_HARM: Mapping[str, Callable[[ScoreComparison], float]] = {
    "delta_nll": lambda text: text.delta_nll,
    "kld": lambda text: text.kld,
    "same_top_loss": lambda text: 1 - text.same_top,
}


@dataclass(frozen=True, slots=True)
class _Case:
    """One output to judge, under a name that finds the baseline's."""

    name: str
    output: Outputlike
    prompt: Promptlike | None = None


def _cases(outputs: Outputs, prompt: Promptlike | None = None) -> list[_Case]:
    """Return all outputs under different names. Raises UsageError if two are of the same prompt."""
    cases = list(_named(outputs, prompt))
    name, times = next(iter(Counter(case.name for case in cases).most_common(1)), ("", 0))
    if times > 1:
        raise UsageError(
            f"two outputs are of the prompt {printable(name)}: give the planned outputs themselves, or one "
            "set at a time"
        )
    return cases


def _named(outputs: Outputs, prompt: Promptlike | None) -> Iterator[_Case]:
    if isinstance(outputs, PlannedOutputs):
        for each in outputs.sets:
            yield from (replace(case, name=f"{each.prompt_set.name}/{case.name}") for case in _cases(each))
    elif isinstance(outputs, OutputSet):
        prompts = {each.id: each for each in outputs.prompt_set.prompts}
        yield from (_Case(each.prompt_id, each, prompts.get(each.prompt_id)) for each in outputs)
    elif isinstance(outputs, Output | str):
        yield _Case("the output", outputs, prompt)
    else:
        yield from _listed(list(outputs), prompt)


def _listed(items: Sequence[Output | str | int], prompt: Promptlike | None) -> Iterator[_Case]:
    """Yield the outputs of a list; what holds no output and no text is the token ids of one."""
    if not any(isinstance(each, Output | str) for each in items):
        yield _Case("the output", cast("Sequence[int]", items), prompt)
        return
    for index, each in enumerate(cast("Sequence[Output | str]", items)):
        yield _Case(each.prompt_id if isinstance(each, Output) else f"output {index}", each)


def _penalised(outputs: OutputSet | PlannedOutputs | Iterable[Output]) -> list[Sequence[Output]]:
    """Return the outputs of each penalised set. A bare list of outputs is taken on trust."""
    if not isinstance(outputs, OutputSet | PlannedOutputs):
        return [list(outputs)]
    sets = outputs.sets if isinstance(outputs, PlannedOutputs) else (outputs,)
    penalised = [each for each in sets if each.prompt_set.sampling.penalised]
    if not penalised:
        names = ", ".join(each.prompt_set.name for each in sets)
        raise UsageError(
            f"assert_penalties_effective: no penalty was set for {names}; use a penalised prompt set"
        )
    return [each.outputs for each in penalised]


@dataclass(frozen=True, slots=True)
class _Answer:
    prompt: Prompt
    text: str
    right: bool


def _answers(outputs: OutputSet | PlannedOutputs) -> dict[str, _Answer]:
    """Return what was answered to each task, by set and prompt. Raises UsageError if there are none."""
    sets = outputs.sets if isinstance(outputs, PlannedOutputs) else (outputs,)
    answers = {}
    for each in sets:
        if each.prompt_set.is_tasks:
            prompts = {prompt.id: prompt for prompt in each.prompt_set.prompts}
            for output in each:
                prompt = prompts[output.prompt_id]
                name = f"{each.prompt_set.name}/{prompt.id}" if len(sets) > 1 else prompt.id
                answers[name] = _Answer(prompt, output.text, is_right(output.text, prompt))
    if not answers:
        names = ", ".join(each.prompt_set.name for each in sets)
        raise UsageError(
            f"assert_recall: the prompts of {names} have no answers; use a set of tasks, e.g. smoke-tasks"
        )
    return answers


def _asked(answers: Mapping[str, _Answer]) -> Iterator[tuple[str, Prompt]]:
    return ((name, answer.prompt) for name, answer in answers.items())


def _check_recall_loss(ours: Mapping[str, _Answer], theirs: Mapping[str, _Answer], margin: float) -> None:
    if [*_asked(ours)] != [*_asked(theirs)]:
        raise UsageError("assert_recall: output and baseline are not of the same prompts")
    _check_enough("assert_recall", len(ours))
    lost = [name for name in ours if theirs[name].right and not ours[name].right]
    gained = sum(ours[name].right and not theirs[name].right for name in ours)
    interval = paired_difference_interval(len(lost), gained, len(ours))
    if interval.low > margin:
        before = sum(each.right for each in theirs.values())
        head = (
            f"{before - len(lost) + gained} of {len(ours)} answers are right, the baseline's {before}: a "
            f"loss of {interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}], beyond the margin "
            f"{margin:.2f}"
        )
        raise QualityError(_recall_message(head, "lost", ours, lost), (ReasonCode.RECALL,))


def _recall_message(head: str, what: str, answers: Mapping[str, _Answer], names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    lines = [head, f"{what}: {', '.join(map(printable, names[:NAMED]))}{more}"]
    for name in names[:SHOWN]:
        given, wanted = (
            printable(answers[name].text, AFTER),
            printable(answers[name].prompt.answer or "", AFTER),
        )
        lines.append(f'  {printable(name)}: "{given}" for "{wanted}"')
    return "\n".join(lines)


def _check_enough(name: str, outputs: int) -> None:
    if outputs < 2:
        raise UsageError(f"{name}: give at least two outputs, one cannot be told from chance")


def _check_margins(name: str, margins: Mapping[str, float]) -> None:
    if not margins:
        raise UsageError(f"{name}: give at least one margin")
    for margin_name, margin in margins.items():
        if not (math.isfinite(margin) and margin >= 0):
            raise UsageError(f"{name}: the margin {margin_name} must be a number of at least 0, not {margin}")


def _check_scores(name: str, found: Divergence) -> None:
    if found.baseline_non_finite:
        raise UsageError(
            f"{name}: {found.baseline_non_finite} log-probabilities of the baseline are not finite, so it "
            "can vouch for nothing"
        )
    if found.candidate_non_finite:
        raise QualityError(
            f"{found.candidate_non_finite} log-probabilities of the candidate are not finite",
            (ReasonCode.NOT_FINITE,),
        )
    if len(found.texts) < LEAST_FOR_AN_INTERVAL:
        raise UsageError(f"{name}: give the scores of at least two texts, one has no interval")


def _worst(found: Divergence, harm: Callable[[ScoreComparison], float]) -> str:
    worst = sorted(found.texts, key=harm, reverse=True)[:SHOWN]
    return ", ".join(f"{printable(text.prompt_id)} {harm(text):.3f}" for text in worst)


def _failures(case: _Case, beside: Outputlike | None = None) -> list[Signal]:
    signals = find_degeneration(case.output, prompt=case.prompt, baseline=beside)
    return [signal for signal in signals if signal.severity == "fail"]


def _codes(signals: Iterable[Signal]) -> set[ReasonCode]:
    return {ReasonCode.EMPTY if s.kind == "empty" else ReasonCode.DEGENERATE for s in signals}


# Messages


def _lines(found: Sequence[tuple[_Case, Signal]]) -> list[tuple[str, str]]:
    return [(case.name, _finding(case.output, signal)) for case, signal in found]


def _message(what: str, lines: Sequence[tuple[str, str]], total: int) -> str:
    if total == 1:
        name, line = lines[0]
        return f"{printable(name)} is {what}: {line}"
    names = [printable(name) for name, _ in lines]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    head = f"{len(lines)} of {total} outputs are {what}: {', '.join(names[:NAMED])}{more}"
    shown = [f"  {name}: {line}" for name, (_, line) in zip(names, lines[:SHOWN], strict=False)]
    return "\n".join([head, *shown])


def _finding(output: Outputlike, signal: Signal) -> str:
    """Return what was found and where, with the text around the place where it begins."""
    found = f"{signal.kind}, {signal.evidence}"
    if signal.kind == "empty":
        return found
    unit = "characters" if signal.unit == "char" else "tokens"
    place = f"{found} ({unit} {signal.start} to {signal.end})"
    text = view_output(output).text
    if text is None or signal.unit != "char":
        return place
    start = max(0, signal.start - BEFORE)
    return f'{place} in "{"…" * (start > 0)}{printable(text[start:], BEFORE + AFTER)}"'


def _end_of(output: Outputlike) -> str:
    text = view_output(output).text
    return f', it ends in "{printable(text[-AFTER:])}"' if text else ""
