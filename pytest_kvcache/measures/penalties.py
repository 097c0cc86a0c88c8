"""Penalties: whether they still keep the candidate from repeating itself, as they keep the baseline.

Penalties only forbid near copies. A model that has collapsed answers them with variants of its loop, so
its repetition stays where a healthy model's falls to about nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_kvcache.measures.repetition import ngram_repetition
from pytest_kvcache.records import Output

N = 4
BEGINNING = 32
"""Tokens within which penalties change a text: in 47 of 48 reference engines all 16, in one 15."""


def repetition_excess(candidate: Iterable[Output], baseline: Iterable[Output]) -> list[float]:
    """Return, per prompt, the 4-gram repetition (0 to 1) of the candidate's output over the baseline's.

    Both were sampled under the same penalties and are paired by prompt id. Raises ValueError if they
    are not of the same prompts.
    """
    pairs = pair_outputs(candidate, baseline)
    return [ngram_repetition(ours, N) - ngram_repetition(theirs, N) for ours, theirs in pairs]


def is_unpenalised(penalised: Output, plain: Output) -> bool:
    """Whether the output under a penalty begins as the same prompt's without one, for 32 tokens."""
    alike = penalised.token_ids[:BEGINNING] == plain.token_ids[:BEGINNING]
    return alike and tells_of_penalties(penalised, plain)


def tells_of_penalties(penalised: Output, plain: Output) -> bool:
    """Whether two outputs of one engine are long enough for a penalty to have changed the one."""
    return min(len(penalised.token_ids), len(plain.token_ids)) >= BEGINNING


def pair_outputs(candidate: Iterable[Output], baseline: Iterable[Output]) -> Iterator[tuple[Output, Output]]:
    """Pair outputs by prompt id, in the candidate's order.

    Raises ValueError for a prompt that occurs twice on a side, or on one side only.
    """
    ours, theirs = _by_prompt(candidate), _by_prompt(baseline)
    if ours.keys() != theirs.keys():
        alone = sorted(ours.keys() ^ theirs.keys())
        raise ValueError(f"candidate and baseline answered different prompts: {', '.join(alone[:5])}")
    return ((output, theirs[prompt_id]) for prompt_id, output in ours.items())


def _by_prompt(outputs: Iterable[Output]) -> dict[str, Output]:
    found: dict[str, Output] = {}
    for output in outputs:
        if output.prompt_id in found:
            raise ValueError(f"two outputs for the prompt {output.prompt_id!r}")
        found[output.prompt_id] = output
    return found
