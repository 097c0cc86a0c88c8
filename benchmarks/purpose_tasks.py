"""Write the shipped sets of tasks that are made for one symptom each, by rule like those of `tasks`.

    python benchmarks/purpose_tasks.py

Conversations that the model goes on with itself, needles in texts of several lengths, and answers that have
to be JSON. They are not replaced by a team's own tasks: those would not show the symptom.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random

from tasks import COLOURS, FILLER, FOLDER

from pytest_kvcache.prompts.needles import (
    DEPTHS,
    LONGEST,
    NAMES,
    SEED,
    THINGS,
    TOWNS,
    Task,
    chat_task,
    hidden,
    lengths,
    needles,
    number,
    text_task,
)
from pytest_kvcache.records import Json

MONTHS = ("March", "April", "May", "June", "July", "August")
QUESTIONS = (
    "What is the capital of France?", "Which colour has the sky?", "How many legs has a dog?",
    "What do bees make?", "Where do fish live?", "What is the opposite of hot?", "What is bread made of?",
)  # fmt: skip
Make = Callable[[Random], Iterator[Task]]
Asked = tuple[str, Json]
"""What is said, and the JSON that is the right answer to it."""


@dataclass(frozen=True)
class PurposeSet:
    name: str
    description: str
    sampling: dict[str, Json]
    kinds: tuple[tuple[str, int, Make], ...]
    """Each kind of task, how many of it, and what makes them."""
    seed: int


def lines_of(purpose: PurposeSet) -> list[str]:
    """Return a set as a file of JSON lines."""
    header = {
        "name": purpose.name,
        "description": purpose.description,
        "fixed": True,
        "sampling": purpose.sampling,
    }
    tasks = [
        {"id": f"{kind}-{number:02}", "kind": kind, **task}
        for kind, count, make in purpose.kinds
        for number, task in enumerate(islice(make(Random(f"{purpose.seed} {kind}")), count), 1)
    ]
    return [json.dumps(each) for each in (header, *tasks)]


# Conversations with answers of the model's own


def talks(turns: int) -> Make:
    """Return the maker of talks of so many turns, whose last asks for what the first one said."""

    def make(dice: Random) -> Iterator[Task]:
        for depth, of_colour in zip(cycle(DEPTHS), cycle((False, False, False, True)), strict=False):
            thing = dice.choice(THINGS)
            what, answer = ("colour", dice.choice(COLOURS)) if of_colour else ("number", number(dice))
            fact = f"The secret {what} of the {thing} is {answer}."
            first, *others = _sentences(dice, 9, *[3] * (turns - 2))
            texts = [hidden(first, depth, fact), *map(" ".join, others)]
            said: list[str | None] = []
            for text, question in zip(texts, dice.sample(QUESTIONS, turns - 1), strict=True):
                said += [f"{text}\n\n{question}", None]
            yield chat_task([*said, f"What is the secret {what} of the {thing}?"], answer)

    return make


# Answers that are JSON


def records(ask: Callable[[Random], Asked]) -> Make:
    """Return the maker of texts to be written as JSON, after three that have been."""

    def make(dice: Random) -> Iterator[Task]:
        while True:
            *shown, (text, wanted) = (ask(dice) for _ in range(4))
            told = "".join(f"Text: {each}\nJSON: {json.dumps(record)}\n\n" for each, record in shown)
            yield text_task(f"{told}Text: {text}\nJSON:", wanted, "json")

    return make


def nested(dice: Random) -> Asked:
    name, thing, colour, town = (dice.choice(each) for each in (NAMES, THINGS, COLOURS, TOWNS))
    said = f"{name} lives in {town} and owns a {colour} {thing}."
    return said, {"name": name, "home": {"town": town}, "owns": {"colour": colour, "thing": thing}}


def readings(dice: Random) -> Asked:
    town, numbers = dice.choice(TOWNS), [dice.randrange(10, 100) for _ in range(3)]
    return f"{town}: {', '.join(map(str, numbers))}.", {"town": town, "readings": numbers}


def guests(dice: Random) -> Asked:
    people = [{"name": name, "age": dice.randrange(20, 80)} for name in dice.sample(NAMES, 2)]
    said = ", ".join(f"{each['name']} ({each['age']})" for each in people)
    return f"{said}.", {"guests": people}


def choices(dice: Random) -> Asked:
    thing, count = dice.choice(THINGS), dice.randrange(1, 9)
    state, priority = dice.choice(("new", "used", "broken")), dice.choice(("low", "medium", "high"))
    said = f"{count} x {thing}, {state}, {priority} priority."
    return said, {"thing": thing, "count": count, "state": state, "priority": priority}


def values(dice: Random) -> Asked:
    thing, price, stocked = dice.choice(THINGS), dice.randrange(5, 99), dice.choice((False, True))
    said = f"{thing}, {price} euros, in stock: {'yes' if stocked else 'no'}."
    return said, {"thing": thing, "price": price, "in_stock": stocked}


def calls(dice: Random) -> Iterator[Task]:
    """Yield requests for one of three tools, each of which has been called twice."""
    for wanted in cycle(range(len(TOOLS))):
        others = dice.sample([kind for kind in range(len(TOOLS)) if kind != wanted], 2)
        shown = [TOOLS[kind](dice) for kind in (*others, wanted, *others, wanted)]
        asked, call = TOOLS[wanted](dice)
        told = "".join(f"User: {text}\nCall: {json.dumps(each)}\n\n" for text, each in shown)
        yield text_task(f"{told}User: {asked}\nCall:", call, "tool-call")


def chat_calls(dice: Random) -> Iterator[Task]:
    """Yield the same as conversations, in which the assistant has answered with calls so far."""
    for wanted in cycle(range(len(TOOLS))):
        other = dice.choice([kind for kind in range(len(TOOLS)) if kind != wanted])
        shown = [TOOLS[kind](dice) for kind in (other, wanted, other, wanted)]
        asked, call = TOOLS[wanted](dice)
        said = [each for text, made in shown for each in (text, json.dumps(made))]
        yield {**chat_task([*said, asked], ""), "answer": call, "check": "tool-call"}


def _weather(dice: Random) -> Asked:
    town = dice.choice(TOWNS)
    return f"What is the weather in {town}?", _call("get_weather", city=town)


def _timer(dice: Random) -> Asked:
    minutes = dice.randrange(2, 60)
    return f"Set a timer for {minutes} minutes.", _call("set_timer", minutes=minutes)


def _train(dice: Random) -> Asked:
    start, end = dice.sample(TOWNS, 2)
    return f"Find a train from {start} to {end}.", _call("find_train", start=start, end=end)


def _table(dice: Random) -> Asked:
    name, people = dice.choice(NAMES), dice.randrange(2, 9)
    return f"Book a table for {people} people, for {name}.", _call("book_table", people=people, name=name)


def _order(dice: Random) -> Asked:
    colour, thing = dice.choice(COLOURS), dice.choice(THINGS)
    return f"Order a {colour} {thing}.", _call("order", item={"colour": colour, "thing": thing})


def _holiday(dice: Random) -> Asked:
    month, town = dice.choice(MONTHS), dice.choice(TOWNS)
    return f"Plan a week in {town} in {month}.", _call("plan_trip", town=town, month=month)


TOOLS = (_weather, _timer, _train, _table, _order, _holiday)


def _call(tool: str, **arguments: Json) -> Json:
    return {"name": tool, "arguments": arguments}


def _sentences(dice: Random, *counts: int) -> Iterator[list[str]]:
    """Yield so many sentences each time, all of them different."""
    sentences = iter(dice.sample(FILLER, sum(counts)))
    return (list(islice(sentences, count)) for count in counts)


SMOKE_TURNS = PurposeSet(
    name="smoke-turns",
    description="12 talks that the model itself goes on with; the last asks for what the first one said.",
    sampling={"max_tokens": 40},
    kinds=(("talk-3", 12, talks(3)),),
    seed=3,
)
FULL_TURNS = PurposeSet(
    name="full-turns",
    description="32 talks of three to five turns that the model itself goes on with.",
    sampling={"max_tokens": 40},
    kinds=(("talk-3", 12, talks(3)), ("talk-4", 12, talks(4)), ("talk-5", 8, talks(5))),
    seed=4,
)
FULL_LONG = PurposeSet(
    name="full-long",
    description="21 needles at three depths in texts of 800, 1,600 and 3,200 tokens.",
    sampling={"max_tokens": 16},
    kinds=tuple((f"needle-{tokens}", count, needles(tokens)) for tokens, count in lengths(LONGEST)),
    seed=SEED,
)
SMOKE_STRUCTURED = PurposeSet(
    name="smoke-structured",
    description="16 answers that are JSON: nested objects, arrays, enumerations, calls of several tools.",
    sampling={"max_tokens": 56, "stop": ["\n\n"]},
    kinds=(
        ("json-nested", 2, records(nested)),
        ("json-array", 2, records(readings)),
        ("json-objects", 2, records(guests)),
        ("json-enum", 2, records(choices)),
        ("json-values", 2, records(values)),
        ("tool-call", 4, calls),
        ("tool-chat", 2, chat_calls),
    ),
    seed=6,
)
FULL_STRUCTURED = PurposeSet(
    name="full-structured",
    description="40 answers that are JSON, of the same kinds.",
    sampling={"max_tokens": 56, "stop": ["\n\n"]},
    kinds=(
        ("json-nested", 5, records(nested)),
        ("json-array", 5, records(readings)),
        ("json-objects", 5, records(guests)),
        ("json-enum", 5, records(choices)),
        ("json-values", 5, records(values)),
        ("tool-call", 9, calls),
        ("tool-chat", 6, chat_calls),
    ),
    seed=7,
)
SETS = (SMOKE_TURNS, FULL_TURNS, FULL_LONG, SMOKE_STRUCTURED, FULL_STRUCTURED)


if __name__ == "__main__":
    for each in SETS:
        (FOLDER / f"{each.name}.jsonl").write_text("\n".join(lines_of(each)) + "\n", encoding="utf-8")
