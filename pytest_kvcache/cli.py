"""The command ``kvcache``.

Exit status: 0 fine, 1 a finding, 2 used wrongly or could not run. Results go to standard output,
as JSON with ``--json``; progress and errors, one line each, to standard error.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from typing import TYPE_CHECKING

from pytest_kvcache import refmodels
from pytest_kvcache.errors import KvCacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FINE, FINDING, UNUSABLE = 0, 1, 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``kvcache`` with ``argv`` (default: the process's arguments) and return its exit status."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KvCacheError as error:
        _say(f"kvcache: {error}")
        return UNUSABLE
    except KeyboardInterrupt:
        _say("kvcache: interrupted")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvcache",
        description="Check whether a model is still safe with a quantized KV cache.",
        epilog="Exit status: 0 fine, 1 a finding, 2 used wrongly or could not run.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_models(commands)
    return parser


# kvcache models


def _add_models(commands: Commands) -> None:
    about = "build, list and locate the reference models"
    actions = commands.add_parser("models", help=about, description=about).add_subparsers(
        title="actions", required=True, metavar="ACTION"
    )

    build = _add_action(actions, "build", "build reference models that are missing", _models_build)
    build.add_argument("names", nargs="*", metavar="NAME", help="reference models; default: all of them")
    build.add_argument(
        "--remove-outdated", action="store_true", help="then delete models built from older recipes"
    )

    _add_action(actions, "list", "list the reference models and whether they are built", _models_list)

    path = _add_action(actions, "path", "print where a built reference model lies", _models_path)
    path.add_argument("name", metavar="NAME")


def _models_build(arguments: argparse.Namespace) -> int:
    names = arguments.names or list(refmodels.RECIPES)
    for name in names:
        refmodels.recipe_of(name)
    built = {name: str(refmodels.build(name, _say)) for name in names}
    removed = refmodels.outdated_directories() if arguments.remove_outdated else []
    for directory in removed:
        shutil.rmtree(directory)
    if arguments.json:
        _print_json({"models": built, "removed": [str(path) for path in removed]})
    else:
        _print_lines([*built.values(), *(f"removed {path}" for path in removed)])
    return FINE


def _models_list(arguments: argparse.Namespace) -> int:
    built = {name: refmodels.find(name) for name in refmodels.RECIPES}
    outdated = refmodels.outdated_directories()
    if arguments.json:
        models = [_model_entry(name, path) for name, path in built.items()]
        _print_json({"models": models, "outdated": [str(path) for path in outdated]})
        return FINE
    for name, path in built.items():
        size = f"{refmodels.size_in_bytes(path) / 1e6:.0f} MB" if path else "not built"
        print(f"ref:{name:<15} {size:>9}  {refmodels.recipe_of(name).summary}")
    _print_lines([f"outdated: {path} (kvcache models build --remove-outdated)" for path in outdated])
    return FINE


def _models_path(arguments: argparse.Namespace) -> int:
    path = refmodels.find(arguments.name)
    if arguments.json:
        _print_json({"path": path and str(path)})
    elif path:
        print(path)
    if path is None:
        _say(f"kvcache: {arguments.name} is not built: kvcache models build {arguments.name}")
        return FINDING
    return FINE


def _model_entry(name: str, path: Path | None) -> dict[str, str | int | None]:
    return {
        "model": f"ref:{name}",
        "summary": refmodels.recipe_of(name).summary,
        "path": str(path) if path else None,
        "bytes": refmodels.size_in_bytes(path) if path else None,
    }


# Shared by all commands


def _add_action(
    actions: Commands, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=about, description=about)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)
    return parser


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
