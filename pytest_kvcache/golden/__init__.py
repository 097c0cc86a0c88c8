"""Goldens: what an engine once wrote for a prompt set, kept in a repository beside the tests.

A golden is two files: a text that explains itself and reads well in a diff, and a sidecar with the
numbers. Files are read as hostile, and written all together or not at all.

    DIR/MODEL/SET-TOKENS.VARIANT.PLATFORM.json         prompts, provenance, texts and token ids
    DIR/MODEL/SET-TOKENS.VARIANT.PLATFORM.HASH.xz      prompt token ids and log-probabilities
"""

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden.directory import GoldenDirectory
from pytest_kvcache.golden.document import golden_schema, shipped_golden_schema
from pytest_kvcache.golden.finding import prompt_changes
from pytest_kvcache.golden.format import Encoded, as_kept, encode, provenance_as_kept
from pytest_kvcache.golden.leftovers import Problem
from pytest_kvcache.golden.names import GoldenName, name_of, named
from pytest_kvcache.golden.reading import is_outdated, read
from pytest_kvcache.golden.sizes import size_notes, too_large

__all__ = [
    "Encoded",
    "GoldenDirectory",
    "GoldenError",
    "GoldenName",
    "Problem",
    "as_kept",
    "encode",
    "golden_schema",
    "is_outdated",
    "name_of",
    "named",
    "prompt_changes",
    "provenance_as_kept",
    "read",
    "shipped_golden_schema",
    "size_notes",
    "too_large",
]
