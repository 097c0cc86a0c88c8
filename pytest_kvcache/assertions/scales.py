"""Scales: whether a calibrated checkpoint is served with the scales that it holds."""

from __future__ import annotations

from pytest_kvcache.assertions.arguments import misuse_of, read_sets
from pytest_kvcache.errors import QualityError
from pytest_kvcache.records import OutputSet, PlannedOutputs, Provenance, ReasonCode
from pytest_kvcache.text import printable


def assert_scales_loaded(output: OutputSet | PlannedOutputs) -> None:
    """Fail if a layer of the engine that wrote the outputs has other kv scales than its checkpoint.

    Lost ones are 1.0, swapped ones those of keys and values exchanged. Layers whose cache is not quantized
    use none and are not judged. Raises :class:`~pytest_kvcache.errors.UsageError` for what is no set of
    outputs, and where the checkpoint neither holds nor announces scales, or none is known.
    """
    __tracebackhide__ = True
    with misuse_of("assert_scales_loaded"):
        engines = [each.provenance for each in read_sets(output, "output")]
        if not engines:
            raise ValueError("give at least one set of outputs")
        for engine in engines:
            _check_known(engine)
    differ = [engine.scales_differ for engine in engines if engine.scales_differ]
    if differ:
        message = f"{engines[0].model} is not served with its checkpoint's kv scales: {differ[0]}"
        raise QualityError(printable(message), (ReasonCode.SCALES_LOST,))


def _check_known(engine: Provenance) -> None:
    if engine.scales_differ is not None:
        return
    if engine.checkpoint_scales is None:
        raise ValueError(
            "the checkpoint's kv scales are not known: give the model as a directory or a Hugging Face id, "
            "its weights as safetensors, and run the engine anew (--kv-no-cache)"
        )
    if engine.lacks_scales:
        raise ValueError(engine.lacks_scales)
