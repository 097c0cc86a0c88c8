"""Penalties ignored: whether sampling parameters reach the sampler at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_kvcache.assertions.arguments import check_enough, misuse_of
from pytest_kvcache.assertions.excesses import Found, Pair, Sets, check_excesses, read_evidence
from pytest_kvcache.evidence import Evidence
from pytest_kvcache.measures.penalties import is_unpenalised
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Output, OutputSet, PromptSet


def assert_penalties_heeded(
    output: Sets, baseline: Sets, *, margin: float = Limits().penalties_ignored_excess
) -> None:
    """Fail if more penalised outputs begin as the same prompts' unpenalised ones than of the baseline's.

    Give the outputs of a penalised set together with those of a set that holds its prompts and is sampled
    without penalties, such as ``smoke`` with ``smoke-penalised``. Each side is held against its own, 32
    tokens at most. Fails if the paired difference of the two shares lies beyond ``margin`` (0 to 1) with its
    95 % interval. Raises :class:`~pytest_kvcache.errors.UsageError` where there is no such set, for outputs
    of other prompts, and for fewer than two.
    """
    __tracebackhide__ = True
    with misuse_of("assert_penalties_heeded"):
        evidence = read_evidence(output, baseline)
        found = [each for penalised in evidence for each in _found(penalised, evidence)]
        if not found:
            names = ", ".join(each.prompt_set.name for each in evidence)
            raise ValueError(
                f"none of {names} is penalised and has its prompts in another set without penalties"
            )
        check_enough(len(found))
        check_excesses({"penalties_ignored_excess": found}, {"penalties_ignored_excess": margin})


def _found(penalised: Evidence, evidence: Sequence[Evidence]) -> Iterator[Found]:
    if not penalised.penalised:
        return
    plain = next((each for each in evidence if _is_plain_of(each.prompt_set, penalised.prompt_set)), None)
    if plain is None:
        return
    ours, theirs = _by_prompt(plain.candidate), _by_prompt(plain.baseline)
    for pair in penalised.pairs():
        prompt, candidates, baselines = pair
        yield Found(
            Pair(penalised, *pair),
            is_unpenalised(candidates, ours[prompt.id]),
            is_unpenalised(baselines, theirs[prompt.id]),
        )


def _is_plain_of(plain: PromptSet, penalised: PromptSet) -> bool:
    return not plain.sampling.penalised and set(penalised.prompts) <= set(plain.prompts)


def _by_prompt(outputs: OutputSet) -> dict[str, Output]:
    return {output.prompt_id: output for output in outputs}
