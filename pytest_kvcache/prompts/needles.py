"""Needles: something hidden in a text of any length, made by rule; a length always gives the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import cycle, islice, product
from random import Random

from pytest_kvcache.records import Json, Message, Prompt

LONGEST = 3200
"""Tokens of the longest texts of ``full-long`` as it is shipped."""
SHORTEST_LIMIT, LONGEST_LIMIT = 400, 200_000
"""What may be asked for: below, there is no room at three depths; above, different sentences run out."""
SEED = 5
DEPTHS = (0.1, 0.5, 0.9)
TOKENS_PER_SENTENCE = 13
"""Of the tokenizers of SmolLM2 and Qwen2, about; others take some more or fewer."""

NAMES = (
    "Mira", "Jonas", "Tilda", "Oskar", "Paula", "Viktor", "Lena", "Hugo", "Clara", "Anton",
    "Nora", "Felix", "Greta", "Simon", "Wanda", "Rufus", "Edith", "Marco", "Stella", "Bruno",
)  # fmt: skip
TOWNS = ("Lisbon", "Oslo", "Vienna", "Dublin", "Prague", "Madrid", "Athens", "Warsaw", "Berlin", "Rome")
THINGS = ("lamp", "clock", "violin", "mirror", "kettle", "basket", "hammer", "ladder", "pillow", "bottle")
WHEN = (
    "In spring", "On Mondays", "After the harvest", "Before sunrise", "During the holidays", "When it rains",
    "Late in the evening", "Once a year", "On quiet days", "At noon", "Every other week", "In March",
)  # fmt: skip
WHO = (
    "the gardener", "the old captain", "the beekeeper", "the village band", "the innkeeper", "the pastor",
    "the miller's son", "the schoolmaster", "the night watchman", "the youngest apprentice", "a neighbour",
    "the widow from the corner house",
)  # fmt: skip
DOES = (
    "mends the nets", "sweeps the steps", "waters the roses", "counts the barrels", "tells long stories",
    "repairs the fence", "paints the shutters", "feeds the geese", "cleans the lanterns", "airs the blankets",
    "stacks the firewood", "tunes the piano",
)  # fmt: skip
WHERE = (
    "near the harbour", "behind the chapel", "beside the well", "in front of the inn", "below the castle",
    "at the edge of the forest", "on the upper floor", "along the canal", "opposite the bakery",
    "under the old bridge", "next to the stables", "by the garden gate",
)  # fmt: skip

Task = dict[str, Json]
"""A prompt with a right answer, as a line of a prompt file without its id and kind."""


@lru_cache(maxsize=1)
def long_prompts(tokens: int) -> tuple[Prompt, ...]:
    """Return 21 needles in texts of about a quarter, half and the whole of so many tokens.

    Of ``LONGEST`` tokens they are the prompts of the shipped set ``full-long``.
    """
    return tuple(
        _prompt(f"needle-{length}", place, task)
        for length, count in lengths(tokens)
        for place, task in enumerate(islice(needles(length)(Random(f"{SEED} needle-{length}")), count), 1)
    )


def lengths(longest: int) -> tuple[tuple[int, int], ...]:
    """Return each length of text, in tokens, and how many there are of it; most are the longest."""
    return (longest // 4, 6), (longest // 2, 6), (longest, 9)


def needles(tokens: int) -> Callable[[Random], Iterator[Task]]:
    """Return the maker of texts of about so many tokens with something hidden at three depths."""

    def make(dice: Random) -> Iterator[Task]:
        for form, depth in cycle(product((_number_asked, _town_wanted), DEPTHS)):
            yield form(dice, depth, composed(dice, tokens // TOKENS_PER_SENTENCE))

    return make


def composed(dice: Random, sentences: int) -> list[str]:
    """Return so many different sentences about the life of a village."""
    found: dict[str, None] = {}
    while len(found) < sentences:
        found[f"{dice.choice(WHEN)} {dice.choice(WHO)} {dice.choice(DOES)} {dice.choice(WHERE)}."] = None
    return list(found)


def hidden(sentences: Sequence[str], depth: float, fact: str) -> str:
    """Return a text that says the fact at a depth (0 to 1)."""
    place = round(depth * len(sentences))
    return " ".join([*sentences[:place], fact, *sentences[place:]])


def text_task(text: str, answer: Json, check: str) -> Task:
    return {"text": text, "answer": answer, "check": check}


def chat_task(turns: Sequence[str | None], answer: str) -> Task:
    """Return a conversation between user and assistant; None is an answer of the model's own."""
    roles = zip(cycle(("user", "assistant")), turns, strict=False)
    return {"messages": [{"role": role, "content": content} for role, content in roles], "answer": answer}


def number(dice: Random) -> str:
    return str(dice.randrange(1000, 10_000))


def _number_asked(dice: Random, depth: float, text: list[str]) -> Task:
    thing, secret = dice.choice(THINGS), number(dice)
    told = hidden(text, depth, f"The secret number of the {thing} is {secret}.")
    return chat_task([f"{told}\n\nWhat is the secret number of the {thing}?"], secret)


def _town_wanted(dice: Random, depth: float, text: list[str]) -> Task:
    name, town = dice.choice(NAMES), dice.choice(TOWNS)
    told = hidden(text, depth, f"{name} moved here from {town} a long time ago.")
    return text_task(f"{told}\n\n{name} moved here from", town, "starts")


def _prompt(kind: str, place: int, task: Task) -> Prompt:
    messages = tuple(Message(**message) for message in task.get("messages", ()))
    check = task.get("check", "contains")
    return Prompt(f"{kind}-{place:02}", kind, task.get("text"), messages, task["answer"], check)
