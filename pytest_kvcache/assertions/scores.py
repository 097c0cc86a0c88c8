"""Scores: whether the candidate is proven to be near its baseline in what it thinks of the same texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from pytest_kvcache.assertions.arguments import check_enough_texts, check_margins, misuse_of
from pytest_kvcache.dtypes import canonical_dtype, is_quantized
from pytest_kvcache.endpoints import reason_against, unread
from pytest_kvcache.errors import QualityError
from pytest_kvcache.findings import SHOWN
from pytest_kvcache.measures.divergence import Divergence, ScoreComparison, Scores, divergence
from pytest_kvcache.measures.noninferiority import Means, judge
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import EngineSpec, PlannedScores, Prompt, Reason, ReasonCode, Score, ScoreSet
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
    silences), and names the worst prompts. Where the sets are known, prompts that say the same count as one,
    and scores by a quantized cache that equal the baseline's to the last bit are no proof
    (``too-little-evidence``). Whether the engine proved to read its cache, and whether the noise floor is
    small enough, only a verdict knows. Raises :class:`~pytest_kvcache.errors.UsageError` for fewer than two
    texts, for scores of texts that were sampled under penalties, and where there is nothing to compare.
    """
    __tracebackhide__ = True
    named = {"delta_nll": delta_nll, "kld": kld, "same_top_loss": same_top_loss}
    margins = {name: margin for name, margin in named.items() if margin is not None}
    with misuse_of("assert_divergence_within"):
        check_margins(margins)
        ours, theirs = _known(candidate), _known(baseline)
        _check_sets(candidate, baseline, [*ours.values(), *theirs.values()])
        found = divergence(candidate, baseline)
        groups = _by_content(found.texts, ours | theirs)
        _check_finite(found)
        check_enough_texts(len(groups))
    samples = {
        name: Means(np.array([fmean(map(_HARM[name], group)) for group in groups])) for name in margins
    }
    judged = judge(samples, margins).items()
    reasons = [reason for name, each in judged if (reason := reason_against(name, each))]
    _, against = outcome([*reasons, *unread(_by_different_caches(ours, theirs))])
    if against:
        raise QualityError(
            "\n".join(
                [
                    "the candidate is not proven to be within the margins:",
                    *(f"  {reason.message}{_worst(found, reason)}" for reason in against),
                ]
            ),
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


def _worst(found: Divergence, reason: Reason) -> str:
    if reason.code is ReasonCode.TOO_LITTLE_EVIDENCE:
        return ""
    harm = _HARM[reason.metric or ""]
    worst = sorted(found.texts, key=harm, reverse=True)[:SHOWN]
    return "; worst: " + ", ".join(f"{printable(text.prompt_id)} {harm(text):.3f}" for text in worst)


# What sets know of their scores


@dataclass(frozen=True, slots=True)
class _Known:
    """A score, its prompt and who gave it."""

    prompt: Prompt
    score: Score
    by: ScoreSet


def _known(scores: object) -> dict[str, _Known]:
    """Return the scores of sets by the names that `divergence` gives them; nothing of bare scores."""
    sets = scores.sets if isinstance(scores, PlannedScores) else (scores,)
    known: dict[str, _Known] = {}
    for each in sets:
        if isinstance(each, ScoreSet):
            prefix = f"{each.prompt_set.name}/" * (len(sets) > 1)
            prompts = {prompt.id: prompt for prompt in each.prompt_set.prompts}
            for score in each.scores:
                if score.prompt_id in prompts:
                    known[prefix + score.prompt_id] = _Known(prompts[score.prompt_id], score, each)
    return known


def _check_sets(candidate: Scores, baseline: Scores, known: Iterable[_Known]) -> None:
    """Raise ValueError for a set held against itself, and for texts that no verdict would judge by.

    Planned scores may be the same: among the targets of a test may be their own baseline.
    """
    if isinstance(candidate, ScoreSet) and candidate == baseline:
        raise ValueError("candidate and baseline are the same scores: give the scores of two engines")
    for each in known:
        if each.by.prompt_set.sampling.penalised:
            raise ValueError(
                f"{each.by.prompt_set.name} is sampled under penalties, so its texts are not the model's own "
                "distribution: give the scores of another set"
            )


def _by_content(texts: Sequence[ScoreComparison], known: Mapping[str, _Known]) -> list[list[ScoreComparison]]:
    """Pool texts whose prompts say the same; what no set knows is a prompt of its own."""
    groups: dict[object, list[ScoreComparison]] = defaultdict(list)
    for text in texts:
        of = known.get(text.prompt_id)
        groups[(of.prompt.text, of.prompt.messages) if of else text.prompt_id].append(text)
    return list(groups.values())


def _by_different_caches(
    ours: Mapping[str, _Known], theirs: Mapping[str, _Known]
) -> Iterator[tuple[Score, Score]]:
    """Yield both scores of each text that two engines gave, one of them by a quantized cache."""
    for name, one in ours.items():
        other = theirs.get(name)
        if other and _differ(one.by.spec, other.by.spec):
            yield one.score, other.score


def _differ(one: EngineSpec, other: EngineSpec) -> bool:
    dtypes = {canonical_dtype(spec.kv_cache_dtype) for spec in (one, other)}
    return len(dtypes) > 1 and any(map(is_quantized, dtypes))
