"""Loops: a unit of the text again and again, exactly or with noise.

What counts as a loop to be found: at least 4 copies *and* at least 64 tokens, in documents of up to 512
tokens; of up to 1,024 where the unit is longer than 80. The place begins with the first copy, also where
that one is healthy by itself. Four loops in five run to the end, cut off in any phase; one in five finds
back to healthy text. A unit holds letters, and is no repetition of something shorter.

Noise is the share of the loop's tokens that an event touched, each event counting once; before it, the
loop had the copies and tokens said above.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from random import Random

from detection.corpus import Document
from detection.drafts import MAX_TOKENS, MAX_TOKENS_OF_LONG_LOOPS, Draft, Ids, join_tokens
from detection.library import Library

COPIES = 4
TOKENS = 64
LONG = 80
"""Tokens of a unit, beyond which the document may be longer than 512 tokens."""
HEAD = 8
"""Healthy tokens before a loop, at least."""
RECOVERY = 0.2
"""Share of loops after which healthy text follows."""

Periods = tuple[int, int]


def loop_of_tokens(
    base: Document, random: Random, library: Library, *, periods: Periods, noise: float
) -> Draft | None:
    """Repeat tokens cut out anywhere, from where they stand; noise puts in tokens of the whole vocabulary."""
    ids = base.token_ids
    period = random.randint(*periods)
    borders = set(library.borders(ids))
    room = _most(period) - _least(period)
    starts = [s for s in borders if HEAD <= s <= room and s + period < len(ids) and s + period in borders]
    if not starts:
        return None
    start = random.choice(sorted(starts))
    unit = ids[start : start + period]
    if not is_unit(unit, library):
        return None
    loop = _repeat(unit, random, most=_most(period) - start)
    noisy = substitute(loop, random, noise, lambda: random.choice(library.vocabulary))
    return _draft(ids[:start], noisy, ids[start + period :], period, noise, random, library)


def loop_with_slips(
    base: Document, random: Random, library: Library, *, periods: Periods, noise: float
) -> Draft | None:
    """Repeat tokens as :func:`loop_of_tokens` does; noise is slips of several tokens and of one.

    A slip stutters a token, drops one or two, puts in one or two of the document or of the vocabulary, or
    takes another token for one. It is there so that nothing is tuned on replaced tokens alone.
    """
    draft = loop_of_tokens(base, random, library, periods=periods, noise=0.0)
    if draft is None or draft.period is None:
        return None
    tokenizer = library.tokenizer
    head, rest = tokenizer.encode(draft.text[: draft.start]), tokenizer.encode(draft.text[draft.end :])
    loop = tokenizer.encode(draft.text[draft.start : draft.end])
    noisy = slip(
        loop, random, noise, lambda: random.choice(random.choice([library.vocabulary, base.token_ids]))
    )
    after = rest[: library.whole(rest, max(0, _most(draft.period) - len(head) - len(noisy)))]
    joined = join_tokens(tokenizer, head, noisy, after, most=_most(draft.period))
    return joined.labelled(period=draft.period, noise=noise, finish_reason=draft.finish_reason)


def loop_of_phrases(
    base: Document, random: Random, library: Library, *, periods: Periods, noise: float
) -> Draft | None:
    """Repeat a sentence, clause or phrase, now or later; noise puts in, leaves out and swaps tokens.

    Where no sentence or clause has about the wanted length, the unit begins and ends with any word.
    """
    ids = base.token_ids
    place = _phrase(ids, random, library, periods)
    if place is None:
        return None
    start, end = place
    period = end - start
    unit = ids[start:end]
    head = start if random.random() < 0.5 else _later_seam(ids, end, random, library)
    room = round((_most(period) - head) / (1 + noise))  # every event may insert a token
    if head < HEAD or room < _least(period) or not is_unit(unit, library):
        return None
    loop = _repeat(unit, random, most=room)
    noisy = disturb(loop, random, noise, lambda: random.choice(ids))
    return _draft(ids[:head], noisy, ids[max(head, end) :], period, noise, random, library)


def substitute(ids: Ids, random: Random, share: float, draw: Callable[[], int]) -> list[int]:
    """Replace a share of the tokens, at random places, each by another one that is drawn."""
    damaged = list(ids)
    for place in random.sample(range(len(ids)), round(share * len(ids))):
        while damaged[place] == ids[place]:
            damaged[place] = draw()
    return damaged


def slip(ids: Ids, random: Random, share: float, draw: Callable[[], int]) -> list[int]:
    """Disturb a share of the tokens by slips, some of which concern two tokens."""
    damaged: list[int] = []
    left = round(share * len(ids))
    index = 0
    while index < len(ids):
        token = ids[index]
        index += 1
        if random.random() >= left / (len(ids) - index + 1):
            damaged.append(token)
            continue
        size = 1 + (left > 1 and random.random() < 0.3)
        left -= size
        match random.randrange(4):
            case 0:
                damaged += [token] * (1 + size)
            case 1:
                index += size - 1
            case 2:
                damaged += [*(draw() for _ in range(size)), token]
            case _:
                damaged.append(draw())
    return damaged


def disturb(ids: Ids, random: Random, share: float, draw: Callable[[], int]) -> list[int]:
    """Replace, insert, delete and swap tokens, a share of them, each at most once."""
    events = set(random.sample(range(len(ids)), round(share * len(ids))))
    damaged: list[int] = []
    skip = False
    for place, token in enumerate(ids):
        if skip:
            skip = False
        elif place not in events:
            damaged.append(token)
        else:
            following = ids[place + 1] if place + 1 < len(ids) and place + 1 not in events else token
            event = random.choice(
                ["replace", "insert", "delete", "swap"] if following != token else ["replace", "insert"]
            )
            damaged += _event(event, token, following, draw)
            skip = event == "swap"
    return damaged


def is_unit(ids: Ids, library: Library) -> bool:
    """Whether these tokens hold letters and are no repetition of fewer tokens."""
    twice = (*ids, *ids)
    shorter = any(twice[i : i + len(ids)] == tuple(ids) for i in range(1, len(ids)))
    return not shorter and any(char.isalpha() for token in ids for char in library.piece(token))


def _event(event: str, token: int, following: int, draw: Callable[[], int]) -> tuple[int, ...]:
    other = draw()
    while other == token:
        other = draw()
    return {"replace": (other,), "insert": (other, token), "delete": (), "swap": (following, token)}[event]


def _most(period: int) -> int:
    return MAX_TOKENS if period <= LONG else MAX_TOKENS_OF_LONG_LOOPS


def _least(period: int) -> int:
    return max(TOKENS, COPIES * period)


def _repeat(unit: Ids, random: Random, *, most: int) -> list[int]:
    """Return at least 4 copies and ``most`` tokens at most, ending anywhere in a copy."""
    return list(islice(cycle(unit), random.randint(_least(len(unit)), most)))


def _draft(
    head: Ids, loop: Ids, rest: Ids, period: int, noise: float, random: Random, library: Library
) -> Draft:
    room = _most(period) - len(head) - len(loop)
    recovers = random.random() < RECOVERY and room >= HEAD and len(rest) >= HEAD
    after = rest[: library.whole(rest, room)] if recovers else ()
    draft = join_tokens(library.tokenizer, head, loop, after, most=_most(period))
    return draft.labelled(period=period, noise=noise, finish_reason=None if recovers else "length")


def _phrase(ids: Ids, random: Random, library: Library, periods: Periods) -> tuple[int, int] | None:
    """Return the ends of a phrase whose length is about a random one of ``periods``."""
    wanted = random.randint(*periods)
    tolerance = wanted // 8
    for seams in (library.seams(ids, "sentence"), library.seams(ids, "clause"), library.seams(ids, "word")):
        phrases = [
            (start, end)
            for start in seams
            for end in seams
            if abs(end - start - wanted) <= tolerance and periods[0] <= end - start <= periods[1]
        ]
        if phrases:
            return random.choice(phrases)
    return None


def _later_seam(ids: Ids, end: int, random: Random, library: Library) -> int:
    """Return a place up to 48 tokens behind ``end`` where a clause begins, or ``end`` itself."""
    return random.choice([end, *(seam for seam in library.seams(ids, "clause") if end < seam <= end + 48)])
