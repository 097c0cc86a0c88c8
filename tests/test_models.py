"""A model directory that cannot be loaded is refused before any engine starts, with what to do."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pytest_kvcache.errors import UsageError
from pytest_kvcache.models import check_model, length_of

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"
EMPTY_HEADER = struct.pack("<Q", 2) + b"{}"


def model(directory: Path, weights: bytes) -> str:
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(weights)
    return str(directory)


@pytest.mark.parametrize("weights", [b"", EMPTY_HEADER[:-1], LFS_POINTER])
def test_weights_that_are_not_whole_are_named(tmp_path: Path, weights: bytes) -> None:
    with pytest.raises(
        UsageError, match=r"model\.safetensors are no whole safetensors file: .*fetch them again"
    ):
        check_model(model(tmp_path, weights))


def test_a_link_to_weights_that_are_gone_is_named(tmp_path: Path) -> None:
    path = model(tmp_path, EMPTY_HEADER)
    (tmp_path / "other.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"other\.safetensors cannot be read"):
        check_model(path)


def test_a_models_length_is_read_where_it_lies(tmp_path: Path) -> None:
    path = model(tmp_path, EMPTY_HEADER)
    assert length_of(path) is None
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 4096}')
    assert length_of(path) == 4096
    assert length_of("owner/on-the-hub") is None


def test_whole_weights_pass(tmp_path: Path) -> None:
    check_model(model(tmp_path, EMPTY_HEADER))
