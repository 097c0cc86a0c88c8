"""The engine process is killed after 400 steps, as by the kernel when memory runs out.

Imitates vllm-project/vllm#42587: what was asked for and not answered must be red.
"""

from __future__ import annotations

import os
import signal
from itertools import count
from typing import Any

from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from faults.patching import Fault, around

__all__ = ["Fault"]

STEPS = 400
_steps = count(1)


@around(CPUModelRunner, "execute_model")
def _crash(execute: Any, *args: Any, **kwargs: Any) -> Any:
    if next(_steps) > STEPS:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(*args, **kwargs)
