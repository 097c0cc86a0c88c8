"""llama.cpp's statistics of divergence, under its names and in its units.

What ``llama-perplexity --kl-divergence`` prints (``tools/perplexity/perplexity.cpp`` of ggml-org/llama.cpp),
so that figures can be laid side by side. As there, errors are one standard error and take each token for
independent of the others; tokens of one text are not, so decisions here rest on intervals over prompts.
Unlike there, KLD comes from the top k (:mod:`~pytest_kvcache.measures.kld`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_TAILS = (("99.9%", 99.9), ("99.0%", 99.0), ("95.0%", 95.0), ("90.0%", 90.0))
_MIDDLE = (("Median", 50.0),)
_QUARTILES = (("75.0%", 75.0), ("Median", 50.0), ("25.0%", 25.0))
_LOW_TAILS = (("10.0%", 10.0), ("5.0%", 5.0), ("1.0%", 1.0), ("0.1%", 0.1))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its standard error; None where llama.cpp gives none."""

    value: float
    error: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.6f}" + ("" if self.error is None else f" ± {self.error:.6f}")


def statistics(
    nll: Floats, nll_base: Floats, kld: Floats, same_top: NDArray[np.bool_]
) -> dict[str, Estimate]:
    """Return llama.cpp's statistics by name, over tokens: float64[n] each, n at least 2.

    ``nll`` and ``nll_base`` are the candidate's (Q) and the baseline's (base) negative log-probabilities
    of the given tokens. KLD is in nats; Δp, Same top p and Cor are in per cent.
    """
    delta_p = 100 * (np.exp(-nll) - np.exp(-nll_base))
    return {
        **_perplexity(nll, nll_base),
        **dict(_spread("KLD", kld, _MIDDLE)),
        **dict(_spread("Δp", delta_p, _QUARTILES)),
        "RMS Δp": _root_mean_square(delta_p),
        "Same top p": _share(same_top),
    }


def _perplexity(nll: Floats, nll_base: Floats) -> dict[str, Estimate]:
    q, base, log_ratio = _mean(nll), _mean(nll_base), _mean(nll - nll_base)
    assert q.error is not None
    assert base.error is not None
    covariance = float(np.cov(nll, nll_base)[0, 1]) / nll.size
    ppl_q, ppl_base = _exponential(q), _exponential(base)
    spread_q, spread_base = ppl_q.value * q.error, ppl_base.value * base.error
    variance = spread_q * spread_q + spread_base * spread_base
    variance -= 2 * ppl_q.value * ppl_base.value * covariance
    errors = q.error * base.error
    return {
        "Mean PPL(Q)": ppl_q,
        "Mean PPL(base)": ppl_base,
        "Cor(ln(PPL(Q)), ln(PPL(base)))": Estimate(100 * covariance / errors if errors else math.nan),
        "Mean ln(PPL(Q)/PPL(base))": log_ratio,
        "Mean PPL(Q)/PPL(base)": _exponential(log_ratio),
        "Mean PPL(Q)-PPL(base)": Estimate(ppl_q.value - ppl_base.value, math.sqrt(max(variance, 0))),
    }


def _spread(
    name: str, values: Floats, middle: tuple[tuple[str, float], ...]
) -> Iterator[tuple[str, Estimate]]:
    yield f"Mean {name}", _mean(values)
    yield f"Maximum {name}", Estimate(float(values.max()))
    for label, percent in (*_TAILS, *middle, *_LOW_TAILS):
        yield f"{label} {name}", Estimate(float(np.percentile(values, percent)))
    yield f"Minimum {name}", Estimate(float(values.min()))


def _mean(values: Floats) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size))


def _exponential(log: Estimate) -> Estimate:
    """Return exp of an estimate, its error carried along to first order; infinite where no float holds it."""
    assert log.error is not None
    with np.errstate(over="ignore"):
        value = float(np.exp(log.value))
    return Estimate(value, value * log.error)


def _root_mean_square(values: Floats) -> Estimate:
    square = _mean(values**2)
    assert square.error is not None
    root = math.sqrt(square.value)
    return Estimate(root, square.error / (2 * root) if root else 0.0)


def _share(hits: NDArray[np.bool_]) -> Estimate:
    share = float(hits.mean())
    return Estimate(100 * share, 100 * math.sqrt(share * (1 - share) / (hits.size - 1)))
