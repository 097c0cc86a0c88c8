"""Finiteness: whether everything that an engine says of its texts is a number."""

from __future__ import annotations

from itertools import groupby

from pytest_kvcache.assertions.arguments import Outputs, misuse_of, read_cases
from pytest_kvcache.errors import QualityError
from pytest_kvcache.measures.divergence import Scores, count_non_finite
from pytest_kvcache.measures.views import view_output
from pytest_kvcache.records import ReasonCode
from pytest_kvcache.text import listed

STUCK = 16
"""Tokens in a row that are all 0 only where sampling met no numbers: no text of "!" needs as many."""


def assert_finite(scores: Scores, output: Outputs | None = None) -> None:
    """Fail for scores that are no numbers, and for outputs that are stuck on token 0.

    Every log-probability counts, of given and of most probable tokens: NaN, infinite, or above 0 by more than
    rounding. Token 0 is what samplers take where the logits are NaN: 16 of it in a row fail. There is no
    margin, and nothing is held against a baseline. Raises :class:`~pytest_kvcache.errors.UsageError` for what
    are no scores or outputs, and where there are none.
    """
    __tracebackhide__ = True
    with misuse_of("assert_finite"):
        counts = count_non_finite(scores)
        if not counts:
            raise ValueError("scores holds no scores")
        cases = [] if output is None else read_cases(output)
    lines = []
    if bad := [name for name, count in counts.items() if count]:
        lines.append(
            f"log-probabilities at {sum(counts.values())} positions are not finite, in {len(bad)} of "
            f"{len(counts)} texts: {listed(bad)}"
        )
    if stuck := [case.name for case in cases if _longest_of_zero(view_output(case.output).ids) >= STUCK]:
        lines.append(f"{len(stuck)} of {len(cases)} outputs are stuck on token 0: {listed(stuck)}")
    if lines:
        raise QualityError("\n".join(lines), (ReasonCode.NOT_FINITE,))


def _longest_of_zero(ids: tuple[int, ...] | None) -> int:
    return max((sum(1 for _ in run) for token, run in groupby(ids or ()) if token == 0), default=0)
