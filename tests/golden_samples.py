"""Goldens as an engine would give them: for the tests of the format, the directory and what reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from verdict_samples import PENALISED, PROVENANCE, prompt_set, prose, score, scores
from verdict_samples import output as _output

from pytest_kvcache.golden import GoldenDirectory
from pytest_kvcache.golden.layout import sealed
from pytest_kvcache.records import (
    EngineSpec,
    Golden,
    Message,
    Output,
    OutputSet,
    Prompt,
    PromptSet,
    Provenance,
    Sampling,
    ScoreSet,
)

FULL_PROVENANCE = replace(
    PROVENANCE,
    cpu_flags=("avx2", "avx512f"),
    versions=(("python", "3.11.7"), ("torch", "2.13.0"), ("vllm", "0.32.0")),
    environment=(("VLLM_CPU_OMP_THREADS_BIND", "0"), ("VLLM_NO_USAGE_STATS", "1")),
    max_num_seqs=256,
    max_num_batched_tokens=4096,
    enforce_eager=False,
    chunked_prefill=True,
    checkpoint_scales=0,
)


def golden(
    prompts: PromptSet | None = None,
    *,
    model: str = "ref:gqa",
    variant: str = "auto",
    text: Callable[[int], str] = prose,
    provenance: Provenance = FULL_PROVENANCE,
    logprobs: bool = True,
    **engine_args: str,
) -> Golden:
    """Return a golden with scores of all its texts and a floor of two, but for a penalised set."""
    prompts = prompts or prompt_set(8)
    spec = EngineSpec(model, variant, None, tuple(sorted(engine_args.items())), golden=variant)
    outputs = tuple(_output(prompt.id, text(i)) for i, prompt in enumerate(prompts.prompts))
    of = OutputSet(spec, prompts, replace(provenance, model=model), outputs, 2.5)
    if not logprobs or prompts.sampling.penalised:
        return Golden(variant, of, None, None)
    return Golden(variant, of, scores(of), floor(of))


def penalised(**how: Any) -> Golden:
    return golden(prompt_set(4, sampling=PENALISED), **how)


def floor(of: OutputSet) -> ScoreSet:
    """Score the first tokens of the first two texts by themselves."""
    made = tuple(score(output).first(5) for output in of.outputs[:2])
    return ScoreSet(of.spec, of.prompt_set, of.spec.key, made, 0.5)


AWKWARD_TEXTS = (
    "",
    "\n",
    "one\n\ntwo\n",
    "tab\t, escape \x1b[31m, nul \x00, delete \x7f, next line \x85",
    "bidi \u202e reversed \u2066, zero\u200bwidth, mark \ufeff, separator \u2028",
    '<<<<<<< ours\n=======\n>>>>>>> theirs\n::error::"quoted" \\ back\\slash',
    "emoji \U0001f468\u200d\U0001f469, lone \ud83d surrogate, tag \U000e0041, 中文 और हिन्दी",
    "carriage\r\nreturn\rvertical\x0btab\x0c",
)
"""Texts that a careless format would lose, or show as something that they are not."""


def awkward() -> Golden:
    """Return a golden of awkward texts, chat prompts, tasks and sampling, with a set that borrows nothing."""
    prompts = tuple(
        Prompt(
            f"p{i}",
            "chat",
            messages=(Message("system", "Be brief.\u202e"), Message("user", f"{text} asked")),
            answer="7" if i % 2 else '{"a": 1}',
            check="contains" if i % 2 else "json",
        )
        for i, text in enumerate(AWKWARD_TEXTS)
    )
    sampling = Sampling(max_tokens=32, temperature=0, stop=("\n\n", "\x1b"), seed=-3, frequency_penalty=0.1)
    of = golden(PromptSet("awkward.set-2", prompts, sampling), logprobs=False)
    outputs = tuple(
        Output(output.prompt_id, (), (0, 2**31 - 1), text, None if number else "stop")
        for number, (output, text) in enumerate(zip(of.outputs, AWKWARD_TEXTS, strict=True))
    )
    return replace(of, outputs=replace(of.outputs, outputs=outputs))


def put_in_version_1(path: Path) -> None:
    """Write a golden's text as the first version would have written it."""
    value = json.loads(path.read_bytes())
    value["schema_version"] = 1
    for name in ("enforce_eager", "chunked_prefill", "checkpoint_scales", "scales_differ"):
        value["provenance"].pop(name, None)
    for name in ("preemptions", "checksum"):
        value.pop(name, None)
    path.write_bytes(sealed(value))


def files(directory: GoldenDirectory) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.root.rglob("*") if path.is_file()}


def found(directory: GoldenDirectory, of: Golden, platforms: tuple[str, ...] = ("cpu",)) -> Golden:
    return directory.find(of.outputs.spec.model, of.variant, of.prompt_set, platforms)
