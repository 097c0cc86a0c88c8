"""Whatever has become of a golden's files, reading it gives one line that says so, never less or more."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from golden_mutations import bit_flipped, outcome, overwritten, study, truncated
from golden_samples import golden

from pytest_kvcache.engines.pool import TOP_K
from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden import GoldenDirectory, name_of, read
from pytest_kvcache.golden.layout import sealed
from pytest_kvcache.golden.sidecar import MAX_K


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
    "huge": (lambda b: b + b" " * 2**25, "more than 33,554,432 bytes"),
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
    with pytest.raises(GoldenError, match="it is a link, and links are not followed; put the file itself"):
        read(path)


@pytest.mark.parametrize("suffix", [".json", ".xz"])
def test_a_git_lfs_pointer_is_told_from_the_file_that_it_stands_for(path: Path, suffix: str) -> None:
    [file] = path.parent.glob(f"*{suffix}")
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")
    with pytest.raises(GoldenError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{file}: it is a Git LFS pointer, and not the file itself; git lfs pull brings that"
    )
    with pytest.raises(GoldenError, match="git lfs pull"):
        GoldenDirectory(path.parents[1]).commit([golden()])


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
    "longer": (
        lambda v: v["outputs"][0]["token_ids"].extend([1] * 256),
        "an output is longer than max_tokens",
    ),
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


def put_sidecar(path: Path, body: bytes, **provenance: Any) -> None:
    """Give a golden a sidecar that holds this, under a good hash and a good seal."""
    value = json.loads(path.read_bytes())
    del value["checksum"]
    packed = lzma.compress(body, preset=0)
    digest = hashlib.sha256(packed).hexdigest()
    value["sidecar"] = {"file": name_of(golden()).sidecar_file(digest), "sha256": digest}
    value["provenance"] |= provenance
    path.with_name(value["sidecar"]["file"]).write_bytes(packed)
    path.write_bytes(sealed(value))


@contextmanager
def limited_memory() -> Iterator[None]:
    """Fail if more than 64 MiB are in use at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def times(item: bytes, number: int) -> msgspec.Raw:
    """Return a packed list that holds a packed item so many times."""
    return msgspec.Raw(b"\xdd" + number.to_bytes(4) + item * number)


MANY = 2**26
TOKEN, NO_TOKENS, SCORED = b"\x01", b"\x90", b"\x93\x00\x00\x00"
PROMPTS = [times(TOKEN, 3)] * 8
NO_NUMBERS = {"logprobs": b"", "top_ids": b"", "top_logprobs": b""}

# Small as files, all of them; what they hold would be gigabytes as objects.
GREEDY: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "tokens": (lambda: [times(TOKEN, MANY), *PROMPTS[1:]], lambda: None, "more than its text allows"),
    "prompts": (lambda: times(NO_TOKENS, MANY), lambda: None, "more than its text allows"),
    "numbers": (
        lambda: PROMPTS,
        lambda: {"texts": [], **NO_NUMBERS, "logprobs": bytes(MANY)},
        "more than its text allows",
    ),
    "tokens in the place of numbers": (
        lambda: [times(TOKEN, 2**18 + 2**16 + 2**14)] * 8,
        lambda: None,
        "more tokens than their text allows",
    ),
    "small tokens in the place of large ones": (
        lambda: [times(TOKEN, 2**17)] * 8,
        lambda: None,
        "longer than max_model_len",
    ),
    "scored texts": (
        lambda: PROMPTS,
        lambda: {"texts": times(SCORED, 2**17), **NO_NUMBERS},
        "scores of more texts than there are",
    ),
    "alternatives": (lambda: PROMPTS, lambda: {"texts": [[0, 0, 21]], **NO_NUMBERS}, "<= 20"),
}


@pytest.mark.parametrize("greed", GREEDY)
def test_a_sidecar_takes_no_more_memory_than_its_text_accounts_for(path: Path, greed: str) -> None:
    prompts, scores, message = GREEDY[greed]
    body = {"format": 1, "prompt_token_ids": prompts(), "scores": scores(), "floor": None}
    put_sidecar(path, msgspec.msgpack.encode(body))
    with limited_memory(), pytest.raises(GoldenError, match=message) as caught:
        read(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("max_model_len", [2048, 0, 2**52])
def test_prompts_are_no_longer_than_both_model_and_text_allow(path: Path, max_model_len: int) -> None:
    for tokens in (2048, 2049, MANY):
        prompts = [times(TOKEN, tokens), *PROMPTS[1:]]
        body = {"format": 1, "prompt_token_ids": prompts, "scores": None, "floor": None}
        put_sidecar(path, msgspec.msgpack.encode(body), max_model_len=max_model_len)
        if tokens == 2048 or (tokens == 2049 and max_model_len != 2048):
            assert len(read(path).outputs.outputs[0].prompt_token_ids) == tokens
        else:
            with limited_memory(), pytest.raises(GoldenError, match=r"max_model_len|allows"):
                read(path)


@pytest.mark.parametrize(
    ("array", "number", "message"),
    [
        ("top_ids", struct.pack("<i", -1), "token ids below 0"),
        ("logprobs", struct.pack("<f", 0.1), "log-probabilities above 0"),
        ("top_logprobs", struct.pack("<f", float("inf")), "log-probabilities above 0"),
    ],
)
def test_a_sidecar_holds_no_numbers_that_no_engine_gives(
    path: Path, array: str, number: bytes, message: str
) -> None:
    body = msgspec.msgpack.decode(lzma.decompress(sidecar(path).read_bytes()))
    body["scores"][array] = number + body["scores"][array][4:]
    put_sidecar(path, msgspec.msgpack.encode(body))
    with pytest.raises(GoldenError, match=message):
        read(path)


def test_a_machine_with_too_little_memory_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pytest_kvcache.golden.reading.decode", full)
    with pytest.raises(GoldenError, match="not enough memory to read it; make room"):
        read(path)


def test_a_sidecar_has_room_for_all_alternatives_that_engines_give() -> None:
    assert MAX_K >= TOP_K


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
    original = lzma.decompress(sidecar(path).read_bytes())
    for _ in range(200):
        put_sidecar(path, rng.choice([bit_flipped, truncated, overwritten])(original, rng))
        assert not outcome(path).startswith("TRACEBACK")
