"""Document scores: what the baseline engine thinks of documents of the corpus.

    PYTHONPATH=benchmarks python -m detection.document_scores [--corpus DIR]

For the detector of improbable text: English documents of several healthy kinds, and damage that makes
text improbable, or improbably probable. A document is scored whole, in the reference models' own
tokens, after one token that separates documents. The sample is drawn once and kept beside its scores, in
``CORPUS/scores``: a corpus that is built anew does not make them worthless. Delete it to draw anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import msgspec

from detection.baseline import BASELINE, score_texts
from detection.corpus import HALVES, Document, Half, read_documents
from detection.scored import read_scores
from pytest_kvcache.files import write_atomically
from pytest_kvcache.models import locate_model
from pytest_kvcache.records import Output, Score, ScoreRequest, content_key

HEALTHY = {"prose-en": 50, "chat": 50, "code-python": 50, "how-to": 50, "markdown": 50}
DAMAGED = {"word-salad": 120, "soup": 60, "paraphrase-loop": 80, "corruption": 80}
"""Documents of a kind, in each half."""
IN_LATIN_LETTERS = ("word-salad", "paraphrase-loop")
"""Kinds that are taken in the language that the baseline knows: any other is improbable to it unshuffled."""
SEPARATOR = 0
"""``<|endoftext|>``: all the context that a document has."""
LONGEST = 1024
"""Tokens; longer documents (soups of rare letters) are left out."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Score documents of the corpus with the baseline engine.")
    parser.add_argument("--corpus", type=Path, default=Path(".kvcache/detection"), metavar="DIR")
    corpus = parser.parse_args(arguments).corpus
    tokenizer = _tokenizer()
    requests = []
    for document in _in_turns(_sample(corpus, half) for half in HALVES):
        ids = tuple(tokenizer.encode(document.text, add_special_tokens=False))
        if 0 < len(ids) <= LONGEST:
            requests.append(ScoreRequest(document.id, (SEPARATOR,), ids))
    score_texts(requests, _file(corpus))
    return 0


def scored_documents(corpus: Path, half: Half) -> Iterator[tuple[Document, Output, Score]]:
    """Yield the documents of a half that have a score, each with its text in the baseline's tokens.

    The scores have the k = 2 of `detection.scored.score_of`; their ids are the output's, not the document's.
    """
    scores = read_scores(_file(corpus))
    for document in _read_sample(corpus, half):
        if scored := scores.get(document.id):
            output = Output(
                document.id, (SEPARATOR,), scored.token_ids, document.text, document.finish_reason
            )
            yield document, output, scored.score()


def _sample(corpus: Path, half: Half) -> list[Document]:
    """Return the documents to score, kinds taking turns; drawn if that has not been done."""
    file = _sample_file(corpus, half)
    if not file.exists():
        healthy = [_some(read_documents(corpus, half, "healthy", kind), n) for kind, n in HEALTHY.items()]
        damaged = [_some(_readable(corpus, half, kind), n) for kind, n in DAMAGED.items()]
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, msgspec.json.Encoder().encode_lines(_in_turns(healthy + damaged)))
    return _read_sample(corpus, half)


def _read_sample(corpus: Path, half: Half) -> list[Document]:
    file = _sample_file(corpus, half)
    return msgspec.json.Decoder(Document).decode_lines(file.read_bytes()) if file.exists() else []


def _readable(corpus: Path, half: Half, kind: str) -> Iterator[Document]:
    for document in read_documents(corpus, half, "damaged", kind):
        letters = document.text.encode(errors="ignore")
        if kind not in IN_LATIN_LETTERS or len(letters) < 1.05 * len(document.text):
            yield document


def _some(documents: Iterable[Document], count: int) -> list[Document]:
    """Return so many at random, the same from the same documents."""
    return sorted(documents, key=lambda document: content_key(document.id))[:count]


def _in_turns(groups: Iterable[Sequence[Document]]) -> Iterator[Document]:
    turns = chain.from_iterable(zip_longest(*groups))
    return (document for document in turns if document is not None)


def _file(corpus: Path) -> Path:
    return corpus / "scores" / "documents.jsonl"


def _sample_file(corpus: Path, half: Half) -> Path:
    return corpus / "scores" / f"sample-{half}.jsonl"


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(locate_model(BASELINE.model, print))


if __name__ == "__main__":
    sys.exit(main())
