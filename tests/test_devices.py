"""Slots keep engines apart, and a dead owner's devices are free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_kvcache.engines.devices import DevicePool, available_devices
from pytest_kvcache.errors import EngineError


def test_cores_are_dealt_into_equal_slots(tmp_path: Path) -> None:
    pool = DevicePool(2, kind="cpu", device_ids=range(5), lock_dir=tmp_path)
    with pool.hold() as first, pool.hold() as second:
        assert {first.device_ids, second.device_ids} == {(0, 1), (2, 3)}


def test_there_are_never_more_slots_than_cores(tmp_path: Path) -> None:
    assert DevicePool(8, kind="cpu", device_ids=[3], lock_dir=tmp_path).slots == 1


def test_a_held_slot_is_waited_for(tmp_path: Path) -> None:
    pool = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path)

    class WaitedError(Exception):
        pass

    def waiting() -> None:
        raise WaitedError

    with pool.hold(), pytest.raises(WaitedError), pool.hold(waiting=waiting):
        pytest.fail("two engines on one core")


def test_an_engine_of_two_gpus_takes_both_or_none(tmp_path: Path) -> None:
    pool = DevicePool(2, kind="gpu", device_ids=[0, 1], lock_dir=tmp_path)
    with pool.hold(2) as slot:
        assert slot.device_ids == (0, 1)
        assert slot.environment() == {"CUDA_VISIBLE_DEVICES": "0,1"}
    with pytest.raises(EngineError, match="needs 3 gpus and this machine offers 2"), pool.hold(3):
        pass


def test_a_killed_owner_frees_its_devices(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from pytest_kvcache.engines.devices import DevicePool
import time
with DevicePool(1, kind="cpu", device_ids=[0], lock_dir=Path({str(tmp_path)!r})).hold():
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        owner.send_signal(signal.SIGKILL)
    with DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path).hold() as slot:
        assert slot.device_ids == (0,)


def test_visible_gpus_are_those_that_the_environment_names() -> None:
    assert available_devices("gpu", {"CUDA_VISIBLE_DEVICES": "2,3"}) == (2, 3)
    assert available_devices("gpu", {"CUDA_VISIBLE_DEVICES": ""}) == ()
    assert available_devices("gpu", {"CUDA_VISIBLE_DEVICES": "-1"}) == ()
    with pytest.raises(EngineError, match=r"write e\.g\. 0,1"):
        available_devices("gpu", {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"})
    assert available_devices("cpu") == tuple(sorted(os.sched_getaffinity(0)))
