"""Texts: readers that turn a file of a package into the texts in it, as a model might have written them.

A reader takes a file's bytes and returns its texts, none of which continues another. Bytes that are no
UTF-8 raise UnicodeDecodeError: such a file is broken for our purpose, and is left out.
"""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser


def plain(content: bytes) -> list[str]:
    """The file as one text."""
    return [content.decode("utf-8-sig")]


def fortunes(content: bytes) -> list[str]:
    """One text per fortune: they are separated by lines of a single ``%``."""
    return re.split(r"\n%+[^\n]*\n", content.decode())


def paragraphs(content: bytes) -> list[str]:
    """The file as one text, its hard line breaks within paragraphs undone."""
    blocks = re.split(r"\n\s*\n", content.decode("utf-8-sig").replace("\r\n", "\n"))
    return ["\n\n".join(re.sub(r"\s*\n\s*", " ", block).strip() for block in blocks)]


def dialogues(content: bytes) -> list[str]:
    """Question and answers of a chatterbot corpus: a YAML list of lists of lines."""
    turns: list[str] = []
    for line in content.decode().splitlines():
        if match := re.match(r"(- - |  - )(.+)", line):
            speaker = "Q" if match[1] == "- - " else "A"
            turns.append(("\n" if speaker == "Q" else "") + f"{speaker}: " + match[2].strip("'\" "))
    return ["\n".join(turns).strip()]


def json_indented(content: bytes) -> list[str]:
    """A JSON file, as ``json.dumps`` indents it; one text per entry of a big top-level list or object."""
    value = json.loads(content)
    if isinstance(value, list) and len(value) > 50:
        return [_dumps(value[place : place + 50]) for place in range(0, len(value), 50)]
    if isinstance(value, dict) and len(content) > 200_000:
        return [_dumps({key: entry}) for key, entry in value.items()]
    return [_dumps(value)]


def json_compact(content: bytes) -> list[str]:
    """A JSON file's entries, one a line, as logs and data sets write them."""
    value = json.loads(content)
    entries = list(value.values()) if isinstance(value, dict) else value
    return ["\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)]


def poems(content: bytes) -> list[str]:
    """One text per poem of the chinese-poetry collection: title, author and lines."""
    return [
        "\n".join(
            filter(None, [poem.get("title") or poem.get("rhythmic"), poem.get("author"), *poem["paragraphs"]])
        )
        for poem in json.loads(content)
        if isinstance(poem, dict) and poem.get("paragraphs")
    ]


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


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


class _Page(HTMLParser):
    """Collects the text of a page, block by block."""

    _BLOCKS = frozenset(
        ("p", "div", "li", "dt", "dd", "tr", "pre", "table", "ul", "ol", "dl", "blockquote", "section")
    )
    _HEADINGS: dict[str, str] = {"h1": "# ", "h2": "## ", "h3": "### ", "h4": "#### "}
    _SKIPPED = frozenset(("script", "style", "head", "nav", "footer", "svg"))

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[str] = []
        self._skipping = 0
        self._verbatim = 0

    def text(self) -> str:
        return "".join(self._parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._skipping += tag in self._SKIPPED
        if tag == "pre":
            self._verbatim += 1
            self._break("```\n")
        elif tag in self._HEADINGS:
            self._break(self._HEADINGS[tag])
        elif tag in {"li", "dt"}:
            self._break("- ")
        elif tag in self._BLOCKS or tag == "br":
            self._break("")
        elif tag in {"td", "th"}:
            self._parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._skipping -= tag in self._SKIPPED and self._skipping > 0
        if tag == "pre" and self._verbatim:
            self._verbatim -= 1
            self._parts.append("\n```\n")
        elif tag in self._HEADINGS or tag in {"p", "table"}:
            self._parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if self._skipping:
            return
        if self._verbatim:
            self._parts.append(data)
        elif data.strip():
            words = re.sub(r"\s+", " ", data)
            self._parts.append(words.lstrip() if self._at_line_start() else words)
        elif data and not self._at_line_start():
            self._parts.append(" ")

    def _at_line_start(self) -> bool:
        return not self._parts or self._parts[-1].endswith("\n") or self._parts[-1] in {"- ", "# ", "## "}

    def _break(self, mark: str) -> None:
        if self._skipping:
            return
        if self._parts and not self._parts[-1].endswith("\n"):
            self._parts.append("\n")
        self._parts.append(mark)


class _Roff:
    """Renders the man macros: headings, paragraphs, tagged lists, fonts; the rest is dropped."""

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
                self._add(lines, self._plain(line), verbatim=verbatim)
                continue
            request, _, rest = line[1:].strip().partition(" ")
            macro = request in {"de", "ig", "de1"}
            verbatim = {"nf": True, "EX": True, "fi": False, "EE": False}.get(request, verbatim)
            self._request(lines, request, self._words(rest), verbatim=verbatim)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def _request(self, lines: list[str], request: str, words: list[str], *, verbatim: bool) -> None:
        text = " ".join(words)
        if request in {"SH", "SS"}:
            lines += ["", text, ""]
        elif request in {"PP", "P", "LP", "TP", "sp", "HP", "RS", "RE", "br", "TQ"}:
            lines += [""]
        elif request == "IP":
            lines += ["", *words[:1], ""]
        elif request in {"B", "I", "SM", "SB"}:
            self._add(lines, text, verbatim=verbatim)
        elif request in {"BR", "RB", "BI", "IB", "IR", "RI"}:
            self._add(lines, "".join(words), verbatim=verbatim)

    def _add(self, lines: list[str], text: str, *, verbatim: bool) -> None:
        if verbatim or not lines or not lines[-1]:
            lines.append(text)
        elif text:
            lines[-1] += " " + text

    def _words(self, rest: str) -> list[str]:
        return [self._plain(quoted or bare) for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', rest)]

    def _plain(self, text: str) -> str:
        text = re.sub(r"\\\".*", "", text)
        for pattern, replacement in self._ESCAPES:
            text = re.sub(pattern, replacement, text)
        return html.unescape(text).rstrip() if "&" in text else text.rstrip()
