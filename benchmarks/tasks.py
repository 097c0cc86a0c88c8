"""Write the shipped prompt sets of tasks: questions with one right answer, made by rule.

    python benchmarks/tasks.py

They ask a model to read, hardly to know: all answers but the sums stand in the prompt. Examples before
the question keep most of them within reach of a model of 135M parameters. The same script always writes
the same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice, product
from pathlib import Path
from random import Random

from pytest_kvcache.prompts.needles import DEPTHS, NAMES, THINGS, TOWNS, Task, chat_task, hidden, text_task

FOLDER = Path(__file__).parents[1] / "pytest_kvcache" / "prompts"

TRADES = ("baker", "painter", "doctor", "farmer", "teacher", "sailor", "lawyer", "singer")
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "grey")
FILLER = (
    "The ferry crosses the bay four times a day when the weather allows it.",
    "Behind the school there is a field where the children play after lunch.",
    "Most of the roofs were mended last spring, before the heavy rains came.",
    "A path leads along the river to the old mill, which no longer turns.",
    "On market days the square smells of bread, cheese and fresh coffee.",
    "The librarian opens the windows early, even in the coldest months.",
    "Two fishermen sit by the wall and talk quietly about the tide.",
    "In autumn the leaves cover the road, and somebody sweeps them away.",
    "The bus to the next village leaves from the corner near the chemist.",
    "Every house on the hill has a small garden with beans and onions.",
    "The museum keeps a room full of maps that nobody has ever counted.",
    "A new bridge was planned for years, but the money went elsewhere.",
    "When the fog is thick, the church bell is rung every ten minutes.",
    "The carpenter's workshop is warm, and visitors like to stay there.",
    "Along the shore there are benches, most of them painted every year.",
    "The station has one platform and a clock that runs a little slow.",
    "Swallows build their nests under the roof of the town hall.",
    "At night one can hear the waves from almost every street.",
    "The grocer knows all customers by name and asks about their families.",
    "Some of the oldest trees were planted when the harbour was built.",
    "The post arrives before noon, except on the days when the pass is closed.",
    "A choir meets on Thursdays in the hall above the fire station.",
    "The well in the courtyard is deep, and its water tastes of iron.",
    "Visitors often ask for the lighthouse, which stands further north.",
    "Nobody remembers who put the iron bench beside the chapel.",
    "The doctor visits the farms on a bicycle, even when it snows.",
    "A long wall of grey stone keeps the sheep out of the orchards.",
    "The bakery lights its ovens before the first boats come home.",
    "In summer the younger people swim out to the wooden raft.",
    "The theatre was once a warehouse for salt, rope and barrels.",
    "On clear mornings the islands seem near enough to touch.",
    "The clock tower was struck by lightning and stood dark for a month.",
    "Old letters are kept in a drawer that hardly opens any more.",
    "The ropes in the boathouse are checked before the winter storms.",
    "A narrow stair between two shops climbs to the upper town.",
    "The mayor prefers to walk, and greets everyone on the way.",
)  # fmt: skip
REPLIES = (
    "I can almost see it before me.",
    "How long has it been like that?",
    "Many small towns have something of the kind.",
    "You must know the place very well.",
)
Make = Callable[[Random, "Size"], Iterator[Task]]


@dataclass(frozen=True)
class Size:
    """One set: its kinds of tasks, how many of each, and how much there is to read."""

    name: str
    seed: int
    counts: dict[str, int]
    sentences: tuple[int, ...]
    """Of the texts in which something is hidden."""
    pairs: tuple[int, ...]
    turns: tuple[int, ...]
    """Exchanges between the fact that is given and the question for it."""
    description: str


SMOKE = Size(
    name="smoke-tasks",
    seed=1,
    counts={
        "needle": 6,
        "key-value": 4,
        "copy": 4,
        "arithmetic": 2,
        "json": 3,
        "tool-call": 2,
        "multi-turn": 3,
    },
    sentences=(8, 18),
    pairs=(8, 12),
    turns=(1, 2),
    description="24 short questions with a right answer: the quick gate.",
)
FULL = Size(
    name="full-tasks",
    seed=2,
    counts={
        "needle": 9,
        "key-value": 6,
        "two-hop": 6,
        "copy": 5,
        "arithmetic": 5,
        "json": 5,
        "tool-call": 5,
        "multi-turn": 7,
    },
    sentences=(12, 24, 36),
    pairs=(8, 14, 20),
    turns=(1, 2, 3, 4),
    description="48 questions with a right answer, over texts of up to 600 tokens.",
)


def lines_of(size: Size) -> list[str]:
    """Return a set as a file of JSON lines."""
    header = {"name": size.name, "description": size.description, "sampling": {"max_tokens": 32}}
    tasks = [
        {"id": f"{kind}-{number:02}", "kind": kind, **task}
        for kind, count in size.counts.items()
        for number, task in enumerate(islice(MAKERS[kind](Random(f"{size.seed} {kind}"), size), count), 1)
    ]
    return [json.dumps(each) for each in (header, *tasks)]


def needles(dice: Random, size: Size) -> Iterator[Task]:
    for (length, depth), chat in zip(product(size.sentences, DEPTHS), cycle((False, True)), strict=False):
        if chat:
            thing, number = dice.choice(THINGS), str(dice.randrange(1000, 10_000))
            text = hidden(
                dice.sample(FILLER, length), depth, f"The secret number of the {thing} is {number}."
            )
            yield chat_task([f"{text}\n\nWhat is the secret number of the {thing}?"], number)
        else:
            name, town = dice.choice(NAMES), dice.choice(TOWNS)
            text = hidden(
                dice.sample(FILLER, length), depth, f"{name} moved here from {town} a long time ago."
            )
            yield text_task(f"{text}\n\n{name} moved here from", town, "starts")


def values(dice: Random, size: Size) -> Iterator[Task]:
    for pairs in cycle(size.pairs):
        numbers = {name: dice.randrange(1000, 10_000) for name in dice.sample(NAMES, pairs)}
        listed = "\n".join(f"{name}: {number}" for name, number in numbers.items())
        wanted = dice.choice(list(numbers)[:-1])
        told = f"Telephone numbers\n{listed}\n\nAgain, the number asked for:\n{wanted}:"
        yield text_task(told, str(numbers[wanted]), "starts")


def hops(dice: Random, _: Size) -> Iterator[Task]:
    while True:
        chains = [_chain(dice) for _ in range(3)]
        *shown, (facts, (owner, colour)) = chains
        told = "".join(f"{text}\nThe thing that {o} owns is {c}.\n\n" for text, (o, c) in shown)
        yield text_task(f"{told}{facts}\nThe thing that {owner} owns is", colour, "starts")


def copies(dice: Random, _: Size) -> Iterator[Task]:
    while True:
        sentences = [dice.choice(FILLER) for _ in range(3)]
        lists = [" ".join(dice.sample(THINGS, 6)) for _ in range(3)]
        for *shown, wanted in (sentences, lists):
            told = "".join(f"Text: {each}\nCopy: {each}\n\n" for each in shown)
            yield text_task(f"{told}Text: {wanted}\nCopy:", wanted, "starts")


def sums(dice: Random, _: Size) -> Iterator[Task]:
    while True:
        first, step = dice.randrange(2, 20), dice.choice((1, 2, 5, 10))
        steps = [str(first * step + k * step) for k in range(7)]
        yield text_task(f"{', '.join(steps[:-1])},", steps[-1], "starts")
        start, more = dice.randrange(2, 8), dice.randrange(1, 4)
        told = "".join(f"{start + k} + {more} = {start + k + more}\n" for k in range(-1, 3))
        yield text_task(f"{told}{start + 3} + {more} =", str(start + 3 + more), "starts")


def records(dice: Random, _: Size) -> Iterator[Task]:
    while True:
        *shown, (sentence, wanted) = (_record(dice) for _ in range(3))
        told = "".join(f"Text: {text}\nJSON: {json.dumps(record)}\n\n" for text, record in shown)
        yield text_task(f"{told}Text: {sentence}\nJSON:", wanted, "json")


def calls(dice: Random, _: Size) -> Iterator[Task]:
    for kind in cycle((0, 1, 2)):
        shown = [_call(dice, each) for each in (0, 1, 2, 0, 1, 2)]
        asked, wanted = _call(dice, kind)
        told = "".join(f"User: {text}\nCall: {json.dumps(call)}\n\n" for text, call in shown)
        yield text_task(f"{told}User: {asked}\nCall:", wanted, "tool-call")


def conversations(dice: Random, size: Size) -> Iterator[Task]:
    for turns in cycle(size.turns):
        thing, number = dice.choice(THINGS), str(dice.randrange(1000, 10_000))
        said = [f"The secret number of the {thing} is {number}.", "Thank you, I will keep that in mind."]
        for pair in zip(dice.sample(FILLER, turns), dice.sample(REPLIES, turns), strict=True):
            said += pair
        yield chat_task([*said, f"What is the secret number of the {thing}?"], number)


MAKERS: dict[str, Make] = {
    "needle": needles,
    "key-value": values,
    "two-hop": hops,
    "copy": copies,
    "arithmetic": sums,
    "json": records,
    "tool-call": calls,
    "multi-turn": conversations,
}


def _chain(dice: Random) -> tuple[str, tuple[str, str]]:
    """Return who owns what, and which colour it has, with one owner and the colour to conclude."""
    owned = list(zip(dice.sample(NAMES, 2), dice.sample(THINGS, 2), dice.sample(COLOURS, 2), strict=True))
    facts = [f"{name} owns the {thing}." for name, thing, _ in owned]
    facts += [f"The {thing} is {colour}." for _, thing, colour in dice.sample(owned, 2)]
    name, _, colour = dice.choice(owned)
    return " ".join(facts), (name, colour)


def _record(dice: Random) -> tuple[str, Task]:
    name, trade, town, age = (
        dice.choice(NAMES),
        dice.choice(TRADES),
        dice.choice(TOWNS),
        dice.randrange(20, 80),
    )
    return f"{name}, {age}, is a {trade} in {town}.", {"name": name, "age": age, "trade": trade, "town": town}


def _call(dice: Random, kind: int) -> tuple[str, Task]:
    town, minutes, name = dice.choice(TOWNS), dice.randrange(2, 60), dice.choice(NAMES)
    return (
        (f"What is the weather in {town}?", {"name": "get_weather", "arguments": {"city": town}}),
        (f"Wake me in {minutes} minutes.", {"name": "set_timer", "arguments": {"minutes": minutes}}),
        (f"Send a message to {name}.", {"name": "send_message", "arguments": {"person": name}}),
    )[kind]


if __name__ == "__main__":
    for each in (SMOKE, FULL):
        (FOLDER / f"{each.name}.jsonl").write_text("\n".join(lines_of(each)) + "\n", encoding="utf-8")
