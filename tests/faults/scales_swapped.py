"""Keys are stored with the scale of values, and values with that of keys.

Imitates vllm-project/vllm#19292: calibrated worse than uncalibrated.
"""

from __future__ import annotations

from faults.patching import Fault
from faults.scales import after_load

__all__ = ["Fault"]

after_load(lambda key, value: (value, key))
