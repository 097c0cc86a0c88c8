"""``kvcache models``: builds, lists and locates the reference models."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from pytest_kvcache import refmodels
from pytest_kvcache.cli._common import FINDING, FINE, add_action, add_group, print_json, print_lines, say

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kvcache.cli._common import Commands
    from pytest_kvcache.records import Json


def add_to(commands: Commands) -> None:
    actions = add_group(commands, "models", "build, list and locate the reference models")

    build = add_action(actions, "build", "build reference models that are missing", _build)
    build.add_argument("names", nargs="*", metavar="NAME", help="reference models; default: all of them")
    build.add_argument(
        "--remove-outdated", action="store_true", help="then delete models built from older recipes"
    )

    add_action(actions, "list", "list the reference models and whether they are built", _list)

    path = add_action(actions, "path", "print where a built reference model lies", _path)
    path.add_argument("name", metavar="NAME")


def _build(arguments: argparse.Namespace) -> int:
    names = arguments.names or list(refmodels.RECIPES)
    for name in names:
        refmodels.recipe_of(name)
    built = {name: str(refmodels.build(name, say)) for name in names}
    removed = refmodels.outdated_directories() if arguments.remove_outdated else []
    for directory in removed:
        shutil.rmtree(directory)
    if arguments.json:
        print_json({"models": built, "removed": [str(path) for path in removed]})
    else:
        print_lines([*built.values(), *(f"removed {path}" for path in removed)])
    return FINE


def _list(arguments: argparse.Namespace) -> int:
    built = {name: refmodels.find(name) for name in refmodels.RECIPES}
    outdated = refmodels.outdated_directories()
    if arguments.json:
        models = [_entry(name, path) for name, path in built.items()]
        print_json({"models": models, "outdated": [str(path) for path in outdated]})
    else:
        print_lines(_line(name, path) for name, path in built.items())
        print_lines(f"outdated: {path} (kvcache models build --remove-outdated)" for path in outdated)
    return FINE


def _path(arguments: argparse.Namespace) -> int:
    path = refmodels.find(arguments.name)
    if arguments.json:
        print_json({"path": path and str(path)})
    elif path:
        print_lines([str(path)])
    if path is None:
        say(f"kvcache: {arguments.name} is not built: kvcache models build {arguments.name}")
        return FINDING
    return FINE


def _line(name: str, path: Path | None) -> str:
    size = f"{refmodels.size_in_bytes(path) / 1e6:.0f} MB" if path else "not built"
    return f"ref:{name:<15} {size:>9}  {refmodels.recipe_of(name).summary}"


def _entry(name: str, path: Path | None) -> dict[str, Json]:
    return {
        "model": f"ref:{name}",
        "summary": refmodels.recipe_of(name).summary,
        "path": str(path) if path else None,
        "bytes": refmodels.size_in_bytes(path) if path else None,
    }
