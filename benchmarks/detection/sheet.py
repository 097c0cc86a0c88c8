"""The reading sheet: a sample of real outputs for readers, without model, dtype or score.

    PYTHONPATH=benchmarks python -m detection.sheet FILE

Writes JSON lines of ``id``, ``prompt`` and ``text``, shuffled. Every label of the criterion, dtype and
prompt set is there in equal number, as far as there are such outputs, so that the doubtful ones, which
lie about the criterion's bounds, take a large share.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import msgspec

from detection.real import RealOutput, read_outputs

SIZE = 160
SEED = 3


def main(arguments: Sequence[str]) -> int:
    lines = [
        {"id": real.reading_id, "prompt": real.prompt, "text": real.text} for real in draw(read_outputs())
    ]
    Path(arguments[0]).write_bytes(msgspec.json.Encoder().encode_lines(lines))
    return 0


def draw(outputs: Iterable[RealOutput], size: int = SIZE) -> list[RealOutput]:
    """Return a stratified sample in random order; the same from the same outputs."""
    generator = random.Random(SEED)
    strata = defaultdict(list)
    for real in sorted(outputs, key=lambda real: real.id):
        strata[real.label, real.kv_dtype, real.prompt_set].append(real)
    for stratum in strata.values():
        generator.shuffle(stratum)
    turns = chain.from_iterable(zip_longest(*(strata[key] for key in sorted(strata))))
    sample = [real for real in turns if real is not None][:size]
    generator.shuffle(sample)
    return sample


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
