"""Faults: what quantized caches have done to people, done on purpose to a running vLLM.

A fault is a variant of ``policy.toml``: a candidate as any other, which vLLM's own extension points break
from inside. Most are named as ``worker_extension_cls = "faults.NAME.Fault"``: vLLM imports the module in its
worker, and importing it is what breaks the engine. Those of ``faults.sampling`` are logits processors. The
engine of a variant that names none is left alone. All are written for vLLM's CPU worker. The module's
docstring names the report that it imitates; ``faults.toml`` says which suite is to catch it.
"""
