"""Options: what the plugin adds to pytest's command line and ini file.

Every option has an ini twin: ``--kv-dtypes`` is ``kv_dtypes``. The command line wins. Only what lets a run
write goldens has none: each time, somebody is to ask for it. Every pytest session loads this module, also
one that has nothing to do with kv caches, so it imports next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

DEFAULT_BASELINE = "auto"
DEFAULT_GOLDEN_DIR = "golden"
DEFAULT_REPORT = ".kvcache"
DEFAULT_TIMEOUT = 1200.0


def add_options(parser: pytest.Parser) -> None:
    """Register the option group, and an ini twin for each option."""
    group = parser.getgroup("kvcache", "quantized kv cache (pytest-kvcache)")
    group.addoption(
        "--kv-golden-update",
        help="write the goldens that kv tests need, missing ones or all, instead of running these tests",
        choices=("new", "all"),
    )
    group.addoption(
        "--kv-golden-allow-ci",
        help="write goldens also where CI is set in the environment",
        action="store_true",
    )

    group.addoption(
        "--kv-no-cache",
        help="start every engine, whatever earlier runs have kept, and keep nothing",
        action="store_true",
    )
    parser.addini("kv_no_cache", "as --kv-no-cache", type="bool", default=False)

    def option(flag: str, help_text: str, **settings: Any) -> None:
        group.addoption(flag, help=help_text, **settings)
        parser.addini(flag[2:].replace("-", "_"), f"as {flag}", type="string", default="")

    option(
        "--kv-dtypes",
        "kv dtypes or variants to test, e.g. fp8,auto; without any, kv tests skip",
        metavar="LIST",
    )
    option("--kv-models", "models to test: Hugging Face ids, directories or ref:NAME", metavar="LIST")
    option(
        "--kv-baseline",
        "the kv dtype trusted as reference, or golden[:DTYPE] for what its goldens hold, without its engine "
        f"(default: {DEFAULT_BASELINE})",
        metavar="DTYPE",
    )
    option(
        "--kv-golden-dir",
        f"where goldens are (default: {DEFAULT_GOLDEN_DIR} in the root directory)",
        metavar="DIR",
    )
    option(
        "--kv-engine-arg",
        "a vllm.LLM argument for every engine; the value is JSON or else a string (repeatable)",
        metavar="KEY=VALUE",
        action="append",
    )
    option(
        "--kv-prompts",
        "use these prompts in place of those of the shipped sets (twice: with answers, and without)",
        metavar="FILE.jsonl",
        action="append",
    )
    option(
        "--kv-max-tokens",
        "generate at most so many tokens per prompt, whatever a set says; tasks keep theirs",
        metavar="N",
    )
    option(
        "--kv-context",
        "how long the longest texts of the long-context suite are, in tokens; max: as the model serves them",
        metavar="N|max",
    )
    option("--kv-report", f"where reports and the run store go (default: {DEFAULT_REPORT})", metavar="DIR")
    option(
        "--kv-cache-dir",
        "where outputs are kept across runs, in CI only if this is given "
        "(default: pytest-kvcache in the user's cache directory)",
        metavar="DIR",
    )
    option(
        "--kv-timeout",
        f"longest time for one engine step: a start, one batch (default: {DEFAULT_TIMEOUT:g})",
        metavar="SECONDS",
    )
    option(
        "--kv-policy",
        "limits, known-bad entries, variants, and what chat templates are told",
        metavar="FILE.toml",
    )


def are_given(config: pytest.Config) -> bool:
    """Whether the command line has any of the options, or the ini file names kv dtypes."""
    given = (value for name, value in vars(config.option).items() if name.startswith("kv_"))
    return any(value not in (None, False) for value in given) or bool(config.getini("kv_dtypes"))


def asks_for_dtypes(config: pytest.Config) -> bool:
    """Whether the command line or the ini file names kv dtypes."""
    return bool(config.option.kv_dtypes or config.getini("kv_dtypes"))
