"""Arguments: reads what assertions are given, in any of its shapes, and refuses what they cannot judge.

What is wrong is a ValueError without the assertion's name, as the measures raise it; within
:func:`misuse_of` it becomes the one line that a person reads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real

from pytest_kvcache.endpoints import LEAST_FOR_AN_INTERVAL
from pytest_kvcache.errors import UsageError
from pytest_kvcache.measures.views import Outputlike, Promptlike, kind_of, token_ids, view_prompt
from pytest_kvcache.records import Output, OutputSet, PlannedOutputs
from pytest_kvcache.text import printable

Outputs = Outputlike | OutputSet | PlannedOutputs | Iterable[Output] | Iterable[str]

_TAKES = "an Output, a text, token ids, an OutputSet, planned outputs, or a list of outputs or texts"


@contextmanager
def misuse_of(assertion: str) -> Iterator[None]:
    """Turn a ValueError into the UsageError that names the assertion."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{assertion}: {printable(str(error))}") from None


@dataclass(frozen=True, slots=True)
class Case:
    """One output to judge, under a name that finds the baseline's."""

    name: str
    output: Outputlike
    prompt: Promptlike | None = None


def read_cases(outputs: Outputs, name: str = "output", *, prompt: Promptlike | None = None) -> list[Case]:
    """Return all outputs under different names; ``name`` is the argument's, ``prompt`` that of all texts.

    Raises ValueError for what is no output, if there is none, or if two are of the same prompt.
    """
    if prompt is not None:
        _check_prompt(prompt, outputs, name)
    cases = list(_named(outputs, name, prompt))
    if not cases:
        raise ValueError(f"{name} holds no outputs")
    named, times = Counter(case.name for case in cases).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"two outputs are of the prompt {named}: give the planned outputs themselves, or a set at a time"
        )
    return cases


def read_sets(outputs: OutputSet | PlannedOutputs, name: str) -> tuple[OutputSet, ...]:
    """Return the sets of outputs. Raises ValueError for anything else."""
    if isinstance(outputs, PlannedOutputs):
        return outputs.sets
    if isinstance(outputs, OutputSet):
        return (outputs,)
    raise ValueError(f"{name} takes an OutputSet or planned outputs, not {kind_of(outputs)}")


def read_penalised(
    outputs: OutputSet | PlannedOutputs | Iterable[Output], name: str
) -> list[Sequence[Output]]:
    """Return the outputs of each penalised set; a bare list of outputs is taken on trust.

    Raises ValueError for anything else, and if no set is penalised.
    """
    if not isinstance(outputs, OutputSet | PlannedOutputs):
        return [_bare(outputs, name)]
    sets = read_sets(outputs, name)
    penalised = [each for each in sets if each.prompt_set.sampling.penalised]
    if not penalised:
        names = ", ".join(each.prompt_set.name for each in sets)
        raise ValueError(f"no penalty was set for {names}; use a penalised prompt set")
    return [each.outputs for each in penalised]


def check_paired(ours: Iterable[str], theirs: Iterable[str]) -> None:
    """Raise ValueError unless both sides are of the same prompts, in any order."""
    if set(ours) != set(theirs):
        raise ValueError("output and baseline are not of the same prompts")


def check_enough(outputs: int) -> None:
    if outputs < LEAST_FOR_AN_INTERVAL:
        raise ValueError("give at least two outputs, one cannot be told from chance")


def check_enough_texts(texts: int) -> None:
    if texts < LEAST_FOR_AN_INTERVAL:
        raise ValueError("give the scores of at least two texts, one has no interval")


def check_margins(margins: Mapping[str, float]) -> None:
    """Raise ValueError if there is none, or one is no number of at least 0."""
    if not margins:
        raise ValueError("give at least one margin")
    for name, margin in margins.items():
        if not _is_margin(margin):
            raise ValueError(f"the margin {name} must be a number of at least 0, not {margin!r}")


def _bare(outputs: object, name: str) -> list[Output]:
    given = list(outputs) if isinstance(outputs, Iterable) else outputs
    if isinstance(given, list) and all(isinstance(each, Output) for each in given):
        return given
    raise ValueError(
        f"{name} takes an OutputSet, planned outputs, or a list of outputs, not {kind_of(given)}"
    )


def _is_margin(margin: object) -> bool:
    return isinstance(margin, Real) and math.isfinite(margin) and float(margin) >= 0


def _check_prompt(prompt: Promptlike, outputs: Outputs, name: str) -> None:
    view_prompt(prompt)
    if isinstance(outputs, OutputSet | PlannedOutputs):
        raise ValueError(f"leave prompt out: {name} is a {kind_of(outputs)}, which knows its prompts")


def _named(outputs: Outputs, name: str, prompt: Promptlike | None) -> Iterator[Case]:
    if isinstance(outputs, PlannedOutputs):
        for each in outputs.sets:
            cases = read_cases(each, name)
            yield from (replace(case, name=f"{each.prompt_set.name}/{case.name}") for case in cases)
    elif isinstance(outputs, OutputSet):
        prompts = {each.id: each for each in outputs.prompt_set.prompts}
        yield from (Case(each.prompt_id, each, prompts.get(each.prompt_id)) for each in outputs)
    elif isinstance(outputs, Output | str):
        yield Case("the output", outputs, prompt)
    else:
        yield from _listed(_items(outputs, name), name, prompt)


def _items(outputs: object, name: str) -> list[object]:
    if isinstance(outputs, Iterable) and not isinstance(outputs, bytes | Mapping | Set):
        return list(outputs)
    raise ValueError(f"{name} takes {_TAKES}, not {kind_of(outputs)}")


def _listed(items: Sequence[object], name: str, prompt: Promptlike | None) -> Iterator[Case]:
    """Yield the outputs of a list; what holds no output and no text is the token ids of one."""
    outputs = [each for each in items if isinstance(each, Output | str)]
    if not outputs:
        yield Case("the output", token_ids(items, f"{name} takes {_TAKES}"), prompt)
        return
    if len(outputs) < len(items):
        raise ValueError(f"{name} takes {_TAKES}, not {kind_of(items)}")
    if prompt is not None and len(outputs) > 1 and any(isinstance(each, Output) for each in outputs):
        raise ValueError(
            f"leave prompt out: {name} holds outputs of several prompts; give them as an OutputSet"
        )
    for index, each in enumerate(outputs):
        yield Case(each.prompt_id if isinstance(each, Output) else f"output {index}", each, prompt)
