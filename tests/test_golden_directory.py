"""Goldens are found, changed all together or not at all, and never lost to another writer."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from golden_samples import FULL_PROVENANCE, golden, penalised
from verdict_samples import prompt_set

from pytest_kvcache.errors import GoldenError, KvCacheError, PartlyWrittenError
from pytest_kvcache.golden import GoldenDirectory, as_kept, name_of
from pytest_kvcache.golden.layout import sealed
from pytest_kvcache.golden.places import locked
from pytest_kvcache.records import Golden

OLD, NEW = golden(), golden(text=lambda i: f"Something else about number {i}.")
NAME = name_of(OLD)


@pytest.fixture
def directory(tmp_path: Path) -> GoldenDirectory:
    return GoldenDirectory(tmp_path / "golden")


def files(directory: GoldenDirectory) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.root.rglob("*") if path.is_file()}


def found(directory: GoldenDirectory, of: Golden, platforms: tuple[str, ...] = ("cpu",)) -> Golden:
    return directory.find(of.outputs.spec.model, of.variant, of.prompt_set, platforms)


class TestCommit:
    def test_all_goldens_are_there_afterwards(self, directory: GoldenDirectory) -> None:
        written = directory.commit([OLD, penalised()])
        assert set(written) == {directory.path(name) for name in directory.names()}
        assert [found(directory, of) for of in (OLD, penalised())] == [as_kept(OLD), as_kept(penalised())]
        assert directory.problems() == ()

    def test_nothing_is_touched_where_nothing_has_changed(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD, penalised()])
        before = {path: path.stat().st_mtime_ns for path in files(directory)}
        assert directory.commit([OLD, penalised()]) == ()
        assert {path: path.stat().st_mtime_ns for path in files(directory)} == before

    def test_a_changed_golden_leaves_the_others_alone(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD, penalised()])
        other = directory.path(name_of(penalised())).read_bytes()
        assert directory.commit([NEW]) == (directory.path(NAME),)
        assert found(directory, NEW) == as_kept(NEW)
        assert directory.path(name_of(penalised())).read_bytes() == other
        assert len(files(directory)) == 4

    def test_the_umask_decides_who_may_read(self, directory: GoldenDirectory) -> None:
        before = os.umask(0o022)
        try:
            directory.commit([OLD])
        finally:
            os.umask(before)
        assert {stat.S_IMODE(path.stat().st_mode) for path in files(directory)} == {0o644}

    def test_a_golden_that_somebody_else_changed_is_not_overwritten(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD])
        seen = {NAME: directory.digest(NAME), name_of(penalised()): None}
        directory.commit([NEW])
        with pytest.raises(GoldenError, match="somebody else has changed it"):
            directory.commit([penalised(), golden(text=lambda _: "A third text.")], expected=seen)
        assert directory.names() == (NAME,)
        assert found(directory, NEW) == as_kept(NEW)

    def test_two_writers_of_the_same_content_agree(self, directory: GoldenDirectory) -> None:
        directory.commit([NEW])
        assert directory.commit([NEW], expected={NAME: None}) == ()

    def test_a_damaged_golden_is_written_anew(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD])
        directory.path(NAME).write_bytes(b"<<<<<<< HEAD\n")
        assert directory.commit([OLD]) == (directory.path(NAME),)
        assert found(directory, OLD) == as_kept(OLD)

    @pytest.mark.parametrize("nth", range(8))
    def test_a_full_disk_leaves_the_old_goldens(
        self, directory: GoldenDirectory, monkeypatch: pytest.MonkeyPatch, nth: int
    ) -> None:
        directory.commit([OLD, penalised()])
        before, calls = files(directory), iter(range(100))
        real = os.fsync

        def fsync(handle: int) -> None:
            if next(calls) == nth:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        changed = [NEW, penalised(text=lambda i: f"Otherwise {i}.")]
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(KvCacheError, match="No space left"):
                directory.commit(changed)
        after = files(directory)
        if nth < 6:  # four files, then the directories after the sidecars: before any text is renamed
            assert after == before
        assert directory.problems() == ()
        directory.commit(changed)
        assert found(directory, NEW) == as_kept(NEW)

    def test_goldens_that_were_written_before_a_refusal_are_named(
        self, directory: GoldenDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory.commit([OLD, penalised()])
        real, texts = os.replace, iter(range(100))

        def replace_one_text(source: Path, target: Path) -> None:
            if Path(target).suffix == ".json" and next(texts) == 1:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            real(source, target)

        changed = [NEW, penalised(text=lambda i: f"Otherwise {i}.")]
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_one_text)
            with pytest.raises(PartlyWrittenError) as caught:
                directory.commit(changed)
        assert str(caught.value) == (
            f"1 of 2 goldens were written ({directory.path(NAME)}), then the file system refused "
            "(Permission denied): put that right and refresh again"
        )
        assert found(directory, NEW) == as_kept(NEW)
        assert found(directory, penalised()) == as_kept(penalised())
        assert directory.problems() == ()

    def test_leftovers_that_cannot_be_removed_do_not_undo_a_commit(
        self, directory: GoldenDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory.commit([OLD])

        def refuse(_: Path, missing_ok: bool = False) -> None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            assert directory.commit([NEW]) == (directory.path(NAME),)
        assert len(directory.problems()) == 1
        directory.commit([NEW])
        assert directory.problems() == ()

    def test_a_commit_of_nothing_makes_no_directory(self, directory: GoldenDirectory) -> None:
        assert directory.commit([]) == ()
        assert not directory.root.exists()

    def test_two_models_of_one_name_are_told_apart(self, directory: GoldenDirectory) -> None:
        one, other = golden(model="a/b"), golden(model="a--b")
        with pytest.raises(GoldenError, match="a/b and a--b would both be"):
            directory.commit([one, other])
        directory.commit([one])
        with pytest.raises(GoldenError, match="would have the same name"):
            directory.commit([other])
        with pytest.raises(GoldenError, match="would have the same name"):
            found(directory, other)

    def test_what_a_killed_writer_left_is_removed(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD])
        folder = directory.path(NAME).parent
        (folder / ".small-256.auto.cpu.json.kv-tmp").write_bytes(b"half")
        (folder / "small-256.auto.cpu.0123456789ab.xz").write_bytes(b"of a commit that was not")
        (folder / "gone-256.auto.cpu.0123456789ab.xz").write_bytes(b"of no golden")
        (folder / "README.md").write_text("ours")
        assert [problem.path.name for problem in directory.problems()] == [
            ".small-256.auto.cpu.json.kv-tmp",
            "gone-256.auto.cpu.0123456789ab.xz",
            "small-256.auto.cpu.0123456789ab.xz",
        ]
        directory.commit([OLD])
        assert [problem.path.name for problem in directory.problems()] == [
            "gone-256.auto.cpu.0123456789ab.xz"
        ]
        directory.remove_leftovers()
        assert directory.problems() == ()
        assert (folder / "README.md").exists()

    def test_the_sidecar_of_a_golden_that_was_moved_away_stays(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD, penalised()])
        path = directory.path(NAME)
        away = path.rename(directory.root.parent / path.name)
        assert directory.commit([penalised()]) == ()
        directory.commit([penalised(text=lambda i: f"Otherwise {i}.")])
        directory.remove([name_of(penalised())])
        away.rename(path)
        assert found(directory, OLD) == as_kept(OLD)
        assert directory.problems() == ()

    @pytest.mark.parametrize("place", ["ref-gqa/other.json", "other.json", "ref-gqa/small-256.fp8.cpu.json"])
    def test_no_sidecar_that_a_renamed_text_names_is_removed(
        self, directory: GoldenDirectory, place: str
    ) -> None:
        directory.commit([OLD])
        path = directory.path(NAME)
        renamed = path.rename(directory.root / place)
        directory.commit([NEW])
        directory.remove_leftovers()
        renamed.rename(path)
        assert found(directory, OLD) == as_kept(OLD)

    def test_the_old_sidecar_that_a_killed_writer_left_goes_with_the_next_commit_of_its_golden(
        self, directory: GoldenDirectory
    ) -> None:
        directory.commit([OLD])
        before = files(directory)
        directory.commit([NEW])
        for path, data in before.items():
            if path.suffix == ".xz":
                path.write_bytes(data)
        directory.commit([penalised()])
        assert len(directory.problems()) == 1
        assert directory.commit([NEW]) == ()
        assert directory.problems() == ()

    def test_a_commit_that_fails_removes_nothing_that_was_there(
        self, directory: GoldenDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory.commit([OLD])
        directory.path(NAME).unlink()
        before = files(directory)

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(KvCacheError, match="No space left"):
                directory.commit([NEW])
        assert files(directory) == before

    def test_a_golden_of_a_newer_version_is_not_overwritten(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD])
        path = directory.path(NAME)
        newer = {k: v for k, v in json.loads(path.read_bytes()).items() if k != "checksum"}
        path.write_bytes(sealed({**newer, "schema_version": 2}))
        before = files(directory)
        with pytest.raises(GoldenError, match=r"newer pytest-kvcache \(schema 2\); upgrade yours"):
            directory.commit([NEW, penalised()])
        assert files(directory) == before

    def test_a_misnamed_golden_is_not_overwritten(self, directory: GoldenDirectory) -> None:
        other = golden(variant="fp8_e4m3")
        directory.commit([other])
        directory.path(name_of(other)).rename(directory.path(NAME))
        before = files(directory)
        with pytest.raises(GoldenError, match="this is the golden of ref-gqa fp8_e4m3"):
            directory.commit([NEW])
        assert files(directory) == before

    def test_a_pipe_in_its_place_is_not_overwritten(self, directory: GoldenDirectory) -> None:
        directory.path(NAME).parent.mkdir(parents=True)
        os.mkfifo(directory.path(NAME))
        with pytest.raises(GoldenError, match="no regular file"):
            directory.commit([NEW])

    def test_the_directories_that_were_made_are_made_to_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced = []
        real = os.fsync

        def fsync(handle: int) -> None:
            synced.append(Path(f"/proc/self/fd/{handle}").readlink())
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        GoldenDirectory(tmp_path / "some" / "golden").commit([OLD])
        assert {tmp_path, tmp_path / "some"} <= set(synced)

    def test_a_directory_that_cannot_be_locked_says_so(
        self, directory: GoldenDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory.commit([OLD])

        def flock(_: int, how: int) -> None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), how)

        monkeypatch.setattr(fcntl, "flock", flock)
        for act in (lambda: directory.commit([NEW]), directory.check_writable):
            with pytest.raises(GoldenError, match=r"cannot be locked .*keep goldens in .* on a local disk"):
                act()
        assert directory.problems() == ()

    def test_a_model_whose_name_holds_a_secret_has_no_golden(self, directory: GoldenDirectory) -> None:
        secret = golden(model="org/hf_abcdefghijklmnopqrstuv")
        for of in (secret, as_kept(secret)):
            with pytest.raises(GoldenError, match=r"holds a secret .* name the model without it") as caught:
                directory.commit([of])
            assert "hf_abc" not in str(caught.value)
        assert "hf_abc" not in repr(as_kept(secret))
        assert directory.names() == ()

    def test_a_damaged_golden_keeps_its_sidecar(self, directory: GoldenDirectory) -> None:
        directory.commit([OLD])
        whole = directory.path(NAME).read_bytes()
        directory.path(NAME).write_bytes(whole[:500])
        directory.commit([penalised()])
        directory.path(NAME).write_bytes(whole)
        assert found(directory, OLD) == as_kept(OLD)

    def test_writers_in_other_processes_lose_nothing(self, directory: GoldenDirectory) -> None:
        context = multiprocessing.get_context("fork")
        writers = [context.Process(target=_commit_variants, args=(directory.root, n)) for n in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
        assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
        assert len(directory.names()) == 12
        assert directory.problems() == ()


def _commit_variants(root: Path, n: int) -> None:
    for variant in ("a", "b", "c"):
        GoldenDirectory(root).commit([golden(prompt_set(3), variant=f"{variant}{n}")])


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
    directory.remove([NAME, name_of(golden(variant="never"))])
    assert directory.names() == (name_of(penalised()),)
    assert directory.get(NAME) is None
    assert len(files(directory)) == 2


def test_a_directory_that_is_not_there_is_empty(directory: GoldenDirectory) -> None:
    directory.remove([NAME])
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
