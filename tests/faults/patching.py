"""Patching: how a fault gets between vLLM and one of its functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import getattr_static
from typing import Any


class Fault:
    """What vLLM finds under the name it is given; the work was done when its module was imported."""


def around(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Call the decorated function instead of ``owner.name``, with the original before its arguments."""

    def install(change: Callable[..., Any]) -> Callable[..., Any]:
        original = getattr(owner, name)

        @wraps(original)
        def changed(*args: Any, **kwargs: Any) -> Any:
            return change(original, *args, **kwargs)

        is_static = isinstance(getattr_static(owner, name), staticmethod)
        setattr(owner, name, staticmethod(changed) if is_static else changed)
        return change

    return install
