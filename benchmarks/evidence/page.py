"""The page: what the reference models do under each kv dtype, in tables and samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evidence.bootstrap import Estimate
from evidence.factors import ATTENTION, FACTORS
from evidence.rows import Against, Row
from evidence.tables import position, table
from pytest_kvcache.measures.paired import Interval
from pytest_kvcache.records import PromptSet
from pytest_kvcache.report.table import NOTHING, figure
from pytest_kvcache.text import printable

ENDPOINTS = {
    "delta_nll": "delta NLL",
    "kld": "KLD",
    "same_top_loss": "same-top loss",
    "degenerate_excess": "degenerate excess",
    "suspicious_excess": "suspicious excess",
    "recall_loss": "recall loss",
}
"""The endpoints that are shown, with their headings."""
TELLING = ("ref:gqa", "ref:gqa-kbias-64", "ref:gqa-kbias")
"""Models whose KLD is shown by position: one healthy, one hardly harmed, one ruined."""
QUOTED = (
    "ref:gqa",
    "ref:gqa-kbias",
    "ref:mha-rotated-kbias",
    "ref:gqa-kbias-half",
    "ref:gqa-kbias-64",
    "ref:gqa-kbias-gptq",
)
"""Models whose texts are shown."""
SAMPLE_CHARS = 240


def page(
    rows: Sequence[Row], effects: Mapping[str, Mapping[str, Estimate]], prompt_sets: Sequence[PromptSet]
) -> Iterator[str]:
    """Yield the whole page, line by line."""
    pairs = [(row, row.against) for row in rows if row.against]
    yield from _introduction(rows, pairs, prompt_sets)
    yield from _judged(pairs, rows[0].prompts)
    yield from _along(pairs)
    yield from _engines(rows, prompt_sets[1].sampling.repetition_penalty)
    if effects:
        yield "\n## The 2x2 experiment"
    for dtype, of in effects.items():
        yield from _two_by_two(dtype, of, rows)
    yield from _samples([row for row in rows if row.model in QUOTED])


def _introduction(
    rows: Sequence[Row], pairs: Sequence[tuple[Row, Against]], prompt_sets: Sequence[PromptSet]
) -> Iterator[str]:
    plain, penalised, tasks = prompt_sets
    engines = "; ".join(sorted({row.engine for row in rows}))
    yield INTRODUCTION.format(
        engines=engines,
        plain=_described(plain),
        penalised=_described(penalised),
        penalty=penalised.sampling.repetition_penalty,
        tasks=_described(tasks),
        models=len({row.model for row in rows}),
        answered=", ".join(
            f"{sum(row.tasks > 0 for row in rows if row.kv_dtype == dtype)} under `{dtype}`"
            for dtype in dict.fromkeys(row.kv_dtype for row in rows)
        ),
    )
    without = sum(not of.has_floor for _, of in pairs)
    if without:
        yield WITHOUT_FLOOR.format(without=without, all=len(pairs))


def _described(prompts: PromptSet) -> str:
    return f"`{prompts.name}` ({len(prompts.prompts)} prompts, at most {prompts.sampling.max_tokens} tokens)"


def _judged(pairs: Sequence[tuple[Row, Against]], prompts: int) -> Iterator[str]:
    yield JUDGED
    head = ("model", "kv dtype", "verdict", *ENDPOINTS.values(), "parts at", f"equal of {prompts}")
    yield from table(head, [_judged_cells(*pair) for pair in pairs])


def _judged_cells(row: Row, of: Against) -> tuple[object, ...]:
    shown = (figure(of.metrics.get(name)) for name in ENDPOINTS)
    parts = position(of.metrics.get("first_divergence"))
    return (row.model, row.kv_dtype, of.verdict, *shown, parts, row.same_as_baseline)


def _along(pairs: Sequence[tuple[Row, Against]]) -> Iterator[str]:
    growths = [of.growth for _, of in pairs]
    falling, growing = sum(g.high < 0 for g in growths), sum(g.low > 0 for g in growths)
    yield ALONG.format(falling=falling, growing=growing, all=len(growths))
    yield from table(
        ("model", "kv dtype", "growth per 100 tokens"),
        [(row.model, row.kv_dtype, _signed(of.growth)) for row, of in pairs],
    )
    yield from _by_position([(row, of) for row, of in pairs if row.model in TELLING])


def _by_position(pairs: Sequence[tuple[Row, Against]]) -> Iterator[str]:
    if not pairs:
        return
    bins = max((of.positions for _, of in pairs), key=len)
    own = {row.model: of.baseline_nll for row, of in pairs}
    yield BY_POSITION
    yield from table(
        ("model", "kv dtype", *(f"{each.start} to {each.end}" for each in bins)),
        [
            *((model, "auto", *(f"NLL {value:.2f}" for value in values)) for model, values in own.items()),
            *((row.model, row.kv_dtype, *(_plain(each.kld) for each in of.positions)) for row, of in pairs),
        ],
    )


def _engines(rows: Sequence[Row], penalty: float) -> Iterator[str]:
    yield ENGINES
    head = ("model", "kv dtype", "scored tokens", "NLL", "delta NLL of all tokens", "top-1 agreement")
    tasks = max(row.tasks for row in rows)
    counts = ("loops", f"loops, penalty {penalty}", "empty", "mean tokens", f"right answers of {tasks}")
    yield from table((*head, *counts), map(_engine_cells, rows))


def _engine_cells(row: Row) -> tuple[object, ...]:
    scored = (f"{row.nll.value:.3f}", f"{row.delta_nll:+.3f}", f"{row.top1_agreement:.3f}")
    right = row.right_answers if row.tasks else NOTHING
    counts = (row.loops, row.loops_penalised, row.empty, f"{row.mean_tokens:.0f}", right)
    return (row.model, row.kv_dtype, row.scored_tokens, *scored, *counts)


def _two_by_two(dtype: str, effects: Mapping[str, Estimate], rows: Sequence[Row]) -> Iterator[str]:
    cells = {
        row.model: f"{row.delta_nll.value:+.3f} / {row.top1_agreement.value:.3f} / {row.loops_penalised}"
        for row in rows
        if row.kv_dtype == dtype
    }
    without, biased = FACTORS[:2], FACTORS[2:]
    yield f"\nUnder `{dtype}`: delta NLL / top-1 agreement / loops with the penalty.\n"
    yield from table(
        ("", "no key bias", "key bias 512"),
        [
            (attention, cells[f"ref:{plain}"], cells[f"ref:{bias}"])
            for attention, plain, bias in zip(ATTENTION, without, biased, strict=True)
        ],
    )
    yield ""
    yield from table(
        ("effect on", "size"), [(name, f"{estimate:+.3f}") for name, estimate in effects.items()]
    )


def _samples(rows: Sequence[Row]) -> Iterator[str]:
    yield f"\n## What they wrote\n\nThe same prompts for {len({row.model for row in rows})} of the models.\n"
    yield from table(
        ("model", "kv dtype", "prompt", "begins"),
        [
            (row.model, row.kv_dtype, prompt, _quoted(text))
            for row in rows
            for prompt, text in row.samples.items()
        ],
    )


def _quoted(text: str) -> str:
    shown = printable(text, SAMPLE_CHARS).replace("|", "\\|").replace("`", "'")
    return f"`{shown}`" if shown else "(empty)"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def _plain(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


INTRODUCTION = """\
# Evidence about the reference models

Written by `python benchmarks/reference_models.py` ([how to read it](reference-models.md#evidence)), from
engines on one core each ({engines}). Prompt sets: {plain}; {penalised}, with a `repetition_penalty` of
{penalty}; and {tasks}. Every figure covers all {models} models, but for right answers and recall loss: tasks
were recorded of as many models as follows: {answered}. Verdicts are those of the default limits. Endpoints
are means over prompts, also where a degenerate baseline voids the verdict. Outputs "part" from those under
`auto` at a median position, in tokens, over those that do; "equal" counts those that never do.
"""

WITHOUT_FLOOR = """\
Of the {all} candidates {without} were judged with a noise floor of zero, because their baselines were
recorded before floors were; the gate itself would not pass them without one.
"""

JUDGED = """\
## Every model under every kv dtype

NLL in nats per token of the model's own `auto` text; 95 % intervals.
"""

ALONG = """
## Along the text

How much KLD grows over 100 tokens of the `auto` text, in nats, with 95 % intervals over prompts
([how](measures.md#divergencecandidate-baseline)). Above 0 errors pile up in the cache. With its whole
interval it falls for {falling} of {all} candidates and grows for {growing}.
"""

BY_POSITION = """
KLD by position, in tokens of the text, and how hard the text is to foretell there for the engine that wrote
it:
"""

ENGINES = """
## What each engine made of it

Of the `auto` text of its model, and of the prompts:
"""
