"""What two goldens of one engine's name say beside each other by their log-probabilities. Pure.

Each holds what its engine thought of its own texts. Where these are others now, only their beginnings can be
compared (:mod:`~pytest_kvcache.measures.beginnings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_kvcache.endpoints import LEAST_FOR_AN_INTERVAL
from pytest_kvcache.findings import Pair
from pytest_kvcache.measures.beginnings import Beginnings, compare_beginnings
from pytest_kvcache.measures.paired import Interval
from pytest_kvcache.policy import Limits
from pytest_kvcache.records import Golden, Score, ScoreSet


@dataclass(frozen=True, slots=True)
class ScoresChange:
    """What changed in the log-probabilities of two goldens."""

    lines: tuple[str, ...] = ()
    """For people; none if nothing changed."""
    worse: bool = False
    """Whether delta NLL or KLD lies beyond its limit with the whole interval."""


def compare_golden_scores(old: Golden, new: Golden, stayed: Sequence[Pair], limits: Limits) -> ScoresChange:
    """Compare log-probabilities for ``stayed``, the prompts that both goldens hold, as far as they can be."""
    if (old.scores is None) != (new.scores is None):
        told = "none -> stored" if old.scores is None else "stored -> none"
        return ScoresChange((f"log-probabilities: {told}",))
    before, after = _by_prompt(old.scores), _by_prompt(new.scores)
    scored = [pair for pair in stayed if pair.name in before and pair.name in after]
    if all(before[pair.name] == after[pair.name] for pair in scored):
        return ScoresChange(("the noise floor changed",) if _other_floor(old, new, stayed) else ())
    alike = [pair for pair in scored if pair.old.prompt_token_ids == pair.new.prompt_token_ids]
    if not alike:
        return ScoresChange(("log-probabilities: none can be compared, for the prompts are other tokens",))
    found = compare_beginnings((after[pair.name], before[pair.name]) for pair in alike)
    if len(found.reached.texts) < LEAST_FOR_AN_INTERVAL:
        return ScoresChange(("log-probabilities changed",))
    return _told(found, any(pair.token is not None for pair in alike), limits)


def _told(found: Beginnings, parted: bool, limits: Limits) -> ScoresChange:
    texts = len(found.reached.texts)
    where = (
        f"where both had read the same, at {found.positions:,} positions of {texts} prompts"
        if parted
        else f"of the {texts} texts that stay the same"
    )
    figures = (
        ("delta NLL", found.common.delta_nll, limits.delta_nll),
        ("KLD", found.reached.kld, limits.kld),
        ("same-top", found.reached.same_top, None),
    )
    measured = [each for each in figures if each[1].n >= LEAST_FOR_AN_INTERVAL]
    told = ", ".join(f"{name} {_figure(interval, limit, texts)}" for name, interval, limit in measured)
    worse = any(_is_beyond(interval, limit) for _, interval, limit in measured)
    return ScoresChange((f"log-probabilities {where}: {told}",), worse)


def _figure(interval: Interval, limit: float | None, texts: int) -> str:
    fewer = f" of {interval.n} prompts" if interval.n < texts else ""
    beyond = f" (beyond the limit {limit:.3f})" if _is_beyond(interval, limit) else ""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]{fewer}{beyond}"


def _is_beyond(interval: Interval, limit: float | None) -> bool:
    """Whether the whole interval is."""
    return limit is not None and interval.low > limit


def _other_floor(old: Golden, new: Golden, stayed: Sequence[Pair]) -> bool:
    same = {pair.name for pair in stayed if pair.token is None}
    before, after = (_by_prompt(each.floor) for each in (old, new))
    return any(before.get(name) != after.get(name) for name in same)


def _by_prompt(scores: ScoreSet | None) -> dict[str, Score]:
    """Return the scores of all texts; those of no tokens have none."""
    return {each.prompt_id: each for each in scores.scores if each.token_ids} if scores else {}
