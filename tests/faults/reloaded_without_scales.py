"""vLLM's own ``reload_weights`` brings the checkpoint back while the engine runs, with scales of 1.0.

Imitates sgl-project/sglang#39942 and vllm-project/vllm#57163, where weights come back after a sleep, and
trainers that send new weights to an engine whose calibration they do not have. The plugin probes an engine
(64 steps) before it asks what was resolved, and so long all is right.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from vllm.model_executor.model_loader import get_model_loader
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from faults.patching import Fault, around

__all__ = ["Fault"]

STEPS = 150
_steps = count(1)


@around(CPUModelRunner, "execute_model")
def _reload(execute: Any, runner: Any, *args: Any, **kwargs: Any) -> Any:
    if next(_steps) == STEPS:
        weights = get_model_loader(runner.load_config).get_all_weights(runner.model_config, runner.model)
        runner.reload_weights(
            weights_iterator=(
                (name, torch.ones_like(tensor) if name.endswith(("k_scale", "v_scale")) else tensor)
                for name, tensor in weights
            )
        )
    return execute(runner, *args, **kwargs)
