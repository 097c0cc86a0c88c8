"""Scores: whether the candidate is proven to be near its baseline in what it thinks of the same texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pytest_kvcache.assertions.arguments import check_enough_texts, check_margins, misuse_of
from pytest_kvcache.endpoints import reason_against
from pytest_kvcache.errors import QualityError
from pytest_kvcache.findings import SHOWN
from pytest_kvcache.measures.divergence import Divergence, ScoreComparison, Scores, divergence
from pytest_kvcache.measures.noninferiority import Means, judge
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import ReasonCode
from pytest_kvcache.text import printable
from pytest_kvcache.verdicts import outcome

_DEFAULTS = Limits()


def assert_divergence_within(
    candidate: Scores,
    baseline: Scores,
    *,
    kld: float | None = _DEFAULTS.kld,
    delta_nll: float | None = _DEFAULTS.delta_nll,
    same_top_loss: float | None = _DEFAULTS.same_top_loss,
) -> None:
    """Fail unless the candidate is proven to be within all margins on the texts that both scored.

    Scores are a ``ScoreSet``, the planned scores of a test, or several ``Score``, of the same texts. A
    margin of None leaves its figure out; their meaning and defaults are those of the policy's limits. As for
    a verdict, each 95 % interval over prompts must lie within its margin; where one does not, the message
    says whether that is harm (with its code) or comes of too few prompts (``undecided``, which proven harm
    silences), and names the worst prompts. Raises :class:`~pytest_kvcache.errors.UsageError` for fewer than
    two texts, or where there is nothing to compare.
    """
    __tracebackhide__ = True
    named = {"delta_nll": delta_nll, "kld": kld, "same_top_loss": same_top_loss}
    margins = {name: margin for name, margin in named.items() if margin is not None}
    with misuse_of("assert_divergence_within"):
        check_margins(margins)
        found = divergence(candidate, baseline)
        _check_finite(found)
    samples = {name: Means(np.array(list(map(_HARM[name], found.texts)))) for name in margins}
    judged = judge(samples, margins).items()
    _, against = outcome([reason for name, each in judged if (reason := reason_against(name, each))])
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


def _check_finite(found: Divergence) -> None:
    """Raise ValueError if there is nothing to compare with, QualityError for a candidate without numbers."""
    if found.baseline_non_finite:
        raise ValueError(
            f"{found.baseline_non_finite} log-probabilities of the baseline are not finite, so it can vouch "
            "for nothing"
        )
    if found.candidate_non_finite:
        raise QualityError(
            f"{found.candidate_non_finite} log-probabilities of the candidate are not finite",
            (ReasonCode.NOT_FINITE,),
        )
    check_enough_texts(len(found.texts))


def _worst(found: Divergence, harm: Callable[[ScoreComparison], float]) -> str:
    worst = sorted(found.texts, key=harm, reverse=True)[:SHOWN]
    return ", ".join(f"{printable(text.prompt_id)} {harm(text):.3f}" for text in worst)
