"""Recall: whether tasks are still answered rightly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_kvcache.assertions.arguments import check_enough, check_margins, misuse_of, read_sets
from pytest_kvcache.assertions.excesses import find_excess
from pytest_kvcache.errors import QualityError
from pytest_kvcache.findings import AFTER, SHOWN
from pytest_kvcache.measures.power import can_show_excess
from pytest_kvcache.measures.recall import is_right
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import OutputSet, PlannedOutputs, Prompt, ReasonCode
from pytest_kvcache.text import listed, printable


def assert_recall(
    output: OutputSet | PlannedOutputs,
    baseline: OutputSet | PlannedOutputs | None = None,
    *,
    loss: float = Limits().recall_loss,
    share: float | None = None,
) -> None:
    """Fail if fewer tasks have a right answer than under the baseline, or than a share of them.

    Outputs are of a prompt set whose prompts have answers; of planned outputs only such sets count. With a
    baseline it fails if the paired difference of the two shares of right answers lies beyond ``loss`` (0 to
    1) with its 95 % interval; ``share`` (0 to 1) is a plain limit. The message names the tasks whose right
    answers were lost. Without a share it fails too, for too little evidence, where the baseline has so few
    right answers that not even the loss of all would be proven. Raises
    :class:`~pytest_kvcache.errors.UsageError` for outputs without tasks, for neither a baseline nor a share,
    and for fewer than two tasks beside a baseline.
    """
    __tracebackhide__ = True
    with misuse_of("assert_recall"):
        if baseline is None and share is None:
            raise ValueError("give the baseline's outputs, or the share of right answers to reach")
        check_margins({"loss": loss} if share is None else {"loss": loss, "share": share})
        ours = _answers(output, "output")
        theirs = None if baseline is None else _answers(baseline, "baseline")
        if theirs is not None:
            _check_comparable(ours, theirs)
    wrong = [name for name, answer in ours.items() if not answer.right]
    if share is not None and len(ours) - len(wrong) < share * len(ours):
        head = f"{len(ours) - len(wrong)} of {len(ours)} answers are right, less than a share of {share:.2f}"
        raise QualityError(_message(head, "wrong", ours, wrong), (ReasonCode.RECALL,))
    if theirs is not None:
        _check_loss(ours, theirs, loss)
        if share is None:
            _check_power(theirs, loss)


@dataclass(frozen=True, slots=True)
class _Answer:
    prompt: Prompt
    text: str
    right: bool


def _answers(outputs: OutputSet | PlannedOutputs, name: str) -> dict[str, _Answer]:
    """Return what was answered to each task, by set and prompt. Raises ValueError if there are none."""
    sets = read_sets(outputs, name)
    answers: dict[str, _Answer] = {}
    for each in sets:
        if each.prompt_set.is_tasks:
            prefix = f"{each.prompt_set.name}/" if len(sets) > 1 else ""
            answers |= {f"{prefix}{answer.prompt.id}": answer for answer in _answers_of(each)}
    if not answers:
        names = ", ".join(each.prompt_set.name for each in sets) or name
        raise ValueError(f"the prompts of {names} have no answers; use a set of tasks, e.g. smoke-tasks")
    return answers


def _answers_of(outputs: OutputSet) -> Iterator[_Answer]:
    prompts = {prompt.id: prompt for prompt in outputs.prompt_set.prompts}
    for output in outputs:
        prompt = prompts.get(output.prompt_id)
        if prompt is None:
            raise ValueError(
                f"{outputs.prompt_set.name} has no prompt {output.prompt_id}, to which an output is"
            )
        yield _Answer(prompt, output.text, is_right(output.text, prompt))


def _check_comparable(ours: Mapping[str, _Answer], theirs: Mapping[str, _Answer]) -> None:
    if [*_asked(ours)] != [*_asked(theirs)]:
        raise ValueError("output and baseline are not of the same prompts")
    check_enough(len(ours))


def _asked(answers: Mapping[str, _Answer]) -> Iterator[tuple[str, Prompt]]:
    return ((name, answer.prompt) for name, answer in answers.items())


def _check_loss(ours: Mapping[str, _Answer], theirs: Mapping[str, _Answer], margin: float) -> None:
    wrong = {name: (not ours[name].right, not theirs[name].right) for name in ours}
    if excess := find_excess(wrong, margin):
        head = (
            f"{_right(ours, ours)} of {len(ours)} answers are right, the baseline's "
            f"{_right(theirs, theirs)}: a loss of {excess}"
        )
        raise QualityError(_message(head, "lost", ours, excess.worse, theirs), (ReasonCode.RECALL,))


def _check_power(theirs: Mapping[str, _Answer], margin: float) -> None:
    if not can_show_excess([not answer.right for answer in theirs.values()], margin):
        raise QualityError(
            f"of {len(theirs)} answers the baseline has {_right(theirs, theirs)} right, and not even the "
            f"loss of all would be proven beyond the margin {margin:.2f}: give more tasks, or easier ones",
            (ReasonCode.TOO_LITTLE_EVIDENCE,),
        )


def _message(
    head: str,
    what: str,
    answers: Mapping[str, _Answer],
    names: Sequence[str],
    before: Mapping[str, _Answer] | None = None,
) -> str:
    lines = [head, *_by_kind(answers, before), f"{what}: {listed(names)}"]
    for name in names[:SHOWN]:
        given, wanted = answers[name].text, answers[name].prompt.answer or ""
        lines.append(f'  {printable(name)}: "{printable(given, AFTER)}" for "{printable(wanted, AFTER)}"')
    return "\n".join(lines)


def _by_kind(answers: Mapping[str, _Answer], before: Mapping[str, _Answer] | None) -> list[str]:
    """Return one line of right answers by kind of task, if there are several: where the loss is."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for name, answer in answers.items():
        kinds[answer.prompt.kind].append(name)
    parts = [
        f"{kind} {_right(answers, names)} of {len(names)}"
        + (f" (baseline {_right(before, names)})" if before else "")
        for kind, names in kinds.items()
    ]
    return [f"by kind: {listed(parts, len(parts))}"] if len(parts) > 1 else []


def _right(answers: Mapping[str, _Answer], names: Iterable[str]) -> int:
    return sum(answers[name].right for name in names)
