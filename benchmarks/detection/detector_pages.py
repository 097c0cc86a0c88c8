"""``docs/detectors/figures.md``: of each signal, its false alarms, recall and cost, from kept results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from detection.evaluate import Evaluation, Result
from detection.markdown import markdown_table
from detection.rates import Rule, by_key, fails_or_warns, share
from detection.real import documents
from detection.report import cell
from detection.speed import Speed

WORST_KINDS = 3


class Detector(NamedTuple):
    """One kind of signal: its page in ``docs/detectors/`` and the damage that it is for."""

    signal: str
    page: str
    damage: tuple[str, ...]


DETECTORS = (
    Detector("loop", "loop", ("loop",)),
    Detector("stuck", "loop", ("stuck-token", "stuck-char")),
    Detector("near-loop", "near-loop", ("loop", "numbered-loop", "paraphrase-loop")),
    Detector("blanks", "blanks", ("blanks",)),
    Detector("special-tokens", "special-tokens", ("special-tokens",)),
    Detector("soup", "soup", ("soup",)),
    Detector("small-soup", "soup", ("small-soup",)),
    Detector("corruption", "corruption", ("corruption",)),
    Detector("mixed-scripts", "mixed-scripts", ("mixed-scripts",)),
    Detector("script-flip", "mixed-scripts", ("script-flip",)),
    Detector("mojibake", "mojibake", ("mojibake",)),
    Detector("replacement", "mojibake", ("replacement",)),
    Detector("language-flip", "language-flip", ("language-flip",)),
    Detector("empty", "length", ("empty",)),
    Detector("early-end", "length", ("early-end",)),
    Detector("runaway", "length", ("runaway",)),
)
"""Those that look at every output; ``improbable`` needs scores, and has tables of its own."""
IMPROBABLE = Detector("improbable", "improbable", ())
BESIDE_A_BASELINE = frozenset({"early-end", "runaway"})
"""Signals that no healthy document can raise, since none has a baseline's output."""
BY_NOISE = frozenset({"loop", "corruption"})
"""Damage that is made with a few levels of noise."""

MODULES: Mapping[str, str] = {
    "loops": "loop",
    "near_loops": "near-loop",
    "blanks": "blanks",
    "special": "special-tokens",
    "soup": "soup",
    "corruption": "corruption",
    "scripts": "mixed-scripts",
    "encoding": "mojibake",
    "language": "language-flip",
}
"""Modules of detectors by name, and their pages."""

HEAD = (
    "Of each signal, on the {half} half of the corpus. Shares are percent with Wilson's 95 % intervals. What "
    "all detectors find together, and published rules beside them, is told in "
    "[the results](../detection-results.md)."
)
FALSE_ALARMS = (
    "Healthy documents with the signal, of {count:,}. The worst kinds are those whose interval has the "
    "highest lower end. Nothing can end early or run away here: these have no baseline's output beside them."
)
RECALL = "Damaged documents with this signal, and with any signal at all."
WITH_SCORES = (
    "Documents of which the baseline gave its log-probabilities, and outputs of reference models that "
    "readers have labelled; other labels of outputs rest on log-probabilities themselves."
)
COST = (
    "Microseconds for an output of 512 tokens and its text, about: "
    "[the time of all detectors](../detection-speed.md), shared out as a profiler does. What several of them "
    "need of a text counts where it is made first. A dash: below half a percent."
)


def figures(evaluation: Evaluation, speed: Speed | None = None) -> str:
    """Return the page as Markdown; without a speed, it tells no cost."""
    healthy = [result for result in evaluation.documents if result.is_healthy]
    damaged = [result for result in evaluation.documents if not result.is_healthy]
    sections = (
        "# Detectors, figures",
        "<!-- Written by `make detection`; do not edit. -->",
        HEAD.format(half=evaluation.half),
        "## False alarms",
        FALSE_ALARMS.format(count=len(healthy)),
        _false_alarms(healthy),
        "## Recall",
        RECALL,
        _recall(damaged),
        "## With the baseline's log-probabilities",
        WITH_SCORES,
        _with_scores(evaluation),
        *(_costs(speed) if speed else ()),
    )
    return "\n\n".join(sections) + "\n"


def of_signal(signal: str, *severities: str) -> Rule:
    """Return whether a result has such a signal, of one of the severities if any are named."""
    return lambda result: any(
        each.kind == signal and (not severities or each.severity in severities) for each in result.signals
    )


def _false_alarms(healthy: Sequence[Result]) -> str:
    rows = []
    for detector in DETECTORS:
        if detector.signal not in BESIDE_A_BASELINE:
            fail, warned = _severities(detector.signal)
            worst = "; ".join(_worst_kinds(healthy, of_signal(detector.signal)))
            rows.append((_link(detector), cell(share(healthy, fail)), cell(share(healthy, warned)), worst))
    return markdown_table(("signal", "fail", "warning only", "worst kinds, both"), rows)


def _severities(signal: str) -> tuple[Rule, Rule]:
    fail = of_signal(signal, "fail")
    any_severity = of_signal(signal)
    return fail, lambda result: any_severity(result) and not fail(result)


def _worst_kinds(healthy: Sequence[Result], rule: Rule) -> Iterator[str]:
    shares = [(str(kind), share(group, rule)) for (kind,), group in by_key(healthy, lambda r: (r.kind,))]
    alarmed = [(kind, each) for kind, each in shares if each and each.value > 0]
    for kind, each in sorted(alarmed, key=lambda pair: -pair[1].low)[:WORST_KINDS]:
        yield f"{kind} {cell(each)}"


def _recall(damaged: Sequence[Result]) -> str:
    rows = [
        (_link(detector), damage, f"{len(group):,}", *_found(group, detector.signal))
        for detector in DETECTORS
        for damage, group in _groups(damaged, detector)
    ]
    return markdown_table(("signal", "damage", "documents", "fail", "fail or warning", "any signal"), rows)


def _groups(damaged: Sequence[Result], detector: Detector) -> Iterator[tuple[str, list[Result]]]:
    """Yield the damage that a signal is for, in its order, by noise where it was made with some."""
    for kind in detector.damage:
        group = [result for result in damaged if result.kind == kind]
        if kind not in BY_NOISE:
            yield kind, group
            continue
        for (noise,), noisy in by_key(group, lambda r: (r.damage and r.damage.noise,)):
            yield f"{kind}, {noise:.0%} noise", noisy


def _found(group: Sequence[Result], signal: str) -> Iterator[str]:
    rules = (of_signal(signal, "fail"), of_signal(signal), fails_or_warns)
    return (cell(share(group, rule)) for rule in rules)


def _with_scores(evaluation: Evaluation) -> str:
    read = {real.id for real in documents(evaluation.half) if real.hand}
    rows = []
    for what, results in (
        ("documents", evaluation.scored),
        ("outputs", [result for result in evaluation.real if result.id in read]),
    ):
        for (is_healthy, kind), group in by_key(results, lambda r: (r.is_healthy, r.kind)):
            health = "healthy" if is_healthy else "damaged"
            found = _found(group, IMPROBABLE.signal)
            rows.append((_link(IMPROBABLE), what, health, str(kind), f"{len(group):,}", *found))
    head = ("signal", "", "", "kind", "number", "fail", "fail or warning", "any signal")
    return markdown_table(head, rows)


def _costs(speed: Speed) -> Iterator[str]:
    per_output = 1e3 * speed.throughput[0].milliseconds_per_output
    shares = dict(speed.shares)
    yield "## Cost"
    yield COST
    rows = [
        (
            f"[{page}]({page}.md)",
            f"`{module}`",
            f"{shares[module] * per_output:.0f}" if module in shares else "–",
        )
        for module, page in MODULES.items()
    ]
    yield markdown_table(("page", "module", "µs per output"), [*rows, ("**all**", "", f"{per_output:.0f}")])


def _link(detector: Detector) -> str:
    return f"[{detector.signal}]({detector.page}.md)"
