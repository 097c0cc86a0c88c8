"""The generation cache in a run: whether there is one, and which engines are to be seen again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_kvcache.cache import GenerationCache, no_cache
from pytest_kvcache.engines import EngineFactory
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.fingerprint import fingerprint
from pytest_kvcache.plan import Target
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import EngineSpec


def open_cache(
    directory: Path | None,
    factory: EngineFactory,
    devices: DevicePool,
    targets: Sequence[Target],
    policy: Policy,
) -> GenerationCache:
    """Return a run's cache: one that keeps nothing if there is no directory, or the factory is a stranger."""
    program: str | None = getattr(factory, "program", None)
    if directory is None or program is None:
        return no_cache()
    return GenerationCache(
        directory, lambda spec: fingerprint(spec, devices, program), fresh=_to_see_again(targets, policy)
    )


def _to_see_again(targets: Sequence[Target], policy: Policy) -> frozenset[EngineSpec]:
    """Return the engines behind known-bad entries: only what fails now is known to fail."""
    return frozenset(
        spec
        for target in targets
        if policy.all_known_bad_for(target.spec.model, target.label)
        for spec in (target.spec, target.baseline)
    )
