"""Goldens are found, and what is wrong with them or their directory is told in one line."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from golden_samples import FULL_PROVENANCE, files, found, golden, penalised

from pytest_kvcache.errors import GoldenError, KvCacheError
from pytest_kvcache.golden import GoldenDirectory, name_of
from pytest_kvcache.golden.places import locked
from pytest_kvcache.records import Golden

OLD, NEW = golden(), golden(text=lambda i: f"Something else about number {i}.")
NAME = name_of(OLD)


@pytest.fixture
def directory(tmp_path: Path) -> GoldenDirectory:
    return GoldenDirectory(tmp_path / "golden")


class TestFind:
    @pytest.fixture(autouse=True)
    def _there(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD])

    def test_the_first_platform_that_has_one_is_taken(self, directory: GoldenDirectory) -> None:
        directory.commit([golden(provenance=replace(FULL_PROVENANCE, platform="cuda"))])
        assert found(directory, OLD, ("cuda", "cpu")).outputs.provenance.platform == "cuda"
        assert found(directory, OLD, ("rocm", "cpu")).outputs.provenance.platform == "cpu"

    @pytest.mark.parametrize("wanted", [golden(variant="fp8_e4m3"), golden(model="x/y"), penalised()])
    def test_a_missing_golden_says_how_to_write_it(self, directory: GoldenDirectory, wanted: Golden) -> None:
        with pytest.raises(GoldenError, match=r"there is no golden of .*--kv-golden-update=new"):
            found(directory, wanted)

    def test_a_golden_of_another_platform_is_named(self, directory: GoldenDirectory) -> None:
        with pytest.raises(GoldenError, match=r"there is ref-gqa auto small \(256 tokens, cpu\)"):
            found(directory, OLD, ("cuda",))

    def test_changed_prompts_are_counted_and_named(self, directory: GoldenDirectory) -> None:
        first, second, *rest = OLD.prompt_set.prompts
        renamed = replace(second, id="q2")
        prompts = replace(OLD.prompt_set, prompts=(replace(first, text="Otherwise."), renamed, *rest))
        with pytest.raises(GoldenError, match=r"1 changed \(p00\); 1 new \(q2\); 1 gone \(p01\)"):
            directory.find("ref:gqa", "auto", prompts, ("cpu",))

    def test_changed_sampling_is_named(self, directory: GoldenDirectory) -> None:
        sampling = replace(OLD.prompt_set.sampling, repetition_penalty=1.2)
        with pytest.raises(GoldenError, match=r"repetition_penalty 1.0 -> 1.2"):
            directory.find("ref:gqa", "auto", replace(OLD.prompt_set, sampling=sampling), ("cpu",))

    def test_a_copy_under_another_name_is_refused(self, directory: GoldenDirectory) -> None:
        path = directory.path(NAME)
        path.rename(path.with_name("small-256.fp8_e4m3.cpu.json"))
        with pytest.raises(GoldenError, match="this is the golden of ref-gqa auto"):
            found(directory, golden(variant="fp8_e4m3"))


def test_removing_takes_both_files_and_nothing_else(directory: GoldenDirectory) -> None:
    directory.commit([OLD, penalised()])
    digest = directory.digest(NAME) or ""
    assert directory.remove({NAME: digest, name_of(golden(variant="never")): digest}) == (NAME,)
    assert directory.names() == (name_of(penalised()),)
    assert directory.get(NAME) is None
    assert len(files(directory)) == 2


def test_what_a_writer_changes_while_removing_waits_for_it_stays(directory: GoldenDirectory) -> None:
    directory.commit([OLD])
    digest, path = directory.digest(NAME) or "", directory.path(NAME)
    with ThreadPoolExecutor() as pool:
        with locked(directory.root, fcntl.LOCK_EX):
            removed = pool.submit(directory.remove, {NAME: digest})
            path.write_bytes(path.read_bytes() + b" ")
        assert removed.result() == ()
    assert path.exists()


def test_a_directory_that_is_not_there_is_empty(directory: GoldenDirectory) -> None:
    assert directory.remove({NAME: "0" * 64}) == ()
    assert directory.remove_leftovers() == ()
    assert (directory.names(), directory.problems(), directory.digest(NAME)) == ((), (), None)
    assert not directory.root.exists()


def test_misnamed_and_unreadable_goldens_are_problems(directory: GoldenDirectory) -> None:
    directory.commit([OLD])
    path = directory.path(NAME)
    path.with_name("whatever.json").write_bytes(path.read_bytes())
    path.write_bytes(b"")
    messages = [problem.message for problem in directory.problems()]
    assert len(messages) == 2
    assert "no golden, or its beginning is damaged" in messages[0]
    assert f"it should be {path}" in messages[1]


def test_a_place_that_cannot_be_written_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "golden").write_text("a file")
    with pytest.raises(KvCacheError, match="golden, which is no directory; check --kv-golden-dir"):
        GoldenDirectory(tmp_path / "golden").commit([OLD])


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_place_of_the_directory_does_not_read_as_an_empty_one(tmp_path: Path, below: str) -> None:
    (tmp_path / "golden").write_text("a file")
    directory = GoldenDirectory(tmp_path / "golden" / below)
    for act in (directory.names, lambda: directory.get(NAME), lambda: found(directory, OLD)):
        with pytest.raises(GoldenError, match="golden, which is no directory; check --kv-golden-dir"):
            act()
    assert [problem.path for problem in directory.problems()] == [directory.root]


@pytest.mark.parametrize("closed", ["golden", "golden/ref-gqa"])
def test_a_directory_that_may_not_be_read_gives_one_line(directory: GoldenDirectory, closed: str) -> None:
    directory.commit([OLD])
    place = directory.root.parent / closed
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe()
    for above in directory.root.parents:
        if above.owner() == directory.root.owner() and above.stat().st_mode & 0o077 == 0:
            above.chmod(above.stat().st_mode | 0o011)
    place.chmod(0)
    try:
        reader = context.Process(target=_tell_as_nobody, args=(directory, sender))
        reader.start()
        assert receiver.poll(30)
        said = receiver.recv()
        reader.join(30)
    finally:
        place.chmod(0o755)
    assert len(said) == 5
    assert all(f"{place}" in line and "Permission denied" in line for line in said)
    assert not any("Traceback" in line or "\n" in line for line in said)


def _tell_as_nobody(directory: GoldenDirectory, sender: Connection) -> None:
    if os.getuid() == 0:
        os.setuid(65534)
    said = [problem.message for problem in directory.problems()]
    for act in (
        directory.names,
        lambda: directory.get(NAME),
        lambda: found(directory, OLD),
        lambda: directory.commit([NEW]),
    ):
        try:
            act()
        except GoldenError as error:
            said.append(str(error))
    sender.send(said)


def test_what_a_running_writer_has_begun_is_no_leftover(directory: GoldenDirectory) -> None:
    directory.commit([OLD])
    begun = directory.path(NAME).with_name(".small-256.auto.cpu.json.kv-tmp")
    begun.write_bytes(b"half")
    with ThreadPoolExecutor(1) as pool:
        with locked(directory.root, fcntl.LOCK_EX):
            problems = pool.submit(directory.problems)
            with pytest.raises(FutureTimeout):
                problems.result(0.2)
            begun.unlink()
        assert problems.result(30) == ()


class TestCheckWritable:
    def test_a_directory_to_be_made_will_do(self, directory: GoldenDirectory) -> None:
        directory.check_writable()
        assert not directory.root.exists()

    @pytest.mark.parametrize("below", ["", "golden", "some/where"])
    def test_a_file_in_its_place_or_above_it_is_named(self, tmp_path: Path, below: str) -> None:
        (tmp_path / "file").write_text("ours")
        with pytest.raises(GoldenError, match=r"file is no directory; check --kv-golden-dir"):
            GoldenDirectory(tmp_path / "file" / below).check_writable()

    @pytest.mark.parametrize("is_made", [True, False])
    def test_what_may_not_be_written_is_named(
        self, directory: GoldenDirectory, monkeypatch: pytest.MonkeyPatch, is_made: bool
    ) -> None:
        if is_made:
            directory.root.mkdir()
        place = directory.root if is_made else directory.root.parent
        monkeypatch.setattr(os, "access", lambda path, _: Path(path) != place)
        with pytest.raises(GoldenError, match=f"make {place} writable"):
            directory.check_writable()
