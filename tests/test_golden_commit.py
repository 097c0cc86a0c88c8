"""Goldens are changed all together or not at all, and never lost to another writer."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from golden_samples import FULL_PROVENANCE, files, found, golden, penalised, put_in_version_1
from verdict_samples import prompt_set

from pytest_kvcache.errors import GoldenError, KvCacheError, PartlyWrittenError
from pytest_kvcache.golden import GoldenDirectory, as_kept, name_of
from pytest_kvcache.golden.layout import sealed
from pytest_kvcache.golden.migrate import VERSION

OLD, NEW = golden(), golden(text=lambda i: f"Something else about number {i}.")
NAME = name_of(OLD)


@pytest.fixture
def directory(tmp_path: Path) -> GoldenDirectory:
    return GoldenDirectory(tmp_path / "golden")


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

    @pytest.mark.parametrize("known", [True, None])
    def test_the_same_golden_of_an_older_schema_is_written_anew(
        self, directory: GoldenDirectory, known: bool | None
    ) -> None:
        facts = {"enforce_eager": known, "chunked_prefill": known}
        of = golden(provenance=replace(FULL_PROVENANCE, **facts))  # type: ignore[arg-type]
        directory.commit([of])
        before = files(directory)
        put_in_version_1(directory.path(NAME))
        assert directory.commit([of]) == (directory.path(NAME),)
        assert files(directory) == before
        assert directory.commit([of]) == ()

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

    def test_two_sets_of_one_name_are_told_apart(self, directory: GoldenDirectory) -> None:
        longer = golden(prompt_set(9))
        with pytest.raises(
            GoldenError, match="two models, prompt sets or variants that are kept under ref:gqa would both be"
        ):
            directory.commit([OLD, longer])

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
        other = name_of(penalised())
        directory.remove({other: directory.digest(other) or ""})
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
        path.write_bytes(sealed({**newer, "schema_version": VERSION + 1}))
        before = files(directory)
        with pytest.raises(GoldenError, match=r"newer pytest-kvcache \(schema 3\); upgrade yours"):
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
