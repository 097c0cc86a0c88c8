"""Assertions for a team's own tests. They raise :class:`~pytest_kvcache.errors.QualityError`.

Those about outputs take one (an ``Output``, a text, or token ids) or many (an ``OutputSet``, the planned
outputs of a test, or outputs or texts one after the other, each output of another prompt). A message names
every output that failed, shows the first three, and holds no control characters. What they cannot judge they
refuse with a :class:`~pytest_kvcache.errors.UsageError`: one line that names the argument and what it takes.
"""

from pytest_kvcache.assertions.goldens import assert_matches_golden
from pytest_kvcache.assertions.outputs import (
    assert_degeneration_within,
    assert_no_ngram_repetition,
    assert_not_degenerate,
    assert_penalties_effective,
)
from pytest_kvcache.assertions.recall import assert_recall
from pytest_kvcache.assertions.scores import assert_divergence_within
from pytest_kvcache.assertions.stops import assert_stops_obeyed

__all__ = [
    "assert_degeneration_within",
    "assert_divergence_within",
    "assert_matches_golden",
    "assert_no_ngram_repetition",
    "assert_not_degenerate",
    "assert_penalties_effective",
    "assert_recall",
    "assert_stops_obeyed",
]
