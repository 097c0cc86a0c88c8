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


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("2,3", ("2", "3")),
        ("", ()),
        ("-1", ()),
        ("1,-1,0", ("1",)),
        ("GPU-8932f937, MIG-GPU-a5/1/0", ("GPU-8932f937", "MIG-GPU-a5/1/0")),
    ],
)
def test_visible_gpus_are_those_that_the_environment_names(visible: str, names: tuple[str, ...]) -> None:
    assert available_devices("gpu", {"CUDA_VISIBLE_DEVICES": visible}) == names


def test_cores_are_those_that_the_process_may_use() -> None:
    assert available_devices("cpu") == tuple(map(str, sorted(os.sched_getaffinity(0))))


def test_a_gpu_that_goes_by_its_uuid_is_held_and_made_visible_by_it(tmp_path: Path) -> None:
    pool = DevicePool(2, kind="gpu", device_ids=["GPU-8932f937", "MIG-GPU-a5/1/0"], lock_dir=tmp_path)
    with pool.hold() as first, pool.hold() as second:
        assert [first.device_ids, second.device_ids] == [(0,), (1,)]
        assert first.environment() == {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}
        assert second.environment() == {"CUDA_VISIBLE_DEVICES": "MIG-GPU-a5/1/0"}


def test_engines_of_many_gpus_and_of_one_share_them_without_standing_in_each_others_way(
    tmp_path: Path,
) -> None:
    program = f"""
import sys, time
from pathlib import Path
from pytest_kvcache.engines import devices
devices.POLL_SECONDS = 0.001
pool = devices.DevicePool(4, kind="gpu", device_ids=range(3), lock_dir=Path({str(tmp_path)!r}))
for _ in range(20):
    with pool.hold(int(sys.argv[1])) as slot:
        marks = [Path({str(tmp_path)!r}, f"used-{{i}}") for i in slot.device_ids]
        assert len(marks) == int(sys.argv[1])
        for mark in marks:
            mark.touch(exist_ok=False)
        time.sleep(0.001)
        for mark in marks:
            mark.unlink()
"""
    engines = [subprocess.Popen([sys.executable, "-c", program, str(units)]) for units in (2, 2, 3, 1, 1)]
    assert [engine.wait(timeout=60) for engine in engines] == [0] * 5


def test_an_engine_that_must_wait_for_one_gpu_keeps_none_of_the_others(tmp_path: Path) -> None:
    pool = DevicePool(2, kind="gpu", device_ids=[0, 1], lock_dir=tmp_path)

    class WaitedError(Exception):
        pass

    def waiting() -> None:
        raise WaitedError

    with pool.hold():
        with pytest.raises(WaitedError), pool.hold(2, waiting=waiting):
            pytest.fail("two engines on one GPU")
        with pool.hold() as other:
            assert other.device_ids == (1,)
