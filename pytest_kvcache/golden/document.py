"""The text file of a golden, field by field, in the order in which it is written.

Version 2 of a contract with files that lie in other people's repositories. Whoever changes a field here
raises :data:`~pytest_kvcache.golden.migrate.VERSION` and adds the step from the version before.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pytest_kvcache.golden.layout import SEAL
from pytest_kvcache.records import Check, Json, ScoringPath

_Token = Annotated[int, Meta(ge=0, lt=2**31)]
_Count = Annotated[int, Meta(ge=0, lt=2**53)]
_Name = Annotated[str, Meta(min_length=1, max_length=1000)]
# In Python "$" also matches before a last line break: the length excludes it, there and in JSON Schema.
_Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
_Number = int | float


class _Fields(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class MessageFields(_Fields):
    role: Literal["system", "user", "assistant"]
    content: str | None


class PromptFields(_Fields, omit_defaults=True):
    """A prompt: ``text`` or ``messages``, and, of a task, its answer with how it is compared."""

    id: _Name
    kind: _Name
    text: str | None = None
    messages: tuple[MessageFields, ...] = ()
    answer: str | None = None
    check: Check = "contains"


class SamplingFields(_Fields):
    max_tokens: Annotated[int, Meta(ge=1, lt=2**31)]
    temperature: _Number
    repetition_penalty: _Number
    frequency_penalty: _Number
    presence_penalty: _Number
    stop: tuple[str, ...]
    ignore_eos: bool
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class PromptSetFields(_Fields):
    name: _Name
    key: Annotated[str, Meta(pattern="^[0-9a-f]{16}$", max_length=16, description="Of sampling and prompts.")]
    sampling: SamplingFields
    prompts: Annotated[tuple[PromptFields, ...], Meta(min_length=1)]


class EngineFields(_Fields):
    """What was asked of the engine."""

    revision: str | None
    kv_cache_dtype: _Name
    engine_args: Annotated[dict[str, str], Meta(description="Each value is JSON text.")]


class ProvenanceFields(_Fields, omit_defaults=True, kw_only=True):
    """What is known to have run. What differs between two equal runs (seconds, paths) is left out."""

    model: _Name
    model_id: _Name
    kv_cache_dtype: _Name
    kv_cache_quantized: bool
    kv_scales: str
    model_dtype: str
    quantization: str | None
    chat_template_sha256: str | None
    attention_backend: str
    block_size: _Count
    prefix_caching: bool
    max_model_len: _Count
    device: str
    threads: _Count
    platform: _Name
    cpu_flags: tuple[str, ...]
    versions: dict[str, str]
    environment: dict[str, str]
    scoring: ScoringPath
    scoring_difference: _Number | None
    max_num_seqs: _Count
    max_num_batched_tokens: _Count
    enforce_eager: bool | None = None
    chunked_prefill: bool | None = None
    checkpoint_scales: _Count | None = None
    scales_differ: str | None = None


class OutputFields(_Fields):
    prompt_id: _Name
    finish_reason: str | None
    text: Annotated[tuple[str, ...], Meta(description="Its lines, each but the last with its line break.")]
    token_ids: tuple[_Token, ...]


class SidecarFields(_Fields):
    """The file beside this one that holds prompt token ids and log-probabilities."""

    file: _Name
    sha256: _Sha256


class Document(_Fields, omit_defaults=True, kw_only=True):
    """One golden: what an engine wrote for each prompt of a set."""

    schema_version: Literal[2]
    model: _Name
    variant: _Name
    prompt_set: PromptSetFields
    engine: EngineFields
    provenance: ProvenanceFields
    preemptions: Annotated[
        _Count | None, Meta(description="Times that a sequence lost its place in the kv cache.")
    ] = None
    outputs: tuple[OutputFields, ...]
    sidecar: SidecarFields


def golden_schema() -> dict[str, Json]:
    """Return the JSON Schema (draft 2020-12) of a golden's text file."""
    _, definitions = msgspec.json.schema_components([Document], ref_template="#/$defs/{name}")
    file = definitions.pop("Document")
    file["properties"][SEAL] = {"type": "string", "description": "SHA-256 of the lines before."}
    file["required"].append(SEAL)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **file,
        "title": "Golden of pytest-kvcache",
        "$defs": definitions,
    }
    plain: dict[str, Json] = json.loads(msgspec.json.encode(schema))
    return plain


def shipped_golden_schema() -> dict[str, Json]:
    """Return the JSON Schema that the package ships for editors and other tools."""
    text = resources.files("pytest_kvcache").joinpath("schemas/golden.schema.json").read_text("utf-8")
    schema: dict[str, Json] = json.loads(text)
    return schema
