"""Records: the plain data that every stage of a run hands to the next one.

Frozen dataclasses over the standard library alone. Everything imports this package; it imports
nothing of the others. Arrays are ``bytes`` of little-endian float32 or int32, so that records stay
hashable, travel through sockets and files unchanged, and become numpy arrays without a copy
(``numpy.frombuffer(score.logprobs, "<f4")``).
"""

from pytest_kvcache.records.asked import (
    Check,
    Declared,
    EngineSpec,
    GoldenUse,
    Json,
    Message,
    Prompt,
    PromptSet,
    PromptSetUse,
    Sampling,
    content_key,
)
from pytest_kvcache.records.concluded import (
    QUALITY_CODES,
    Coverage,
    DivergenceDetail,
    Estimate,
    Excerpt,
    KindFigures,
    Metric,
    PositionFigure,
    Reason,
    ReasonCode,
    Signal,
    Verdict,
    VerdictKind,
)
from pytest_kvcache.records.given import (
    EngineReport,
    Golden,
    Output,
    OutputSet,
    PlannedGoldens,
    PlannedOutputs,
    PlannedScores,
    Provenance,
    Score,
    ScoreRequest,
    ScoreSet,
    ScoringPath,
)

__all__ = [
    "QUALITY_CODES",
    "Check",
    "Coverage",
    "Declared",
    "DivergenceDetail",
    "EngineReport",
    "EngineSpec",
    "Estimate",
    "Excerpt",
    "Golden",
    "GoldenUse",
    "Json",
    "KindFigures",
    "Message",
    "Metric",
    "Output",
    "OutputSet",
    "PlannedGoldens",
    "PlannedOutputs",
    "PlannedScores",
    "PositionFigure",
    "Prompt",
    "PromptSet",
    "PromptSetUse",
    "Provenance",
    "Reason",
    "ReasonCode",
    "Sampling",
    "Score",
    "ScoreRequest",
    "ScoreSet",
    "ScoringPath",
    "Signal",
    "Verdict",
    "VerdictKind",
    "content_key",
]
