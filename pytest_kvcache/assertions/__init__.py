"""Assertions for a team's own tests. They raise :class:`~pytest_kvcache.errors.QualityError`.

Those about outputs take one (an ``Output``, a text, or token ids) or many (an ``OutputSet``, the planned
outputs of a test, or outputs or texts one after the other, each output of another prompt). A message names
every output that failed, shows the first three, and holds no control characters. What they cannot judge they
refuse with a :class:`~pytest_kvcache.errors.UsageError`: one line that names the argument and what it takes.
"""

from pytest_kvcache.assertions.baselines import assert_baseline_sound
from pytest_kvcache.assertions.conditions import assert_conditions_alike
from pytest_kvcache.assertions.drift import assert_language_kept, assert_topic_kept
from pytest_kvcache.assertions.finite import assert_finite
from pytest_kvcache.assertions.goldens import assert_matches_golden
from pytest_kvcache.assertions.lengths import assert_lengths_within
from pytest_kvcache.assertions.nonsense import assert_nonsense_within
from pytest_kvcache.assertions.outputs import (
    assert_degeneration_within,
    assert_no_ngram_repetition,
    assert_not_degenerate,
    assert_penalties_effective,
)
from pytest_kvcache.assertions.penalties import assert_penalties_heeded
from pytest_kvcache.assertions.recall import assert_recall
from pytest_kvcache.assertions.scales import assert_scales_loaded
from pytest_kvcache.assertions.scores import assert_divergence_within
from pytest_kvcache.assertions.settings import assert_settings_kept
from pytest_kvcache.assertions.stops import assert_stops_obeyed

__all__ = [
    "assert_baseline_sound",
    "assert_conditions_alike",
    "assert_degeneration_within",
    "assert_divergence_within",
    "assert_finite",
    "assert_language_kept",
    "assert_lengths_within",
    "assert_matches_golden",
    "assert_no_ngram_repetition",
    "assert_nonsense_within",
    "assert_not_degenerate",
    "assert_penalties_effective",
    "assert_penalties_heeded",
    "assert_recall",
    "assert_scales_loaded",
    "assert_settings_kept",
    "assert_stops_obeyed",
    "assert_topic_kept",
]
