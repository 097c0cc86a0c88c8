"""Names of goldens: which model, prompt set, variant and platform one is of, and where it lies."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pytest_kvcache.files import slug
from pytest_kvcache.records import Golden

TEXT_SUFFIX = ".json"
SIDECAR_SUFFIX = ".xz"
HASH_DIGITS = 12
"""Digits of its SHA-256 in a sidecar's name."""

_LONGEST = 64
"""Characters that a part of a name keeps, so that no file name is too long for a file system."""
_STEM = re.compile(r"(?P<prompt_set>.+)-(?P<max_tokens>[1-9][0-9]*)\.(?P<variant>[^.]+)\.(?P<platform>[^.]+)")
_SIDECAR = re.compile(rf"(?P<stem>.+)\.[0-9a-f]{{{HASH_DIGITS}}}{re.escape(SIDECAR_SUFFIX)}")


@dataclass(frozen=True, order=True, slots=True)
class GoldenName:
    """What a golden is of. Parts are kept as they stand in file names: ``ref:gqa`` becomes ``ref-gqa``,
    ``Qwen/Qwen2-7B`` becomes ``Qwen--Qwen2-7B``, so that a name is the same wherever it comes from."""

    model: str
    prompt_set: str
    max_tokens: int
    variant: str
    """The kv dtype in canonical form, or the name of a variant."""
    platform: str

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, str):
                dotless = part.name in ("variant", "platform")
                object.__setattr__(self, part.name, _part(value.replace(".", "-") if dotless else value))

    def __str__(self) -> str:
        return f"{self.model} {self.variant} {self.prompt_set} ({self.max_tokens} tokens, {self.platform})"

    @property
    def stem(self) -> str:
        """The name of its files without their suffixes."""
        return f"{self.prompt_set}-{self.max_tokens}.{self.variant}.{self.platform}"

    def path(self, root: Path) -> Path:
        """Return where the golden's text lies below ``root``."""
        return root / self.model / f"{self.stem}{TEXT_SUFFIX}"

    def sidecar_file(self, sha256: str) -> str:
        """Return the file name of a sidecar of this golden, whose content has that hash."""
        return f"{self.stem}.{sha256[:HASH_DIGITS]}{SIDECAR_SUFFIX}"


def name_of(golden: Golden) -> GoldenName:
    """Return what a golden is of."""
    of = golden.outputs
    return GoldenName(
        model=of.spec.model,
        prompt_set=of.prompt_set.name,
        max_tokens=of.prompt_set.sampling.max_tokens,
        variant=golden.variant,
        platform=of.provenance.platform,
    )


def named(golden: Golden, model: str) -> Golden:
    """Return a golden that calls its model so."""
    of = golden.outputs
    spec, provenance = replace(of.spec, model=model), replace(of.provenance, model=model)
    return replace(golden, outputs=replace(of, spec=spec, provenance=provenance))


def name_from(path: Path) -> GoldenName | None:
    """Return which golden's text lies at ``path``, or None if no golden is called so."""
    stem = _STEM.fullmatch(path.name.removesuffix(TEXT_SUFFIX))
    if stem is None or path.suffix != TEXT_SUFFIX or path.name.startswith("."):
        return None
    name = GoldenName(
        path.parent.name, stem["prompt_set"], int(stem["max_tokens"]), stem["variant"], stem["platform"]
    )
    return name if name.path(path.parent.parent) == path else None


def text_of_sidecar(path: Path) -> Path | None:
    """Return the text that a sidecar's name belongs to, or None if no sidecar is called so."""
    match = _SIDECAR.fullmatch(path.name)
    return None if match is None else path.with_name(match["stem"] + TEXT_SUFFIX)


def _part(name: str) -> str:
    part = slug(name.replace("/", "--"))
    if len(part) <= _LONGEST:
        return part
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:HASH_DIGITS]
    return f"{part[: _LONGEST - HASH_DIGITS - 1]}-{digest}"
