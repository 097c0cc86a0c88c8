"""pytest-kvcache: is a model still safe to serve with a quantized KV cache?

The public face. Names load on first use, so that importing the package costs nothing: neither numpy
nor an engine is imported before something needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kvcache.assertions import (
        assert_baseline_sound,
        assert_conditions_alike,
        assert_degeneration_within,
        assert_divergence_within,
        assert_finite,
        assert_language_kept,
        assert_lengths_within,
        assert_matches_golden,
        assert_no_ngram_repetition,
        assert_nonsense_within,
        assert_not_degenerate,
        assert_penalties_effective,
        assert_penalties_heeded,
        assert_recall,
        assert_scales_loaded,
        assert_settings_kept,
        assert_stops_obeyed,
        assert_topic_kept,
    )
    from pytest_kvcache.errors import EngineError, KvCacheError, QualityError, UsageError
    from pytest_kvcache.handle import EngineHandle
    from pytest_kvcache.measures.degeneration import find_degeneration
    from pytest_kvcache.measures.divergence import Divergence, divergence, first_divergence
    from pytest_kvcache.measures.repetition import ngram_repetition
    from pytest_kvcache.policy import Limits
    from pytest_kvcache.records import (
        EngineSpec,
        Golden,
        Message,
        Metric,
        Output,
        OutputSet,
        PlannedConditions,
        PlannedGoldens,
        PlannedOutputs,
        PlannedScores,
        Prompt,
        PromptSet,
        Provenance,
        Reason,
        ReasonCode,
        Sampling,
        Score,
        ScoreSet,
        Signal,
        Verdict,
        VerdictKind,
    )

    __version__: str

_HOMES = {
    "assertions": (
        "assert_baseline_sound",
        "assert_language_kept",
        "assert_topic_kept",
        "assert_finite",
        "assert_lengths_within",
        "assert_nonsense_within",
        "assert_penalties_heeded",
        "assert_scales_loaded",
        "assert_settings_kept",
        "assert_conditions_alike",
        "assert_degeneration_within",
        "assert_divergence_within",
        "assert_matches_golden",
        "assert_no_ngram_repetition",
        "assert_not_degenerate",
        "assert_penalties_effective",
        "assert_recall",
        "assert_stops_obeyed",
    ),
    "errors": ("EngineError", "KvCacheError", "QualityError", "UsageError"),
    "handle": ("EngineHandle",),
    "measures.degeneration": ("find_degeneration",),
    "measures.divergence": ("Divergence", "divergence", "first_divergence"),
    "measures.repetition": ("ngram_repetition",),
    "policy": ("Limits",),
    "records": (
        "EngineSpec",
        "Golden",
        "Message",
        "Metric",
        "Output",
        "OutputSet",
        "PlannedConditions",
        "PlannedGoldens",
        "PlannedOutputs",
        "PlannedScores",
        "Prompt",
        "PromptSet",
        "Provenance",
        "Reason",
        "ReasonCode",
        "Sampling",
        "Score",
        "ScoreSet",
        "Signal",
        "Verdict",
        "VerdictKind",
    ),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("pytest-kvcache")
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, "__version__"})


__all__ = [
    "Divergence",
    "EngineError",
    "EngineHandle",
    "EngineSpec",
    "Golden",
    "KvCacheError",
    "Limits",
    "Message",
    "Metric",
    "Output",
    "OutputSet",
    "PlannedConditions",
    "PlannedGoldens",
    "PlannedOutputs",
    "PlannedScores",
    "Prompt",
    "PromptSet",
    "Provenance",
    "QualityError",
    "Reason",
    "ReasonCode",
    "Sampling",
    "Score",
    "ScoreSet",
    "Signal",
    "UsageError",
    "Verdict",
    "VerdictKind",
    "__version__",
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
    "divergence",
    "find_degeneration",
    "first_divergence",
    "ngram_repetition",
]
