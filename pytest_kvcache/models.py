"""Models as users name them: a reference model, a local directory, or a Hugging Face id."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from pytest_kvcache.errors import UsageError

WEIGHT_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def check_model(model: str) -> None:
    """Raise `UsageError` for a name that no engine could load: cheap, nothing is loaded or downloaded."""
    if model.startswith("ref:"):
        from pytest_kvcache import refmodels

        refmodels.recipe_of(model.removeprefix("ref:"))
    elif is_local(model):
        _check_directory(Path(model).expanduser())
    elif not _HUB_ID.fullmatch(model):
        raise UsageError(
            f"model {model!r} is neither a directory nor a Hugging Face id (OWNER/NAME) nor ref:NAME"
        )


def is_local(model: str) -> bool:
    """Whether the name means a path: it exists, or it is written like one."""
    return Path(model).expanduser().exists() or model.startswith(("/", "./", "../", "~"))


def kept_name(model: str, project: Path) -> str:
    """Return the name under which goldens keep a model: of a directory its path below ``project``, if it lies
    there, else its last component, so that it is the same however and on whichever machine it is named."""
    if model.startswith("ref:") or not is_local(model):
        return model
    named = _absolute(Path(model).expanduser())
    # A link within the project is kept as it is called there; one that leads into it is followed.
    for place, above in (
        (named, _absolute(project)),
        (named.parent.resolve() / named.name, project.resolve()),
    ):
        if above in place.parents:
            return place.relative_to(above).as_posix()
    return named.name


def is_same_model(model: str, other: str) -> bool:
    """Whether two names are of one model: equal, or of one directory."""
    if model == other:
        return True
    local = is_local(model) and is_local(other)
    return local and Path(model).expanduser().resolve() == Path(other).expanduser().resolve()


def length_of(model: str) -> int | None:
    """Return how many tokens a model is made for, as its configuration says.

    None where it says none or is not at hand: on the hub, or of a reference model that is not built.
    """
    if model.startswith("ref:"):
        from pytest_kvcache import refmodels

        directory = refmodels.find(model.removeprefix("ref:"))
    else:
        directory = Path(model).expanduser() if is_local(model) else None
    if directory is None:
        return None
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    length = config.get("max_position_embeddings") if isinstance(config, dict) else None
    return length if isinstance(length, int) else None


def locate_model(model: str, progress: Callable[[str], None]) -> str:
    """Return what vLLM is to load: a directory, built first if it is a reference model, or the hub id.

    Raises `UsageError` as `check_model`, and `EngineError` if a reference model cannot be built.
    """
    check_model(model)
    if model.startswith("ref:"):
        from pytest_kvcache import refmodels

        return str(refmodels.ensure(model.removeprefix("ref:"), progress=progress))
    return str(Path(model).expanduser().resolve()) if is_local(model) else model


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise UsageError(f"model directory {directory} {what}: check --kv-models")
    try:
        names = [entry.name for entry in directory.iterdir()]
    except OSError as error:
        raise UsageError(
            f"model directory {directory} cannot be read ({error.strerror}): check permissions"
        ) from None
    if "config.json" not in names:
        raise UsageError(f"model directory {directory} has no config.json: it is no model; check --kv-models")
    if not any(Path(name).match(pattern) for name in names for pattern in WEIGHT_PATTERNS):
        raise UsageError(
            f"model directory {directory} has no weights ({', '.join(WEIGHT_PATTERNS)}): "
            "download them, or check --kv-models"
        )
    for name in sorted(names):
        if name.endswith(".safetensors"):
            _check_safetensors(directory / name)


def _check_safetensors(file: Path) -> None:
    """Raise `UsageError` for a file that ends before its own header does.

    A header is eight bytes, its length as a little-endian number, and that much JSON.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
    except OSError as error:
        raise UsageError(
            f"weights {file} cannot be read ({error.strerror}): check links and permissions"
        ) from None
    if size < 8 + header:
        raise UsageError(
            f"weights {file} are no whole safetensors file: a broken download, or a Git LFS pointer; "
            "fetch them again"
        )
