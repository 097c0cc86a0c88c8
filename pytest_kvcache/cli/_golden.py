"""``kvcache golden``: verifies, prunes, compares and refreshes goldens.

`_chosen`, `_wanted` and `_engines` know which goldens, what to make, and how to run engines for that. They
load more than ``kvcache --help`` needs, and so come with the action that needs them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kvcache.cli._common import (
    FINDING,
    FINE,
    UNUSABLE,
    add_action,
    add_group,
    names,
    print_json,
    print_lines,
    say,
    seconds,
)
from pytest_kvcache.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_kvcache.cli._common import Commands
    from pytest_kvcache.golden_diff import GoldenChange
    from pytest_kvcache.policy import Policy
    from pytest_kvcache.refresh import Want

GOLDENS = Path("golden")
REPORT = Path(".kvcache")
SECONDS_PER_STEP = 1200


def add_to(commands: Commands) -> None:
    actions = add_group(commands, "golden", "verify, prune, compare and refresh goldens")

    verify = _add(actions, "verify", "check that goldens are whole and fit to be compared with", _verify)
    _takes_files(verify, "goldens to verify")
    _takes_policy(verify)

    prune = _add(actions, "prune", "find goldens that the last complete run did not use", _prune)
    _takes(prune, "--results", "results of that run: a file or its directory", "PATH", Path, REPORT)
    _takes_flag(prune, "--delete", "delete what was found")

    diff = _add(actions, "diff", "make goldens anew and show what changes; nothing is written", _diff)
    _takes_files(diff, "goldens to make anew; two files are compared with each other, without an engine")
    _takes_policy(diff)
    _takes_timeout(diff)

    refresh = _add(actions, "refresh", "make goldens anew, show what changes, and write them", _refresh)
    _takes_files(refresh, "goldens to refresh")
    _takes(refresh, "--kv-models", "instead, make goldens of these models", "LIST", names)
    _takes(refresh, "--prompts", "for these prompt sets: shipped ones, or .jsonl files", "LIST", names)
    _takes(refresh, "--kv-dtypes", "under these kv dtypes (default: auto)", "LIST", names)
    _takes_flag(
        refresh,
        "--no-logprobs",
        "write texts without log-probabilities: good for exact and safe matches only",
    )
    _takes_flag(refresh, "--kv-golden-allow-ci", "write also where CI is set in the environment")
    _takes_policy(refresh)
    _takes_timeout(refresh)


# What the actions take


def _add(
    actions: Commands, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = add_action(actions, name, about, run)
    _takes(parser, "--kv-golden-dir", "where goldens are", "DIR", Path, GOLDENS)
    return parser


def _takes_files(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help=f"{what}; default: all of them")


def _takes_policy(parser: argparse.ArgumentParser) -> None:
    _takes(parser, "--kv-policy", "the policy, for what lies beyond its limits", "FILE.toml", Path)


def _takes_timeout(parser: argparse.ArgumentParser) -> None:
    about = "longest time for one engine step: a start, one batch"
    _takes(parser, "--kv-timeout", about, "SECONDS", seconds, SECONDS_PER_STEP)


def _takes_flag(parser: argparse.ArgumentParser, flag: str, about: str) -> None:
    parser.add_argument(flag, action="store_true", help=about)


def _takes(
    parser: argparse.ArgumentParser,
    flag: str,
    about: str,
    metavar: str,
    read: Callable[[str], object],
    default: object = None,
) -> None:
    shown = "" if default is None else " (default: %(default)s)"
    parser.add_argument(flag, type=read, metavar=metavar, default=default, help=about + shown)


# What they do


def _verify(arguments: argparse.Namespace) -> int:
    from pytest_kvcache.cli._chosen import existing, named

    directory, policy = existing(arguments.kv_golden_dir), _policy(arguments)
    problems = {problem.path: problem.message for problem in directory.problems()}
    paths = named([*map(directory.path, directory.names()), *problems], arguments.files, directory.root)
    judged = {path: problems.get(path) or _refusal(path, policy) for path in paths}
    findings = {path: message for path, message in judged.items() if message}
    if arguments.json:
        found = [{"path": str(path), "message": message} for path, message in findings.items()]
        print_json({"verified": [str(path) for path in paths], "findings": found})
    else:
        print_lines([*findings.values(), f"{len(paths)} files verified, {len(findings)} findings"])
    return FINDING if findings else FINE


def _refusal(path: Path, policy: Policy) -> str | None:
    """Return why nothing can be held against a golden that is whole, or None if it is fit for that."""
    from pytest_kvcache.cli._wanted import may_be_baseline
    from pytest_kvcache.golden import read
    from pytest_kvcache.golden_diff import refusals

    golden = read(path)
    spec = golden.outputs.spec
    why = refusals(golden, policy.limits_for(spec.model), may_be_baseline(golden.variant, spec))
    return why and f"{path}: {why}"


def _prune(arguments: argparse.Namespace) -> int:
    from pytest_kvcache.cli._chosen import existing, unused
    from pytest_kvcache.golden.leftovers import leftovers

    directory = existing(arguments.kv_golden_dir)
    found = unused(directory, arguments.results)
    if arguments.delete:
        names = directory.remove(found.digests)
        others = directory.remove_leftovers()
    else:
        names = tuple(found.digests)
        others = tuple(problem.path for problem in leftovers(directory.root))
    paths = [*map(directory.path, names), *others]
    spared = [name for name in found.digests if name not in names]
    changed = [directory.path(name) for name in (*found.changed, *spared)]
    if arguments.json:
        told = {"unused": list(map(str, paths)), "changed": list(map(str, changed))}
        print_json(told | {"deleted": arguments.delete})
    else:
        what = "deleted" if arguments.delete else "unused"
        print_lines([f"{what}: {path}" for path in paths] or ["nothing is unused"])
    for path in changed:
        say(f"kvcache: {path} has changed or gone since that run, and is left as it is: run all tests again")
    if changed:
        return UNUSABLE
    if paths and not arguments.delete:
        say("kvcache: nothing was deleted: add --delete for that")
        return FINDING
    return FINE


def _diff(arguments: argparse.Namespace) -> int:
    files = arguments.files
    two_files = len(files) == 2 and not any(file.is_dir() for file in files)
    changes, refused = _compared(arguments) if two_files else _remade(arguments)
    if arguments.json:
        print_json({"changes": [asdict(change) for change in changes], "refused": refused})
    else:
        _print_changes(changes)
    for refusal in refused:
        say(f"kvcache: a refresh would write no golden: {refusal}")
    return FINDING if refused or any(change.kind != "unchanged" for change in changes) else FINE


def _compared(arguments: argparse.Namespace) -> tuple[Sequence[GoldenChange], Sequence[str]]:
    """Compare two goldens, wherever they lie; nobody refuses what nobody is to write."""
    from pytest_kvcache.golden import read
    from pytest_kvcache.golden_diff import compare_goldens

    policy = _policy(arguments)
    old, new = map(read, arguments.files)
    return [compare_goldens(old, new, policy.limits_for(new.outputs.spec.model))], ()


def _remade(arguments: argparse.Namespace) -> tuple[Sequence[GoldenChange], Sequence[str]]:
    """Make goldens anew; return how they differ from those that are there, and what may not be written."""
    from pytest_kvcache.cli._chosen import existing
    from pytest_kvcache.cli._engines import make_goldens
    from pytest_kvcache.cli._wanted import again
    from pytest_kvcache.refresh import Refresh

    directory, policy = existing(arguments.kv_golden_dir), _policy(arguments)
    made = make_goldens(again(directory, arguments.files), arguments.kv_timeout)
    review = Refresh(directory).review(made, policy)
    return review.changes, review.refusals


def _refresh(arguments: argparse.Namespace) -> int:
    from pytest_kvcache.cli._engines import make_goldens
    from pytest_kvcache.engines.devices import platforms
    from pytest_kvcache.golden import GoldenDirectory, size_notes
    from pytest_kvcache.refresh import Refresh, check_may_write, check_sizes

    check_may_write(os.environ, allow_ci=arguments.kv_golden_allow_ci)
    policy = _policy(arguments)
    wants = _wants(arguments, policy)
    check_sizes(wants)
    directory = GoldenDirectory(arguments.kv_golden_dir)
    directory.check_writable()
    refresh = Refresh(directory)
    refresh.check_own(wants, platforms())
    review = refresh.review(make_goldens(wants, arguments.kv_timeout), policy)
    if not arguments.json:
        _print_changes(review.changes)
    written = () if review.refusals else refresh.commit(review)
    if arguments.json:
        changes = [asdict(change) for change in review.changes]
        print_json({"changes": changes, "refused": review.refusals, "written": [str(p) for p in written]})
    else:
        print_lines(f"written: {path}" for path in written)
        if not (written or review.refusals):
            print_lines(["nothing to write: all goldens are as they were"])
    for note in size_notes(written):
        say(f"kvcache: {note}")
    for refusal in review.refusals:
        say(f"kvcache: no golden was written: {refusal}")
    return FINDING if review.refusals else FINE


def _wants(arguments: argparse.Namespace, policy: Policy) -> list[Want]:
    """Return what a refresh makes: what its options ask for, or what is there already."""
    from pytest_kvcache.cli._chosen import existing
    from pytest_kvcache.cli._wanted import again, new

    if not (arguments.kv_models or arguments.prompts or arguments.kv_dtypes):
        wants = again(existing(arguments.kv_golden_dir), arguments.files)
    elif arguments.files:
        raise UsageError(
            "a golden knows its model, prompts and kv dtype: name files, or give these, not both"
        )
    elif not (arguments.kv_models and arguments.prompts):
        raise UsageError("goldens to make are named by --kv-models and --prompts: give both")
    else:
        wants = new(arguments.kv_models, arguments.kv_dtypes or ("auto",), arguments.prompts, policy)
    return [replace(want, logprobs=want.logprobs and not arguments.no_logprobs) for want in wants]


def _policy(arguments: argparse.Namespace) -> Policy:
    from pytest_kvcache.policy import Policy, load_policy

    return load_policy(arguments.kv_policy) if arguments.kv_policy else Policy()


def _print_changes(changes: Iterable[GoldenChange]) -> None:
    print_lines(line for change in changes for line in change.lines)
