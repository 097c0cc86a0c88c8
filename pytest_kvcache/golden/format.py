"""Format: a golden to the bytes of its two files and back.

The same golden gives the same bytes, and what was encoded was read back first: nothing is kept that
would not be found again as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden.damage import DamageError
from pytest_kvcache.golden.document import (
    Document,
    OutputFields,
    PromptSetFields,
    ProvenanceFields,
    SidecarFields,
)
from pytest_kvcache.golden.layout import sealed
from pytest_kvcache.golden.migrate import VERSION
from pytest_kvcache.golden.names import GoldenName, name_of
from pytest_kvcache.golden.parsing import parse
from pytest_kvcache.golden.sidecar import Texts, pack, unpack
from pytest_kvcache.records import (
    Counts,
    EngineSpec,
    Golden,
    Json,
    Message,
    Output,
    OutputSet,
    Prompt,
    PromptSet,
    Provenance,
    Sampling,
    Score,
    ScoreSet,
)
from pytest_kvcache.redact import HIDDEN, redact, redact_spec
from pytest_kvcache.text import printable

_DEVICE_VARIABLES = frozenset({"VLLM_CPU_OMP_THREADS_BIND"})
"""Variables that only say which device an engine was given."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of a golden's two files."""

    text: bytes
    sidecar: bytes
    sidecar_name: str


def encode(golden: Golden) -> Encoded:
    """Return a golden as the bytes of its files; what two equal runs do not share is left out.

    Raises GoldenError for outputs that are not those of the prompts, for scores of other texts, and for
    anything else that could not be read back as it is.
    """
    golden = as_kept(golden)
    name = name_of(golden)
    _check_model(golden.outputs.spec.model)
    try:
        sidecar = pack(golden.outputs.outputs, _scores(golden.scores), _scores(golden.floor))
        digest = hashlib.sha256(sidecar).hexdigest()
        text = sealed(_written(golden, {"file": name.sidecar_file(digest), "sha256": digest}))
        if decode(text, lambda _name, _limit: sidecar) != golden:
            raise DamageError("it would not be read back as it is")
    except (ValueError, msgspec.MsgspecError) as error:
        raise GoldenError(printable(f"the golden of {name} cannot be kept: {error}", 500)) from None
    return Encoded(text, sidecar, name.sidecar_file(digest))


def as_kept(golden: Golden) -> Golden:
    """Return a golden as it is read back once it is written: without secrets, seconds, paths and devices."""
    of = golden.outputs
    spec = redact_spec(replace(of.spec, golden=golden.variant))
    provenance = provenance_as_kept(of.provenance)
    return Golden(
        variant=golden.variant,
        outputs=OutputSet(
            spec, of.prompt_set, provenance, of.outputs, 0.0, Counts(preemptions=of.counts.preemptions)
        ),
        scores=_score_set(spec, of.prompt_set, _scores(golden.scores)),
        floor=_score_set(spec, of.prompt_set, _scores(golden.floor)),
    )


def provenance_as_kept(provenance: Provenance) -> Provenance:
    """Return a provenance as a golden keeps it: what differs between two equal runs is blank."""
    environment = tuple(
        (name, redact(value)) for name, value in provenance.environment if name not in _DEVICE_VARIABLES
    )
    return replace(provenance, model=redact(provenance.model), environment=environment, **_BLANK)


def decode(text: bytes, sidecar: Callable[[str, int], bytes]) -> Golden:
    """Return the golden that a text file and the sidecar it names hold. Raises DamageError.

    ``sidecar`` returns the content of the file of a name, at least one byte more than a limit if it has more.
    """
    document = parse(text)
    prompt_set, provenance = _prompt_set(document.prompt_set), _provenance(document.provenance)
    name = GoldenName(
        document.model,
        prompt_set.name,
        prompt_set.sampling.max_tokens,
        document.variant,
        provenance.platform,
    )
    texts = Texts(
        [(output.prompt_id, output.token_ids) for output in document.outputs],
        provenance.max_model_len,
        len(text),
    )
    packed = _sidecar(document.sidecar, name, sidecar, texts.most_bytes)
    try:
        parts = unpack(packed, texts)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise DamageError(f"its sidecar {document.sidecar.file} is damaged: {error}") from None
    spec = _spec(document)
    outputs = _outputs(document.outputs, prompt_set, parts.prompt_token_ids)
    return Golden(
        variant=document.variant,
        outputs=OutputSet(
            spec, prompt_set, provenance, outputs, 0.0, Counts(preemptions=document.preemptions)
        ),
        scores=_score_set(spec, prompt_set, parts.scores),
        floor=_score_set(spec, prompt_set, parts.floor),
    )


_BLANK: dict[str, Any] = {
    "model_path": "",
    "device_ids": (),
    "kv_capacity_tokens": 0,
    "seconds_to_load": 0.0,
    "fp8_announced_in": None,
}
"""The fields of a provenance that differ between equal runs, or say nothing about outputs."""


def _check_model(model: str) -> None:
    """Refuse a model whose name is not kept whole: nobody could find its golden, or make it anew."""
    if HIDDEN in model:
        raise GoldenError(
            printable(
                f"the model's name {model} holds a secret ({HIDDEN}), so its golden cannot be kept: name the "
                "model without it, and give the secret in the environment (HF_TOKEN)"
            )
        )


def _written(golden: Golden, sidecar: dict[str, Json]) -> dict[str, Json]:
    """Return the text file as a JSON value, without its seal."""
    of = golden.outputs
    provenance = {name: value for name, value in asdict(of.provenance).items() if name not in _BLANK}
    value = {
        "schema_version": VERSION,
        "model": of.spec.model,
        "variant": golden.variant,
        "prompt_set": {**asdict(of.prompt_set), "key": of.prompt_set.key},
        "engine": {
            "revision": of.spec.revision,
            "kv_cache_dtype": of.spec.kv_cache_dtype,
            "engine_args": dict(of.spec.engine_args),
        },
        "provenance": {
            **provenance,
            "versions": dict(of.provenance.versions),
            "environment": dict(of.provenance.environment),
        },
        "preemptions": of.counts.preemptions,
        "outputs": [
            {
                "prompt_id": output.prompt_id,
                "finish_reason": output.finish_reason,
                "text": _lines(output.text),
                "token_ids": output.token_ids,
            }
            for output in of.outputs
        ],
        "sidecar": sidecar,
    }
    written: dict[str, Json] = msgspec.to_builtins(msgspec.convert(value, Document))
    return written


def _spec(document: Document) -> EngineSpec:
    engine = document.engine
    spec = EngineSpec(
        model=document.model,
        kv_cache_dtype=engine.kv_cache_dtype,
        revision=engine.revision,
        engine_args=tuple(engine.engine_args.items()),
        golden=document.variant,
    )
    try:
        spec.arguments()
    except (ValueError, RecursionError):
        raise DamageError("the value of an engine argument is no JSON text") from None
    return spec


def _prompt_set(fields: PromptSetFields) -> PromptSet:
    prompts = tuple(
        Prompt(
            id=prompt.id,
            kind=prompt.kind,
            text=prompt.text,
            messages=tuple(Message(message.role, message.content) for message in prompt.messages),
            answer=prompt.answer,
            check=prompt.check,
        )
        for prompt in fields.prompts
    )
    for prompt in prompts:
        if (prompt.text is None) != bool(prompt.messages):
            raise DamageError(f"the prompt {prompt.id!r} must have either text or messages")
    if len({prompt.id for prompt in prompts}) != len(prompts):
        raise DamageError("two of its prompts have the same id")
    prompt_set = PromptSet(fields.name, prompts, Sampling(**msgspec.structs.asdict(fields.sampling)))
    if prompt_set.key != fields.key:
        raise DamageError(f"its prompts are not those of the key {fields.key} (they have {prompt_set.key})")
    return prompt_set


def _provenance(fields: ProvenanceFields) -> Provenance:
    given = msgspec.structs.asdict(fields)
    given["versions"] = tuple(fields.versions.items())
    given["environment"] = tuple(fields.environment.items())
    return Provenance(**given, **_BLANK)


def _sidecar(
    wanted: SidecarFields, name: GoldenName, content: Callable[[str, int], bytes], most: int
) -> bytes:
    if wanted.file != name.sidecar_file(wanted.sha256):
        raise DamageError(
            f"its sidecar should be called {name.sidecar_file(wanted.sha256)}, not {wanted.file}"
        )
    data = content(wanted.file, most)
    if len(data) > most:
        raise DamageError(f"its sidecar {wanted.file} is larger than its text allows ({most:,} bytes)")
    if hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise DamageError(f"its sidecar {wanted.file} is not the one it was written with")
    return data


def _outputs(
    fields: Sequence[OutputFields], prompt_set: PromptSet, prompt_token_ids: Sequence[tuple[int, ...]]
) -> tuple[Output, ...]:
    if [output.prompt_id for output in fields] != [prompt.id for prompt in prompt_set.prompts]:
        raise DamageError("its outputs are not those of its prompts, one for each and in order")
    if max(len(output.token_ids) for output in fields) > prompt_set.sampling.max_tokens:
        raise DamageError("an output is longer than max_tokens")
    return tuple(
        Output(output.prompt_id, prompt_ids, output.token_ids, "".join(output.text), output.finish_reason)
        for output, prompt_ids in zip(fields, prompt_token_ids, strict=True)
    )


def _lines(text: str) -> list[str]:
    """Return the lines of a text, each but the last with its line break; together they are the text."""
    *lines, last = text.split("\n")
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def _scores(of: ScoreSet | None) -> Sequence[Score] | None:
    return None if of is None else of.scores


def _score_set(spec: EngineSpec, prompt_set: PromptSet, scores: Sequence[Score] | None) -> ScoreSet | None:
    return None if scores is None else ScoreSet(spec, prompt_set, spec.key, scores, 0.0)
