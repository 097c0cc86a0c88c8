"""The checkpoint's scales are loaded and then forgotten: 1.0 everywhere.

Imitates vllm-project/vllm#25800, #28783 and #54623: a calibrated checkpoint served uncalibrated.
"""

from __future__ import annotations

from faults.patching import Fault
from faults.scales import after_load

__all__ = ["Fault"]

after_load(lambda _key, _value: (1.0, 1.0))
