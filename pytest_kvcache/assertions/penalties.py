"""Penalties ignored: whether sampling parameters reach the sampler at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_kvcache.assertions.arguments import misuse_of
from pytest_kvcache.assertions.excesses import (
    Found,
    Pair,
    Sets,
    check_excesses,
    read_evidence,
)
from pytest_kvcache.endpoints import LEAST_FOR_AN_INTERVAL
from pytest_kvcache.evidence import Evidence
from pytest_kvcache.measures.penalties import BEGINNING, is_unpenalised, tells_of_penalties
from pytest_kvcache.measures.power import can_show_excess
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Output, OutputSet, PromptSet


def assert_penalties_heeded(
    output: Sets, baseline: Sets, *, margin: float = Limits().penalties_ignored_excess
) -> None:
    """Fail if more penalised outputs begin as the same prompts' unpenalised ones than of the baseline's.

    Give the outputs of a penalised set together with those of a set that holds its prompts and is sampled
    without penalties, such as ``smoke`` with ``smoke-penalised``. Each side is held against its own, by the
    first 32 tokens; prompts to which the baseline writes fewer do not count. Fails if the paired difference
    of the two shares lies beyond ``margin`` (0 to 1) with its 95 % interval. Raises
    :class:`~pytest_kvcache.errors.UsageError` where there is no such set, for outputs of other prompts, and
    for fewer than two.
    """
    __tracebackhide__ = True
    with misuse_of("assert_penalties_heeded"):
        evidence = read_evidence(output, baseline)
        sides = [each for penalised in evidence for each in _sides(penalised, evidence)]
        if not sides:
            names = ", ".join(each.prompt_set.name for each in evidence)
            raise ValueError(
                f"none of {names} is penalised and has its prompts in another set without penalties"
            )
        found = [each.found() for each in sides if tells_of_penalties(*each.theirs)]
        if len(found) < LEAST_FOR_AN_INTERVAL:
            raise ValueError(
                f"the baseline writes {BEGINNING} tokens, with and without penalties, to {len(found)} of "
                f"{len(sides)} prompts: give more tokens (max_tokens), or prompts that ask for longer texts"
            )
        if not can_show_excess([each.theirs for each in found], margin):
            same = sum(each.theirs for each in found)
            raise ValueError(
                f"of {len(found)} penalised texts the baseline's begin {same} as without penalties, so that "
                f"no excess beyond {margin:.2f} could be proven: give more prompts, or stronger penalties"
            )
        check_excesses({"penalties_ignored_excess": found}, {"penalties_ignored_excess": margin})


class _Sides(NamedTuple):
    """What both sides wrote to one prompt, under a penalty and without."""

    pair: Pair
    ours: tuple[Output, Output]
    theirs: tuple[Output, Output]

    def found(self) -> Found:
        return Found(self.pair, is_unpenalised(*self.ours), is_unpenalised(*self.theirs))


def _sides(penalised: Evidence, evidence: Sequence[Evidence]) -> Iterator[_Sides]:
    if not penalised.penalised:
        return
    plain = next((each for each in evidence if _is_plain_of(each.prompt_set, penalised.prompt_set)), None)
    if plain is None:
        return
    ours, theirs = _by_prompt(plain.candidate), _by_prompt(plain.baseline)
    for pair in penalised.pairs():
        prompt, candidates, baselines = pair
        yield _Sides(Pair(penalised, *pair), (candidates, ours[prompt.id]), (baselines, theirs[prompt.id]))


def _is_plain_of(plain: PromptSet, penalised: PromptSet) -> bool:
    return not plain.sampling.penalised and set(penalised.prompts) <= set(plain.prompts)


def _by_prompt(outputs: OutputSet) -> dict[str, Output]:
    return {output.prompt_id: output for output in outputs}
