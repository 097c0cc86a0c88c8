"""Peers: published rules that say "this text is degenerate", written anew from what they describe.

Each is a function of a document that is true where the rule raises an alarm. Thresholds are the
published ones; where none is published, the docstring says so. None of them sees a prompt or a baseline.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detection.corpus import Document
from pytest_kvcache.measures.repetition import ngram_repetition

Peer = Callable[[Document], bool]

WHISPER_RATIO = 2.4

GOPHER_LINES = GOPHER_PARAGRAPHS = 0.30
GOPHER_LINE_CHARACTERS = GOPHER_PARAGRAPH_CHARACTERS = 0.20
GOPHER_TOP = {2: 0.20, 3: 0.18, 4: 0.16}
GOPHER_DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

GEMINI_CHUNK = 50
GEMINI_COPIES = 10
GEMINI_HISTORY = 5000

_PARAGRAPH_END = re.compile(r"\n{2,}")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
# A bullet here is * or +: the published class, [*-+], is a range that leaves "-" out.
_GEMINI_MARKUP = re.compile(r"\s*(?:\|.*\||[|+-]{3}|[*+]\s|[0-9]+\.\s)|#+\s|>\s")
_GEMINI_DIVIDER = re.compile(r"[+-_=*\u2500-\u257f]+")


def vllm_short(document: Document) -> bool:
    """vLLM's ``repetition_detection`` with patterns of 1 to 20 tokens in 4 copies.

    ``RepetitionDetectionParams(max_pattern_size=20, min_pattern_size=1, min_count=4)``, checked in
    ``vllm/v1/core/sched/utils.py`` after each token (vLLM 0.32). It is off by default and has no
    recommended setting.
    """
    return repeats_somewhere(document.token_ids, 1, 20, 4)


def vllm_strict(document: Document) -> bool:
    """vLLM's rule with patterns of 1 to 20 tokens in 12 copies; see :func:`vllm_short`."""
    return repeats_somewhere(document.token_ids, 1, 20, 12)


def vllm_long(document: Document) -> bool:
    """vLLM's rule with patterns of 4 to 128 tokens in 4 copies; see :func:`vllm_short`."""
    return repeats_somewhere(document.token_ids, 4, 128, 4)


def llamacpp(document: Document) -> bool:
    """The stop proposed for llama.cpp's server: patterns of 16 to 1,024 tokens in 4 copies.

    llama.cpp itself detects nothing: its DRY and repetition samplers forbid tokens and raise no alarm.
    This is the rule, with its defaults, of ggml-org/llama.cpp#26039 (2026, closed without a merge).
    """
    return repeats_somewhere(document.token_ids, 16, 1024, 4)


def whisper_zlib(document: Document) -> bool:
    """Whisper's compression ratio: UTF-8 bytes over zlib's, above 2.4.

    ``compression_ratio`` in ``whisper/utils.py`` and ``compression_ratio_threshold`` in
    ``whisper/transcribe.py``; Radford et al., "Robust Speech Recognition via Large-Scale Weak
    Supervision" (2022).
    """
    data = document.text.encode(errors="surrogatepass")
    return len(data) / len(zlib.compress(data)) > WHISPER_RATIO


def gopher(document: Document) -> bool:
    """Gopher's repetition filters, any of the 13 of Table A1; Rae et al., "Scaling Language Models" (2021).

    Shares of duplicate lines and paragraphs (.30) and of their characters (.20); of characters in the
    most frequent 2-, 3- and 4-gram of words (.20, .18, .16); of characters in duplicate 5- to 10-grams
    (.15 to .10). Read kindly: words stand between blanks, blank lines are no lines, an n-gram that
    occurs once is no repetition, and a first occurrence is no duplicate.
    """
    text = document.text
    if not text.strip():
        return False
    lines = [line for line in text.splitlines() if line.strip()]
    paragraphs = [part for part in _PARAGRAPH_END.split(text) if part.strip()]
    words = text.split()
    return (
        _is_duplicated(lines, len(text), GOPHER_LINES, GOPHER_LINE_CHARACTERS)
        or _is_duplicated(paragraphs, len(text), GOPHER_PARAGRAPHS, GOPHER_PARAGRAPH_CHARACTERS)
        or any(_top_characters(words, n) > limit * len(text) for n, limit in GOPHER_TOP.items())
        or any(_duplicate_characters(words, n) > limit * len(text) for n, limit in GOPHER_DUPLICATE.items())
    )


def rep_4(document: Document) -> bool:
    """More than half of the 4-grams of words occurred before.

    rep-n of Su et al., "A Contrastive Framework for Neural Text Generation" (2022), over the words and
    punctuation marks of the text. A metric: no threshold is published, half is the usual reading.
    """
    return ngram_repetition(document.text, 4) > 0.5


def seq_rep_4(document: Document) -> bool:
    """More than a fifth of the 4-grams of tokens occurred before.

    seq-rep-4 of Welleck et al., "Neural Text Generation with Unlikelihood Training" (2020), over token
    ids. A metric: no threshold is published; a fifth lies far above human text.
    """
    return ngram_repetition(document.token_ids, 4) > 0.2


def distinct_2(document: Document) -> bool:
    """Fewer than half of the pairs of tokens are distinct.

    distinct-2 of Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models"
    (2016), over token ids. A metric: no threshold is published, half is the usual reading.
    """
    return ngram_repetition(document.token_ids, 2) > 0.5


def gemini_cli(document: Document) -> bool:
    """gemini-cli's check for "chanting": the same 50 characters 10 times, at most 250 apart on average.

    ``packages/core/src/services/loopDetectionService.ts`` (google-gemini/gemini-cli, 2026): over the
    last 5,000 characters, and only if the 9 stretches between the 10 places hold at most 5 different
    texts. Headings, lists, tables, quotes, dividers and code fences start it afresh, code is never
    looked at. It reads pieces as they are streamed; here each line is one piece. The 50 characters
    slide by one, so that 59 equal characters side by side suffice.
    """
    stream, begin, at = "", 0, 0
    places: dict[str, list[int]] = {}
    in_code = False
    for line in _LINE.findall(document.text):
        fences = line.count("```")
        is_divider = _GEMINI_DIVIDER.fullmatch(line) is not None
        if fences or is_divider or _GEMINI_MARKUP.match(line):
            begin = at = len(stream)
            places.clear()
        was_in_code, in_code = in_code, in_code != bool(fences % 2)
        if was_in_code or in_code or is_divider:
            continue
        stream += line
        begin = max(begin, len(stream) - GEMINI_HISTORY)
        at = max(at, begin)
        while at + GEMINI_CHUNK <= len(stream):
            if _chants(stream, begin, places.setdefault(stream[at : at + GEMINI_CHUNK], []), at):
                return True
            at += 1
    return False


PEERS: dict[str, Peer] = {
    "vLLM 1–20 × 4": vllm_short,
    "vLLM 1–20 × 12": vllm_strict,
    "vLLM 4–128 × 4": vllm_long,
    "llama.cpp": llamacpp,
    "gemini-cli": gemini_cli,
    "zlib": whisper_zlib,
    "Gopher": gopher,
    "rep-4": rep_4,
    "seq-rep-4": seq_rep_4,
    "distinct-2": distinct_2,
}
"""By the name that tables show."""


def repeats_somewhere(ids: Sequence[int], shortest: int, longest: int, copies: int) -> bool:
    """Whether ids hold, anywhere, a pattern of ``shortest`` to ``longest`` tokens ``copies`` times in a row.

    An engine that looks at the end of an output after each token sees just these. Takes
    O(n * longest).
    """
    values = np.asarray(ids, dtype=np.int64)
    last = min(longest, len(values) // copies)
    return any(
        _has_run(values[period:] == values[:-period], period * (copies - 1))
        for period in range(shortest, last + 1)
    )


def _has_run(equal: NDArray[np.bool_], length: int) -> bool:
    """Whether so many true values lie side by side."""
    if np.count_nonzero(equal) < length:
        return False
    edges = np.concatenate(([-1], np.flatnonzero(~equal), [len(equal)]))
    return int(np.diff(edges).max()) > length


def _is_duplicated(parts: list[str], size: int, limit: float, character_limit: float) -> bool:
    if not parts:
        return False
    counts = Counter(parts)
    duplicates = len(parts) - len(counts)
    characters = sum(len(part) * (count - 1) for part, count in counts.items())
    return duplicates > limit * len(parts) or characters > character_limit * size


def _top_characters(words: list[str], n: int) -> int:
    """Return the characters in the most frequent n-gram, over all places, if it occurs twice."""
    grams = Counter(_grams(words, n))
    if not grams:
        return 0
    gram, count = grams.most_common(1)[0]
    return _length(gram) * count if count > 1 else 0


def _duplicate_characters(words: list[str], n: int) -> int:
    """Return the characters in n-grams that occurred before, none of them counted twice."""
    grams = list(_grams(words, n))
    if len(set(grams)) == len(grams):
        return 0
    seen: set[tuple[str, ...]] = set()
    total = at = 0
    while at < len(grams):
        if grams[at] in seen:
            total += _length(grams[at])
            at += n
        else:
            seen.add(grams[at])
            at += 1
    return total


def _grams(words: list[str], n: int) -> zip[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(n)), strict=False)


def _length(gram: tuple[str, ...]) -> int:
    """Return the characters of an n-gram with the blanks between its words."""
    return sum(map(len, gram)) + len(gram) - 1


def _chants(stream: str, begin: int, places: list[int], at: int) -> bool:
    """Note one more place of a chunk, and say whether its last ones are a chant."""
    places.append(at)
    recent = [place for place in places[-GEMINI_COPIES:] if place >= begin]
    if len(recent) < GEMINI_COPIES or at - recent[0] > 5 * GEMINI_CHUNK * (GEMINI_COPIES - 1):
        return False
    between = {stream[one:two] for one, two in pairwise(recent)}
    return len(between) <= GEMINI_COPIES // 2
