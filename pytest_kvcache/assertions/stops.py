"""Stops: whether outputs end where they were told to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_kvcache.assertions.arguments import (
    check_enough,
    check_margins,
    check_paired,
    misuse_of,
    read_sets,
)
from pytest_kvcache.assertions.excesses import find_excess
from pytest_kvcache.assertions.messages import message
from pytest_kvcache.errors import QualityError
from pytest_kvcache.findings import around
from pytest_kvcache.measures.power import can_show_excess
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Output, OutputSet, PlannedOutputs, ReasonCode, Sampling
from pytest_kvcache.text import listed, printable


def assert_stops_obeyed(
    output: OutputSet | PlannedOutputs,
    baseline: OutputSet | PlannedOutputs | None = None,
    *,
    margin: float = Limits().runaway_excess,
) -> None:
    """Fail for outputs that do not end where their sampling says, and if stops are no longer reached.

    Exact, output by output: no stop string stands in the text, no more than ``max_tokens`` were written, and
    the finish reason is ``length`` only if as many were, otherwise ``stop``. With a baseline it also fails if
    the share of outputs that ran to ``max_tokens`` exceeds the baseline's by more than ``margin`` (0 to 1)
    with its 95 % interval. Raises :class:`~pytest_kvcache.errors.UsageError` for what is no set of outputs,
    and beside a baseline for fewer than two outputs, and where it reaches too few stops for a proof.
    """
    __tracebackhide__ = True
    with misuse_of("assert_stops_obeyed"):
        check_margins({"margin": margin})
        ours = _ended(output, "output")
        theirs = None if baseline is None else _ended(baseline, "baseline")
        if theirs is not None:
            check_paired((each.name for each in ours), (each.name for each in theirs))
            check_enough(len(ours))
    wrong = [(each.name, problem) for each in ours if (problem := each.problem)]
    if wrong:
        raise QualityError(message("not ended as asked", wrong, len(ours)), (ReasonCode.STOPS,))
    if theirs is not None:
        with misuse_of("assert_stops_obeyed"):
            _check_reachable(theirs, margin)
        _check_reached(ours, theirs, margin)


@dataclass(frozen=True, slots=True)
class _Ended:
    """How one output ended, and how it was to end."""

    name: str
    output: Output
    sampling: Sampling

    @property
    def problem(self) -> str | None:
        output, limit = self.output, self.sampling.max_tokens
        for stop in self.sampling.stop:
            if stop in output.text:
                place = around(output.text, output.text.index(stop))
                return f'its stop string "{printable(stop)}" is passed over in "{place}"'
        written = len(output.token_ids)
        if written > limit:
            return f"{written} tokens were written, {limit} were asked for"
        if output.finish_reason == "length" and written < limit:
            return f"cut off as if too long after {written} tokens, though {limit} were asked for"
        if output.finish_reason not in ("stop", "length"):
            return f"it ended for no reason of its own (finish reason {output.finish_reason})"
        return None

    @property
    def is_cut(self) -> bool:
        return self.output.finish_reason == "length"


def _ended(outputs: OutputSet | PlannedOutputs, name: str) -> list[_Ended]:
    """Return how each output ended. Raises ValueError if there are none."""
    ended = [*_each(read_sets(outputs, name))]
    if not ended:
        raise ValueError(f"{name} holds no outputs")
    return ended


def _each(sets: Sequence[OutputSet]) -> Iterator[_Ended]:
    for each in sets:
        prefix = f"{each.prompt_set.name}/" if len(sets) > 1 else ""
        for output in each:
            yield _Ended(f"{prefix}{output.prompt_id}", output, each.prompt_set.sampling)


def _check_reachable(theirs: Sequence[_Ended], margin: float) -> None:
    """Raise ValueError where there are stop strings, and the baseline reaches too few to show a loss."""
    cut = [each.is_cut for each in theirs]
    if any(each.sampling.stop for each in theirs) and not can_show_excess(cut, margin):
        raise ValueError(
            f"{sum(cut)} of the baseline's {len(cut)} outputs run to max_tokens, so that a loss of stops "
            f"beyond {margin:.2f} could not be proven: give more texts that come to one, or more tokens"
        )


def _check_reached(ours: Sequence[_Ended], theirs: Sequence[_Ended], margin: float) -> None:
    cut_before = {each.name: each.is_cut for each in theirs}
    cut = {each.name: (each.is_cut, cut_before[each.name]) for each in ours}
    if excess := find_excess(cut, margin):
        raise QualityError(
            f"{sum(each.is_cut for each in ours)} of {len(ours)} outputs never reach their stop, the "
            f"baseline's {sum(cut_before.values())}: an excess of {excess}: {listed(excess.worse)}",
            (ReasonCode.RUNAWAY,),
        )
