"""Which goldens a command makes: those that are there, by what they say of themselves, or new ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from pytest_kvcache.cli._chosen import chosen
from pytest_kvcache.cli._common import say
from pytest_kvcache.dtypes import check_dtype, check_runnable, is_quantized
from pytest_kvcache.engines.devices import platforms
from pytest_kvcache.errors import GoldenError, UsageError
from pytest_kvcache.files import slug
from pytest_kvcache.golden import GoldenDirectory, GoldenName, read
from pytest_kvcache.golden_use import check_namesakes
from pytest_kvcache.models import check_model
from pytest_kvcache.plan import Target, is_scored
from pytest_kvcache.policy import Policy
from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets
from pytest_kvcache.records import EngineSpec, Golden, PromptSet
from pytest_kvcache.redact import HIDDEN
from pytest_kvcache.refresh import Want, merge
from pytest_kvcache.text import listed


def again(directory: GoldenDirectory, files: Sequence[Path]) -> tuple[Want, ...]:
    """Return what makes the goldens in ``files`` anew, or all that this machine can make.

    Those of another platform are left out if they are not named, and that is said. Raises `UsageError`
    if they are named, if nothing is left, if a golden's model is not there, and if an engine argument of one
    held a secret.
    """
    goldens = chosen(directory, files)
    for name in [name for name in goldens if name.platform not in platforms()]:
        elsewhere = f"{goldens.pop(name)} is of platform {name.platform}, and this machine is of another"
        if files:
            raise UsageError(f"{elsewhere}: leave it out here")
        say(f"kvcache: {elsewhere}: it is left as it is")
    if not goldens:
        raise UsageError(f"no golden in {directory.root} is of this machine's platform: nothing can be made")
    there = {path: _read(path, name) for name, path in goldens.items()}
    for path, golden in there.items():
        _check_nothing_hidden(path, golden.outputs.spec)
        _check_directory(path, golden)
    return tuple(map(want_again, there.values()))


def new(
    models: Iterable[str], dtypes: Iterable[str], prompt_sets: Iterable[str], policy: Policy
) -> tuple[Want, ...]:
    """Return what makes the goldens of every model under every kv dtype for every prompt set.

    Prompt sets are shipped ones by their name, or files. The policy says what chat templates are told.
    Raises `UsageError` for what does not exist, and for two sets of one name.
    """
    sets = [(name, load_prompt_set(name)) for name in prompt_sets]
    specs = dict.fromkeys(
        EngineSpec(model, check_dtype(dtype), engine_args=policy.template_arguments(model))
        for model, dtype in product(models, dtypes)
    )
    wants = [(name, _want(spec, spec.kv_cache_dtype, each)) for spec in specs for name, each in sets]
    check_namesakes(((name, want.target.golden, want.prompt_set) for name, want in wants), Path())
    return merge(want for _, want in wants)


def want_again(golden: Golden) -> Want:
    """Return what makes a golden anew: its own engine, and its prompts as they are `today`.

    One that was stored without log-probabilities stays without.
    """
    spec = replace(golden.outputs.spec, golden=None)
    had_scores = golden.scores is not None or not is_scored(golden.prompt_set)
    return _want(spec, golden.variant, today(golden.prompt_set), logprobs=had_scores)


def may_be_baseline(variant: str, spec: EngineSpec) -> bool:
    """Whether candidates can be held against a golden: that of a plain kv dtype which is not quantized."""
    return variant == spec.kv_cache_dtype and not is_quantized(spec.kv_cache_dtype)


def today(stored: PromptSet) -> PromptSet:
    """Return a stored prompt set as it is now.

    A shipped set is taken as the package has it now, but for the number of tokens, which is part of
    the golden's name. A team's own is taken as it was stored, for a golden does not know the file; one
    of a shipped set's name is known by any prompt whose id the shipped set does not have.
    """
    if stored.name not in shipped_prompt_sets():
        return stored
    shipped = load_prompt_set(stored.name, max_tokens=stored.sampling.max_tokens)
    ids = {prompt.id for prompt in shipped.prompts}
    return shipped if all(prompt.id in ids for prompt in stored.prompts) else stored


def _want(spec: EngineSpec, variant: str, prompt_set: PromptSet, *, logprobs: bool = True) -> Want:
    """Raises `UsageError` if the model is not there, or the kv dtype cannot run here."""
    check_model(spec.model)
    check_runnable([spec.kv_cache_dtype])
    name = f"{slug(spec.model.removeprefix('ref:').rstrip('/').rpartition('/')[2])}-{variant}"
    target = Target(
        id=name,
        spec=spec,
        kv_dtype=spec.kv_cache_dtype,
        variant=None if variant == spec.kv_cache_dtype else variant,
        baseline=spec,
        baseline_id=name,
    )
    return Want(target, prompt_set, may_be_baseline(variant, spec), logprobs)


def _check_nothing_hidden(path: Path, spec: EngineSpec) -> None:
    """Raise `UsageError` if an engine of ``spec`` would be given the mark of a secret in its place."""
    hidden = [name for name, value in spec.engine_args if HIDDEN in value]
    hidden += ["revision"] if HIDDEN in (spec.revision or "") else []
    if hidden:
        raise UsageError(
            f"{path}: the engine argument {listed(hidden)} held a secret, which no golden keeps: give it in "
            "the environment (HF_TOKEN) and refresh with pytest --kv-golden-update=all"
        )


def _check_directory(path: Path, golden: Golden) -> None:
    """Raise `UsageError` if a golden's model is a directory that is not there: no hub has it."""
    model = golden.outputs.spec.model
    is_directory = golden.outputs.provenance.model_id.startswith("sha256:") and not model.startswith("ref:")
    if is_directory and not Path(model).is_dir():
        raise UsageError(
            f"{path}: its model is the directory {model}, which is not there: run this in pytest's root "
            "directory, or say where it is by --kv-models=DIRECTORY and --prompts=SET"
        )


def _read(path: Path, name: GoldenName) -> Golden:
    try:
        return read(path)
    except GoldenError as error:
        raise GoldenError(
            f"{error}; as it cannot say what it is of, name that to write it anew: kvcache golden refresh "
            f"--kv-models=MODEL --prompts={name.prompt_set} --kv-dtypes={name.variant}"
        ) from None
