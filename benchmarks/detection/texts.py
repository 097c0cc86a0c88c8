"""Texts: readers that turn a file of a package into the texts in it, as a model might have written them.

A reader takes a file's bytes and returns its texts, none of which continues another. Bytes that are no
UTF-8 raise UnicodeDecodeError: such a file is broken for our purpose, and is left out.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from types import MappingProxyType


def plain(content: bytes) -> list[str]:
    """The file as one text."""
    return [content.decode("utf-8-sig")]


def parts(content: bytes) -> list[str]:
    """A big file in parts of about a hundred lines, so that a broken line costs its part alone."""
    lines = content.decode().splitlines()
    return ["\n".join(lines[start : start + 100]) for start in range(0, len(lines), 100)]


def fortunes(content: bytes) -> list[str]:
    """One text per fortune: they are separated by lines of a single ``%``."""
    return re.split(r"\n%+[^\n]*\n", content.decode())


def dialogues(content: bytes) -> list[str]:
    """Questions and answers of a chatterbot corpus: a YAML list of lists of lines.

    A question is kept once, with its first answers: repeats weigh answers there, they are no dialogue.
    """
    exchanges = re.split(r"^- - ", content.decode(), flags=re.MULTILINE)[1:]
    answers: dict[str, str] = {}
    for exchange in exchanges:
        question, _, rest = exchange.strip().partition("\n")
        answers.setdefault(question, re.sub(r"(^|\n) +- ", r"\1A: ", rest))
    return ["\n\n".join(f"Q: {question}\n{rest}" for question, rest in answers.items())]


def log_lines(content: bytes) -> list[str]:
    """A log without the comments that its testers put between the lines."""
    return ["\n".join(line for line in content.decode().splitlines() if not line.startswith("#"))]


def tex_lines(content: bytes) -> list[str]:
    """A LaTeX file without the notices (lines that begin with ``%%``) that all of its package open with."""
    return [re.sub(r"^%%.*\n", "", content.decode(), flags=re.MULTILINE)]


def json_indented(content: bytes) -> list[str]:
    """A JSON file, as ``json.dumps`` indents it; one text per entry of a big top-level list or object."""
    value = json.loads(content)
    if isinstance(value, list) and len(value) > 50:
        return [_dumps(value[place : place + 50]) for place in range(0, len(value), 50)]
    if isinstance(value, dict) and len(content) > 200_000:
        return [_dumps({key: entry}) for key, entry in value.items()]
    return [_dumps(value)]


def json_lines(content: bytes) -> list[str]:
    """The entries of a JSON file's first list, one a line, as logs and data sets write them."""
    value = json.loads(content)
    if isinstance(value, dict):
        value = next((entry for entry in value.values() if isinstance(entry, list)), [])
    return ["\n".join(json.dumps(entry, ensure_ascii=False) for entry in value)]


def json_strings(content: bytes) -> list[str]:
    """The strings of a JSON object, one text each."""
    return [text for text in json.loads(content).values() if isinstance(text, str)]


def licence_text(content: bytes) -> list[str]:
    """The text of an entry of the SPDX list."""
    return [json.loads(content)["licenseText"]]


def chinese_lines(content: bytes) -> list[str]:
    """The lines of a classical work in JSON, whatever its shape: every string of it, one a line."""
    return ["\n".join(_strings(json.loads(content)))]


def poems(content: bytes) -> list[str]:
    """One text per poem of the chinese-poetry collection: title, author and lines.

    Poems that lost characters before they came into the collection (U+FFFD) are left out.
    """
    texts = (
        "\n".join(
            filter(None, [poem.get("title") or poem.get("rhythmic"), poem.get("author"), *poem["paragraphs"]])
        )
        for poem in json.loads(content)
        if isinstance(poem, dict) and poem.get("paragraphs")
    )
    return [text for text in texts if "\ufffd" not in text]


def html_text(content: bytes) -> list[str]:
    """The words of a page: headings, list items and preformatted text marked as in markdown."""
    reader = _Page()
    reader.feed(content.decode())
    return [re.sub(r"\n{3,}", "\n\n", reader.text()).strip()]


def manual_page(content: bytes) -> list[str]:
    """A manual page as plain text; pages in mdoc or with tables are left out (their markup is richer)."""
    source = content.decode()
    if re.search(r"^\.(Dd|TS|so)\b", source, flags=re.MULTILINE):
        return []
    return [_Roff().render(source)]


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for entry in entries for text in _strings(entry)]


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


class _Page(HTMLParser):
    """Collects the text of a page, block by block."""

    _BLOCKS = frozenset(
        ("address", "blockquote", "br", "dd", "div", "dl", "ol", "p", "section", "table", "tr", "ul")
    )
    _MARKS = MappingProxyType(
        {"h1": "# ", "h2": "## ", "h3": "### ", "h4": "#### ", "li": "- ", "dt": "- ", "pre": "```\n"}
    )
    _SPACED = frozenset(("dl", "h1", "h2", "h3", "h4", "ol", "p", "table", "ul"))
    _SKIPPED_TAGS = frozenset(("footer", "form", "head", "header", "nav", "script", "style", "svg"))
    _SKIPPED_CLASSES = frozenset(("navheader", "navfooter", "nosearch"))

    def __init__(self) -> None:
        super().__init__()
        self._lines = [""]
        self._skipped = ""
        self._depth = 0
        self._verbatim = 0
        self._cells = 0

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._lines)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._skipped and (
            tag in self._SKIPPED_TAGS or dict(attrs).get("class") in self._SKIPPED_CLASSES
        ):
            self._skipped = tag
        if self._skipped:
            self._depth += tag == self._skipped
            return
        if tag in {"td", "th"}:
            self._cells += 1
            self._lines[-1] += " | " if self._lines[-1].strip() else ""
        elif tag in self._MARKS:
            self._start_line(self._MARKS[tag])
            self._verbatim += tag == "pre"
        elif tag in self._BLOCKS and not (self._cells and tag in {"p", "div"}):
            self._start_line("")

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            self._depth -= tag == self._skipped
            self._skipped = self._skipped if self._depth else ""
            return
        if tag in {"td", "th"}:
            self._cells = max(0, self._cells - 1)
        elif tag == "pre" and self._verbatim:
            self._verbatim -= 1
            self._lines += ["```", ""]
        elif tag in self._SPACED and not self._cells:
            self._lines += ["", ""]

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        if self._verbatim:
            first, *rest = data.split("\n")
            self._lines[-1] += first
            self._lines += rest
        else:
            words = re.sub(r"\s+", " ", data)
            self._lines[-1] += words.lstrip() if not self._lines[-1] or self._lines[-1][-1] == " " else words

    def _start_line(self, mark: str) -> None:
        if self._lines[-1].strip() in {"", "-"}:
            self._lines[-1] = self._lines[-1] or mark
        else:
            self._lines.append(mark)


class _Roff:
    """Renders the man macros: headings, paragraphs, tagged lists, fonts; the rest is dropped."""

    _VERBATIM = MappingProxyType({"nf": True, "EX": True, "Vb": True, "fi": False, "EE": False, "Ve": False})

    _ESCAPES: tuple[tuple[str, str], ...] = (
        (r"\\f(\[\w*\]|\(..|.)", ""),
        (r"\\[mM](\[\w*\]|\(..)", ""),
        (r"\\s[-+]?\d+", ""),
        (r"\\\*(\[\w*\]|\(..|.)", ""),
        (r"\\\((em|en|hy)|\\\[(em|en|hy)\]", "-"),
        (r"\\\((aq|cq)|\\\[(aq|cq)\]", "'"),
        (r"\\\((dq|lq|rq)|\\\[(dq|lq|rq)\]", '"'),
        (r"\\\((bu)|\\\[bu\]", "•"),
        (r"\\\((ti|ha)|\\\[(ti|ha)\]", "~"),
        (r"\\\((..)|\\\[[^\]]*\]", ""),
        (r"\\[&|^/,:%)c]", ""),
        (r"\\[ ~0]", " "),
        (r"\\-", "-"),
        (r"\\(e|\\)", r"\\"),
        (r"\\'", "'"),
        (r"\\`", "`"),
    )

    def render(self, source: str) -> str:
        lines: list[str] = []
        verbatim = False
        macro = False
        for line in source.splitlines():
            if macro:
                macro = not line.startswith("..")
                continue
            if not line.startswith((".", "'")):
                self._add(lines, self._plain(line).rstrip(), verbatim=verbatim)
                continue
            request, _, rest = line[1:].strip().partition(" ")
            macro = request in {"de", "ig", "de1"}
            verbatim = self._VERBATIM.get(request, verbatim)
            self._request(lines, request, self._words(rest), verbatim=verbatim)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def _request(self, lines: list[str], request: str, words: list[str], *, verbatim: bool) -> None:
        text = " ".join(words).rstrip()
        if request in {"SH", "SS"}:
            lines += ["", text, ""]
        elif request in {"PP", "P", "LP", "TP", "sp", "HP", "RS", "RE", "br", "TQ"}:
            lines += [""]
        elif request == "IP":
            lines += ["", *words[:1], ""]
        elif request in {"B", "I", "SM", "SB"}:
            self._add(lines, text, verbatim=verbatim)
        elif request in {"BR", "RB", "BI", "IB", "IR", "RI"}:
            self._add(lines, "".join(words).rstrip(), verbatim=verbatim)

    def _add(self, lines: list[str], text: str, *, verbatim: bool) -> None:
        if verbatim or not lines or not lines[-1] or text.startswith(" "):
            lines.append(text)
        elif text:
            lines[-1] += " " + text

    def _words(self, rest: str) -> list[str]:
        return [self._plain(quoted or bare) for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', rest)]

    def _plain(self, text: str) -> str:
        text = re.sub(r"\\\".*", "", text)
        for pattern, replacement in self._ESCAPES:
            text = re.sub(pattern, replacement, text)
        return text
