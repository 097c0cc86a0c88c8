"""Errors: every one is a single line that says what is wrong, where, and what to do."""

from __future__ import annotations


class KvCacheError(Exception):
    """Base of all errors this package raises on purpose; ``str()`` is the one line a person reads."""


class UsageError(KvCacheError):
    """Something was asked for wrongly: an option, a policy, a prompt file. Nothing was run."""


class GoldenError(UsageError):
    """A golden is missing, damaged, of something else than was asked for, or changed by somebody else."""


class PartlyWrittenError(KvCacheError):
    """Some goldens of a commit were written and the others were not; the message names those that were."""


class EngineError(KvCacheError):
    """An engine could not start, broke, or hung. The verdict of that engine is red."""


class UnfitError(EngineError):
    """An engine runs, and not as it was asked to: a test of what it wrote would be one of another engine."""


class ConditionError(KvCacheError):
    """A serving condition cannot come about here, on this machine or for this engine: nothing to test."""


class RequestError(EngineError):
    """An engine refused one request, such as a prompt beyond the model's length, and lives on."""


class QualityError(KvCacheError, AssertionError):
    """An output is not safe. ``codes`` are the :class:`~pytest_kvcache.records.ReasonCode` values
    that apply, so that a declared known-bad failure can be told from a new one."""

    def __init__(self, message: str, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.codes = codes


class GoldenMismatchError(QualityError):
    """Outputs are not what their goldens hold, or cannot be compared with them."""
