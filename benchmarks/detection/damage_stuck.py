"""Stuck: one token, one character, nothing but blanks, or special tokens, from some place on.

Runs have at least 64 tokens or characters. Decoration of up to a screen's width is healthy, and is left
out: rules, dot leaders and indentation appear here with 300 characters or more.
"""

from __future__ import annotations

from random import Random

from detection.corpus import Document
from detection.drafts import MAX_TOKENS, Draft, Ids, join_text, join_tokens
from detection.languages import words_of
from detection.library import Library

LEAST = 64
LEAST_DECORATION = 300
RARE = 10_000
"""Last tokens of the vocabulary, the least frequent ones."""

DECORATIVE = ".-=_* "
STUCK_CHARACTERS = "!!!。\na0?\u200b"
OTHER_STUCK_CHARACTERS = "?，\t，1haの\u3000…ا"
BLANKS = (" ", "\n", "\t", "  ", "\n\n", " \n", "\n ")
END_MARKERS = ("<|im_end|>", "<|endoftext|>", "[PAD]", "</s>", "<pad>", "<|im_start|>")
TURN_MARKERS = (
    "<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>",
    "</s><s>[INST] ",
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "[PAD][PAD][PAD]",
)


def one_token(base: Document, random: Random, library: Library) -> Draft | None:
    """End in one token of the vocabulary, or of the document, for ever."""
    token = random.choice([random.choice(library.vocabulary), random.choice(base.token_ids)])
    return _stuck(_head(base, random, library), token, random, library)


def favourite_token(base: Document, random: Random, library: Library) -> Draft | None:
    """End in a token that engines are known for: the first ids, the last ids, the token just written."""
    head = _head(base, random, library)
    token = random.choice([0, random.randrange(256), random.choice(library.vocabulary[-RARE:]), head[-1]])
    return _stuck(head, token, random, library)


def one_character(base: Document, random: Random, library: Library) -> Draft | None:
    """End in one character for ever."""
    char = random.choice(STUCK_CHARACTERS + random.choice(DECORATIVE))
    head = library.tokenizer.decode(_head(base, random, library))
    return join_text(library.tokenizer, head, char * _length_of(char, random)).labelled(
        finish_reason="length"
    )


def drawn_out_character(base: Document, random: Random, library: Library) -> Draft | None:
    """Draw out the last letter written, or another character; in half of the cases text follows."""
    head = library.tokenizer.decode(_head(base, random, library)).rstrip()
    letter = head[-1] if head[-1].isalpha() else random.choice(OTHER_STUCK_CHARACTERS)
    char = random.choice([letter, random.choice(OTHER_STUCK_CHARACTERS)])
    after = base.text[len(head) :] if random.random() < 0.5 else ""
    draft = join_text(library.tokenizer, head, char * _length_of(char, random), after)
    return draft.labelled(finish_reason=None if after else "length")


def blank_pieces(base: Document, random: Random, library: Library) -> Draft | None:
    """End in spaces, tabs and newlines in random order."""
    head = library.tokenizer.decode(_head(base, random, library)).rstrip()
    pieces = random.sample(BLANKS, random.randint(3, len(BLANKS)))
    blanks = "".join(random.choices(pieces, k=random.randint(LEAST, 400)))
    return join_text(library.tokenizer, head, blanks).labelled(finish_reason="length")


def empty_lines(base: Document, random: Random, library: Library) -> Draft | None:
    """Write empty lines, indented deeper and deeper or at random; in a third of the cases text follows."""
    head = library.tokenizer.decode(_head(base, random, library)).rstrip()
    blank = random.choice([" ", "\t", "    ", "\u3000", "\u00a0"])
    break_ = random.choice(["\n", "\r\n", "\n\n"])
    steps = range(random.randint(24, 48))
    depths = [step if random.random() < 0.3 else random.randrange(12) for step in steps]
    blanks = "".join(break_ + blank * depth for depth in depths)
    after = base.text[len(head) :].lstrip() if random.random() < 1 / 3 else ""
    draft = join_text(library.tokenizer, head, blanks, after)
    return draft.labelled(finish_reason=None if after else "length")


def repeated_marker(base: Document, random: Random, library: Library) -> Draft | None:
    """End in one special token again and again: its id with or without a text, or its text as plain text."""
    head = _head(base, random, library)
    times = random.randint(8, 200)
    if random.random() < 0.5:
        text = library.tokenizer.decode(head)
        return join_text(library.tokenizer, text, random.choice(END_MARKERS) * times).labelled(
            finish_reason="length"
        )
    special = random.choice(sorted(library.tokenizer.special_tokens.values())[:4])
    return _special(head, [special] * times, random, library)


def leaked_turns(base: Document, random: Random, library: Library) -> Draft | None:
    """Let special tokens stand where a turn should have ended or nothing should be, text between them."""
    head = _head(base, random, library)
    if random.random() < 0.4:
        first = sorted(library.tokenizer.special_tokens.values())[:3]
        return _special(head, random.choices(first, k=random.randint(16, 120)), random, library)
    text = library.tokenizer.decode(head)
    words = words_of(base.text[len(text) :])
    pace = random.randint(3, 25)
    leaks = [
        random.choice(TURN_MARKERS) + "".join(words[at : at + pace]) for at in range(0, len(words), pace)
    ]
    if len(leaks) < 3:
        return None
    return join_text(library.tokenizer, text, "".join(leaks)).labelled(finish_reason="length")


def _head(base: Document, random: Random, library: Library) -> tuple[int, ...]:
    """Return the healthy beginning of a document: a tenth to two thirds of it."""
    at = round(random.uniform(0.1, 2 / 3) * min(len(base.token_ids), MAX_TOKENS - 2 * LEAST))
    return base.token_ids[: max(1, library.whole(base.token_ids, at))]


def _stuck(head: Ids, token: int, random: Random, library: Library) -> Draft | None:
    if not library.piece(token).strip(DECORATIVE):
        return None
    times = random.randint(LEAST, MAX_TOKENS - len(head))
    draft = join_tokens(library.tokenizer, head, [token] * times)
    return draft.labelled(period=1, finish_reason="length")


def _special(head: tuple[int, ...], ids: list[int], random: Random, library: Library) -> Draft:
    """Return the head with special ids behind it, which as a rule leave nothing in the text."""
    shown = join_tokens(library.tokenizer, head, ids)
    if random.random() < 0.3:
        return shown.labelled(finish_reason="length")
    return shown.hidden().labelled(finish_reason="length")


def _length_of(char: str, random: Random) -> int:
    least = LEAST_DECORATION if char in DECORATIVE else LEAST
    return random.randint(least, least + 400)
