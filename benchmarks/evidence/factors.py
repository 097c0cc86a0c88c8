"""The 2x2 experiment: attention (multi-head or grouped-query) by key bias (without or with)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evidence.baseline_text import PromptFigures, disagreement, nll
from evidence.bootstrap import Estimate, Floats, bootstrap
from evidence.recorded import BASELINE

ATTENTION = ("mha-rotated", "gqa")
FACTORS = ("mha-rotated", "gqa", "mha-rotated-kbias", "gqa-kbias")
"""Not ``mha`` and ``mha-kbias``: their heads are copies that round alike, so that they equal ``gqa`` and
``gqa-kbias`` by construction, and an effect of attention could not show."""
CONTRASTS = {
    "key bias (with less without)": (-0.5, -0.5, 0.5, 0.5),
    "attention (grouped-query less multi-head)": (-0.5, 0.5, -0.5, 0.5),
    "interaction (what bias adds in gqa less in mha)": (1.0, -1.0, -1.0, 1.0),
}
"""Weights of the four models in the order of FACTORS."""


def effects(figures: Mapping[tuple[str, str], PromptFigures], dtype: str) -> dict[str, Estimate]:
    """Return how much each factor adds under ``dtype``; nothing if a model of the four is missing.

    ``figures`` are those of models under ``dtype`` and under the baseline's.
    """
    if not all((model, dtype) in figures for model in FACTORS):
        return {}
    data = np.hstack([figures[model, of].columns() for model in FACTORS for of in (dtype, BASELINE)])
    return {
        f"{name}, {contrast}": bootstrap(data, _contrast(ratio, weights))
        for name, ratio in (("NLL", nll), ("disagreement", disagreement))
        for contrast, weights in CONTRASTS.items()
    }


def _contrast(ratio: Callable[[Floats], Floats], weights: Sequence[float]) -> Callable[[Floats], Floats]:
    def effect(sums: Floats) -> Floats:
        harms = [ratio(sums[..., 6 * i :]) - ratio(sums[..., 6 * i + 3 :]) for i in range(len(weights))]
        return np.asarray(np.tensordot(weights, np.array(harms), axes=1))

    return effect
