"""Goldens that somebody has forged: what no engine writes, under a good hash and a good seal.

Whoever can seal a golden can put other words into it, and nobody can tell. These forgeries are of what a
reader can know: counts that contradict each other, other types, impossible numbers, ids out of range, prompts
that are not those of their key, names of something else, sizes that the rest does not account for.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pytest_kvcache.golden.layout import sealed
from pytest_kvcache.golden.names import HASH_DIGITS

Content = dict[str, Any]
"""What a text or a sidecar holds."""
Forgery = Callable[[Content, random.Random], None]


def forge(text: Path, sidecar: Path, rng: random.Random) -> str:
    """Change what one of a golden's files holds, seal both anew, and return what was changed."""
    value, body = json.loads(text.read_bytes()), msgspec.msgpack.decode(lzma.decompress(sidecar.read_bytes()))
    del value["checksum"]
    of_sidecar = (*_OF_PROMPTS, *(_OF_SCORES if body["scores"] else ()))
    if rng.random() < 0.5:
        where, forgery = "text", rng.choice(_OF_TEXT)
        forgery(value, rng)
    else:
        where, forgery = "sidecar", rng.choice(of_sidecar)
        forgery(body, rng)
        packed = lzma.compress(msgspec.msgpack.encode(body), preset=0)
        digest = hashlib.sha256(packed).hexdigest()
        file = f"{text.stem}.{digest[:HASH_DIGITS]}.xz"
        value["sidecar"] = {"file": file, "sha256": digest}
        text.with_name(file).write_bytes(packed)
    text.write_bytes(sealed(value))
    return f"forged {where} {forgery.__name__.replace('_', ' ')}"


# The text


def outputs_lost(value: Content, rng: random.Random) -> None:
    del value["outputs"][rng.randrange(len(value["outputs"]))]


def output_twice(value: Content, rng: random.Random) -> None:
    value["outputs"].append(rng.choice(value["outputs"]))


def outputs_swapped(value: Content, rng: random.Random) -> None:
    one, other = rng.sample(range(len(value["outputs"])), 2)
    outputs = value["outputs"]
    outputs[one], outputs[other] = outputs[other], outputs[one]


def token_of_no_vocabulary(value: Content, rng: random.Random) -> None:
    ids = rng.choice(value["outputs"])["token_ids"]
    ids.insert(rng.randrange(len(ids) + 1), rng.choice([-1, 2**31, 2**70, 1.5, "7", True, None, [1]]))


def longer_than_max_tokens(value: Content, rng: random.Random) -> None:
    most = value["prompt_set"]["sampling"]["max_tokens"]
    rng.choice(value["outputs"])["token_ids"] = [1] * (most + rng.choice([1, 1000]))


def other_prompts(value: Content, rng: random.Random) -> None:
    of = value["prompt_set"]
    place, change = rng.choice(
        [
            (of, {"key": f"{rng.getrandbits(64):016x}"}),
            (of, {"prompts": [*of["prompts"], {**of["prompts"][0], "id": "another"}]}),
            (of["sampling"], {"temperature": 0.7}),
            (of["sampling"], {"max_tokens": 2**30}),
            (rng.choice(of["prompts"]), {"text": "Another one."}),
        ]
    )
    place.update(change)


def object_in_the_place_of_a_value(value: Content, rng: random.Random) -> None:
    place, key = _somewhere(value, rng)
    place[key] = {"a": {}}


def field_lost(value: Content, rng: random.Random) -> None:
    place = rng.choice([value, value["prompt_set"], value["engine"], value["sidecar"], value["outputs"][0]])
    del place[rng.choice(list(place))]


def field_added(value: Content, rng: random.Random) -> None:
    rng.choice([value, value["provenance"], value["prompt_set"], rng.choice(value["outputs"])])["more"] = 1


def impossible_number(value: Content, rng: random.Random) -> None:
    counts = ["block_size", "threads", "max_model_len", "max_num_seqs", "max_num_batched_tokens"]
    value["provenance"][rng.choice(counts)] = rng.choice([-1, 0.5, 2**53, 10**400])


def shorter_than_its_prompts(value: Content, rng: random.Random) -> None:
    value["provenance"]["max_model_len"] = rng.choice([1, 2])


def of_something_else(value: Content, rng: random.Random) -> None:
    places = ((value, "variant"), (value["provenance"], "platform"), (value["prompt_set"], "name"))
    place, key = rng.choice(places)
    place[key] = "another"


def sidecar_elsewhere(value: Content, rng: random.Random) -> None:
    digest = f"{rng.getrandbits(256):064x}"
    value["sidecar"].update(rng.choice([{"file": "../../secret.xz"}, {"sha256": digest}, {"file": ""}]))


def other_version(value: Content, rng: random.Random) -> None:
    value["schema_version"] = rng.choice([0, -1, 99, 10**30, "2", 2.0, True, None])


def no_argument(value: Content, rng: random.Random) -> None:
    value["engine"]["engine_args"]["seed"] = rng.choice(["{", "nan", "", "[" * 100_000, 1])


# The sidecar


def prompts_lost(body: Content, rng: random.Random) -> None:
    del body["prompt_token_ids"][rng.randrange(len(body["prompt_token_ids"]))]


def prompt_of_no_vocabulary(body: Content, rng: random.Random) -> None:
    rng.choice(body["prompt_token_ids"]).append(rng.choice([-1, 2**31, 1.5, "7", None, [1]]))


def endless_prompt(body: Content, rng: random.Random) -> None:
    rng.choice(body["prompt_token_ids"]).extend([1] * rng.choice([2048, 2**20, 2**23]))


def other_format(body: Content, rng: random.Random) -> None:
    body.update(rng.choice([{"format": 2}, {"more": 1}, {"scores": []}, {"floor": 1}, {"format": None}]))


def text_of_none(body: Content, rng: random.Random) -> None:
    scored = rng.choice(_scores(body, rng)["texts"])
    scored[rng.randrange(3)] = rng.choice([-1, 10_000, 2**31, None, "1"])


def text_twice(body: Content, rng: random.Random) -> None:
    texts = _scores(body, rng)["texts"]
    texts.append(rng.choice(texts))


def numbers_lost(body: Content, rng: random.Random) -> None:
    scores, name = _scores(body, rng), _array(rng)
    scores[name] = scores[name][: rng.randrange(len(scores[name]))]


def numbers_added(body: Content, rng: random.Random) -> None:
    scores, name = _scores(body, rng), _array(rng)
    scores[name] += bytes(rng.choice([1, 4, 2**20, 2**24]))


def probability_above_1(body: Content, rng: random.Random) -> None:
    name = rng.choice(["logprobs", "top_logprobs"])
    _overwrite(_scores(body, rng), name, struct.pack("<f", rng.choice([0.1, 5.0, 1e30, float("inf")])), rng)


def alternative_of_no_vocabulary(body: Content, rng: random.Random) -> None:
    _overwrite(_scores(body, rng), "top_ids", struct.pack("<i", -rng.randrange(1, 2**31)), rng)


def _scores(body: Content, rng: random.Random) -> Content:
    scores: Content = body[rng.choice(["scores", "floor"])]
    return scores


def _array(rng: random.Random) -> str:
    return rng.choice(["logprobs", "top_ids", "top_logprobs"])


def _overwrite(scores: Content, name: str, number: bytes, rng: random.Random) -> None:
    place = 4 * rng.randrange(len(scores[name]) // 4)
    scores[name] = scores[name][:place] + number + scores[name][place + 4 :]


def _somewhere(value: Content, rng: random.Random) -> tuple[Any, Any]:
    """Return where a value that holds no others stands: what holds it, and its key or index."""
    place: Any = value
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], (dict, list)) or not place[key]:
            return place, key
        place = place[key]


_OF_TEXT: tuple[Forgery, ...] = (
    outputs_lost,
    output_twice,
    outputs_swapped,
    token_of_no_vocabulary,
    longer_than_max_tokens,
    other_prompts,
    object_in_the_place_of_a_value,
    field_lost,
    field_added,
    impossible_number,
    shorter_than_its_prompts,
    of_something_else,
    sidecar_elsewhere,
    other_version,
    no_argument,
)
_OF_PROMPTS: tuple[Forgery, ...] = (prompts_lost, prompt_of_no_vocabulary, endless_prompt, other_format)
_OF_SCORES: tuple[Forgery, ...] = (
    text_of_none,
    text_twice,
    numbers_lost,
    numbers_added,
    probability_above_1,
    alternative_of_no_vocabulary,
)
