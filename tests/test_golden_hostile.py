"""Whatever has become of a golden's files, reading it gives one line that says so, never less or more."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_mutations import bit_flipped, outcome, overwritten, study, truncated
from golden_samples import golden

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden import GoldenDirectory, name_of, read
from pytest_kvcache.golden.layout import sealed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = GoldenDirectory(tmp_path)
    directory.commit([golden()])
    return directory.path(name_of(golden()))


def sidecar(path: Path) -> Path:
    return next(path.parent.glob("*.xz"))


def test_no_mutated_golden_passes_or_breaks_the_reader() -> None:
    found = study(250, seed=11)
    assert found.total() == 250
    assert [key for key in found if key[1].startswith(("TRACEBACK", "SILENT"))] == []


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "conflict": (lambda b: b.replace(b"\n", b"\n<<<<<<< HEAD\n", 1), "unresolved merge conflict"),
    "edited": (lambda b: b.replace(b"stop", b"stap", 1), "checksum does not match"),
    "cut": (lambda b: b[:-200], "its end is missing"),
    "latin-1": (lambda b: b.replace(b"small", b"sm\xe9ll", 1), "not UTF-8"),
    "crlf": (lambda b: b.replace(b"\n", b"\r\n"), "CRLF"),
    "foreign": (lambda _: b"{}", "no golden"),
    "empty": (lambda _: b"", "no golden"),
    "huge": (lambda b: b + b" " * 2**24, "more than 16,777,216 bytes"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_text_says_what_happened_and_what_to_do(path: Path, change: str) -> None:
    mutate, message = CHANGES[change]
    path.write_bytes(mutate(path.read_bytes()))
    with pytest.raises(GoldenError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "git" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_missing_sidecar_is_named(path: Path) -> None:
    sidecar(path).unlink()
    with pytest.raises(GoldenError, match=r"its sidecar small-256.auto.cpu.*xz is missing"):
        read(path)


def test_a_pipe_is_not_waited_for(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(GoldenError, match="no regular file"):
        read(path)


def test_a_link_is_not_followed(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    with pytest.raises(GoldenError, match="cannot be read"):
        read(path)


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "prompt": (lambda v: v["prompt_set"]["prompts"][0].update(text="other"), "not those of the key"),
    "order": (lambda v: v["outputs"].reverse(), "one for each and in order"),
    "fewer": (lambda v: v["outputs"].pop(), "one for each and in order|of 8 outputs"),
    "negative": (lambda v: v["outputs"][0]["token_ids"].insert(0, -1), "does not fit its schema"),
    "type": (lambda v: v["outputs"][0].update(text="one line"), "does not fit its schema"),
    "unknown": (lambda v: v.update(extra=1), "unknown field"),
    "sidecar": (lambda v: v["sidecar"].update(file="../../secret.xz"), "should be called"),
    "argument": (lambda v: v["engine"]["engine_args"].update(a="{"), "no JSON text"),
    "version": (lambda v: v.update(schema_version=True), "no schema_version"),
    "shorter": (lambda v: v["outputs"][0]["token_ids"].clear(), "more text than there is"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_seal_does_not_make_nonsense_a_golden(path: Path, forgery: str) -> None:
    value = json.loads(path.read_bytes())
    del value["checksum"]
    forge, message = FORGERIES[forgery]
    forge(value)
    path.write_bytes(sealed(value))
    with pytest.raises(GoldenError, match=message):
        read(path)


def test_random_values_under_a_good_seal_never_break_the_reader(path: Path) -> None:
    rng = random.Random(3)
    values: list[Any] = [
        None,
        True,
        -1,
        2**70,
        1.5,
        "",
        "\ud800",
        [],
        {},
        [[]],
        [None],
        {"a": {}},
        "9" * 2000,
    ]
    original = path.read_bytes()
    for _ in range(300):
        value = json.loads(original)
        del value["checksum"]
        place: Any = value
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = rng.choice(keys)
            if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.2:
                break
            place = place[key]
        place[key] = rng.choice(values)
        path.write_bytes(sealed(value))
        assert not outcome(path).startswith("TRACEBACK")


def test_a_forged_sidecar_is_refused_or_is_another_golden(path: Path) -> None:
    rng = random.Random(4)
    value, original = json.loads(path.read_bytes()), lzma.decompress(sidecar(path).read_bytes())
    del value["checksum"]
    for _ in range(200):
        body = rng.choice([bit_flipped, truncated, overwritten])(original, rng)
        packed = lzma.compress(body, preset=0)
        digest = hashlib.sha256(packed).hexdigest()
        value["sidecar"] = {"file": name_of(golden()).sidecar_file(digest), "sha256": digest}
        path.with_name(value["sidecar"]["file"]).write_bytes(packed)
        path.write_bytes(sealed(value))
        assert not outcome(path).startswith("TRACEBACK")
