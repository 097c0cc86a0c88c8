"""What becomes of goldens that were damaged: are they refused in one line, whatever happened to them?

Mutates the text or the sidecar of a golden in the ways that disks, editors, merges and attackers do, and
reads it. A third of them is forged: changed, and sealed again (`golden_forgeries`). A traceback is any
exception but `GoldenError`; a silent pass is a mutated file that was read although its bytes differ, or a
forged one although a reader can know.

    python benchmarks/golden_mutations.py [--n 2000] [--seed 5]
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from golden_forgeries import forge
from golden_samples import golden, penalised

from pytest_kvcache.errors import GoldenError
from pytest_kvcache.golden import GoldenDirectory, name_of, read
from pytest_kvcache.measures.paired import share_interval

Mutation = Callable[[bytes, random.Random], bytes]


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def bit_flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwritten(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.randrange(1, 64)) + data[start + 32 :]


def doubled(data: bytes, rng: random.Random) -> bytes:
    cut = rng.randrange(1, len(data) + 1)
    return data + data[:cut]


def zeroed(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + bytes(len(data) - start)


def other_type(data: bytes, rng: random.Random) -> bytes:
    values = ["null", "true", "1.5", '"text"', "[]", "{}", "-1", "[[1]]"]
    return _value_replaced(data, rng, rng.choice(values))


def no_json_number(data: bytes, rng: random.Random) -> bytes:
    numbers = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 30, "9" * 5000, "-0", "1E5"]
    return _value_replaced(data, rng, rng.choice(numbers))


def nested_deeply(data: bytes, rng: random.Random) -> bytes:
    depth = rng.choice([200, 2_000, 200_000])
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    return _value_replaced(data, rng, opening * depth + "1" + closing * depth)


def huge(data: bytes, rng: random.Random) -> bytes:
    padding = rng.choice([b" ", b"\n", b"[", b"\0", data])
    return data + padding * (rng.choice([1_000, 1_000, 1_000, 34_000_000]) // len(padding) + 1)


def recoded(data: bytes, rng: random.Random) -> bytes:
    text = data.decode() + "é"
    coding = rng.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig", "utf-7", "cp037"])
    return text.encode(coding, errors="replace")


def merge_conflict(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    start = rng.randrange(len(lines) - 1)
    mine = lines[start : start + rng.randrange(1, 9)]
    theirs = [line.replace(b"a", b"e") for line in mine]
    hunk = [b"<<<<<<< HEAD", *mine, b"=======", *theirs, b">>>>>>> other"]
    return b"\n".join([*lines[:start], *hunk, *lines[start + len(mine) :]])


def edited(data: bytes, rng: random.Random) -> bytes:
    """Change one value as a person would; the JSON stays valid."""
    place = rng.choice(list(re.finditer(rb"[a-z]{3,}", data[40:])))
    return data[: 40 + place.start()] + b"edited" + data[40 + place.end() :]


def reformatted(data: bytes, rng: random.Random) -> bytes:
    """Write the same content another way."""
    value = json.loads(data)
    return rng.choice(
        [
            json.dumps(value, indent=rng.choice([None, 1, 4])).encode(),
            json.dumps(dict(sorted(value.items(), reverse=True)), indent=2).encode(),
            data.replace(b"\n", b"\r\n"),
            data.rstrip(b"\n"),
            data + b"\n",
            b" " + data,
        ]
    )


def key_twice(data: bytes, rng: random.Random) -> bytes:
    place = rng.choice(list(re.finditer(rb'\n +("[a-z_]+": [^\n\[{]+),\n', data)))
    return data[: place.end()] + b"  " + place[1] + b",\n" + data[place.end() :]


def line_lost(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    del lines[rng.randrange(len(lines) - 1)]
    return b"\n".join(lines)


def lines_swapped(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    one, other = rng.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def repacked(data: bytes, rng: random.Random) -> bytes:
    """Compress what a sidecar holds in another way, or another content."""
    body = lzma.decompress(data)
    return rng.choice(
        [
            lzma.compress(body, preset=9, check=lzma.CHECK_SHA256),
            lzma.compress(body, format=lzma.FORMAT_ALONE),
            lzma.compress(bit_flipped(body, rng)),
            lzma.compress(truncated(body, rng)),
            lzma.compress(bytes(2**24), preset=1),
            lzma.compress(b"\x91" * 100_000),
        ]
    )


_OF_BOTH: tuple[Mutation, ...] = (truncated, bit_flipped, overwritten, doubled, zeroed, huge)
_OF_TEXT: tuple[Mutation, ...] = (
    other_type,
    no_json_number,
    nested_deeply,
    recoded,
    merge_conflict,
    edited,
    reformatted,
    key_twice,
    line_lost,
    lines_swapped,
)


_SCALAR = re.compile(rb'(?<=: |  )([0-9.]+|"[^"\n]*"|null|true|false)(?=,?\n)')


def _value_replaced(data: bytes, rng: random.Random, value: str) -> bytes:
    place = rng.choice(
        list(re.finditer(rb"(?<=: |\[,|  )([0-9.]+|\"[^\"\n]*\"|null|true|false)(?=,?\n)", data))
    )
    return data[: place.start()] + value.encode() + data[place.end() :]


def mutate(text: Path, others: Path, rng: random.Random) -> str | None:
    """Damage a golden's files in place and return how; None if its bytes are what they were."""
    sidecar = next(text.parent.glob(f"{text.stem}.*.xz"))
    if rng.random() < 1 / 3:
        return forge(text, sidecar, rng)
    if rng.random() < 0.05:
        return _file_replaced(rng.choice([text, sidecar]), others, rng)
    path, kinds = rng.choice([(text, (*_OF_BOTH, *_OF_TEXT)), (sidecar, (*_OF_BOTH, repacked))])
    kind, before = rng.choice(kinds), path.read_bytes()
    after = kind(before, rng)
    path.write_bytes(after)
    where = "text" if path == text else "sidecar"
    return None if after == before else f"{where} {kind.__name__.replace('_', ' ')}"


def _file_replaced(path: Path, others: Path, rng: random.Random) -> str:
    kind = rng.choice(["missing", "directory", "pipe", "link", "other golden's"])
    where = "text" if path.suffix == ".json" else "sidecar"
    data = path.read_bytes()
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        target = path.with_name("target")
        target.write_bytes(data)
        path.symlink_to(target)
    elif kind == "other golden's":
        path.write_bytes(next(others.rglob(f"*{path.suffix}")).read_bytes())
    return f"{where} {kind}"


def outcome(path: Path) -> str:
    """Read a golden and return how it was refused: the message without what differs from file to file."""
    try:
        read(path)
    except GoldenError as error:
        line = str(error)
        if "\n" in line or not line.isprintable():
            return "TRACEBACK: more than a line"
        said = line.split(": ")[1].partition(";")[0]
        return re.sub(r"\s*(\S+\.xz|\(.*\))", "", said)
    except Exception as error:
        return f"TRACEBACK: {type(error).__name__}: {error}"[:200]
    return "SILENT PASS"


def study(n: int, seed: int) -> Counter[tuple[str, str]]:
    """Return how often each kind of damage came to each outcome, for ``n`` mutated goldens."""
    found: Counter[tuple[str, str]] = Counter()
    samples = (golden(), penalised(), golden(logprobs=False, variant="fp8_e4m3"))
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, others, damaged = (Path(folder, name) for name in ("whole", "others", "damaged"))
        GoldenDirectory(whole).commit(samples)
        GoldenDirectory(others).commit([golden(text=lambda i: f"The other text of number {i}.")])
        while found.total() < n:
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(whole, damaged)
            path = name_of(rng.choice(samples)).path(damaged)
            if (kind := mutate(path, others, rng)) is not None:
                found[kind, outcome(path)] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    found = study(arguments.n, arguments.seed)
    for what in ("TRACEBACK", "SILENT PASS"):
        count = sum(times for (_, how), times in found.items() if how.startswith(what))
        share = share_interval(count, found.total())
        bounds = f"{100 * share.low:.2f} to {100 * share.high:.2f} %"
        print(f"{what.lower()}: {count} of {found.total()} (95 %, Wilson: {bounds})")
    for title, place in (("mutations", 0), ("found by", 1)):
        print(f"\n{title}")
        counts: Counter[str] = Counter()
        for key, times in found.items():
            counts[key[place]] += times
        for name, times in counts.most_common():
            print(f"  {times:5}  {name}")


if __name__ == "__main__":
    main()
