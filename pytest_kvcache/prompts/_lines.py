"""Lines of a prompt file: what each may hold, and a refusal that names the line when it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pytest_kvcache.errors import UsageError
from pytest_kvcache.records import Check, Json, Message, Prompt, Sampling
from pytest_kvcache.text import printable

if TYPE_CHECKING:
    from pathlib import Path

MAX_LINE_BYTES = 1_000_000

_BOM = b"\xef\xbb\xbf"
_HEADER_KEYS = frozenset({"sampling", "description", "prompts_of"})
_PROMPT_KEYS = frozenset({"text", "messages"})
_OBJECTS = frozenset({"json", "tool-call"})
"""Checks whose answer is a JSON object."""

_Text = Annotated[str, Meta(min_length=1)]
_Slug = Annotated[str, Meta(max_length=100, pattern=r"^\w[\w.-]*\Z")]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]

T = TypeVar("T")


class SamplingFields(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of :class:`~pytest_kvcache.records.Sampling` that a header sets, bounded as in vLLM."""

    max_tokens: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    temperature: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    repetition_penalty: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    frequency_penalty: _Penalty | UnsetType = UNSET
    presence_penalty: _Penalty | UnsetType = UNSET
    stop: tuple[_Text, ...] | UnsetType = UNSET
    ignore_eos: bool | UnsetType = UNSET
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """Return what the header says, without what it leaves open."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in fields.items() if value is not UNSET}

    def record(self) -> Sampling:
        return Sampling(**self.given())


class Header(msgspec.Struct, forbid_unknown_fields=True):
    """The optional first line: what the set is called and how its prompts are sampled."""

    name: _Slug | None = None
    description: str = ""
    sampling: SamplingFields = msgspec.field(default_factory=SamplingFields)
    prompts_of: str | None = None
    """The shipped set whose prompts this one borrows, instead of having its own."""
    ids: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    """Which of the borrowed prompts, in this order; all of them when left out."""
    fixed: bool = False
    """Of a shipped set: made for a purpose, so that a team's own prompts do not take its place."""


class _MessageFields(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: _Text | None


class _PromptFields(msgspec.Struct, forbid_unknown_fields=True):
    id: _Slug | None = None
    kind: _Slug = "custom"
    text: _Text | None = None
    messages: Annotated[tuple[_MessageFields, ...], Meta(min_length=1)] | None = None
    answer: _Text | dict[str, Json] | None = None
    check: Check | None = None


@dataclass(frozen=True)
class Row:
    """One JSON object of a prompt file, and the line it stands on."""

    path: Path
    number: int
    value: dict[str, Json]

    @property
    def is_header(self) -> bool:
        return not _HEADER_KEYS.isdisjoint(self.value) and _PROMPT_KEYS.isdisjoint(self.value)

    def header(self) -> Header:
        header = self._read(Header, "a header may hold name, description, sampling, prompts_of, ids, fixed")
        if header.ids is not None and header.prompts_of is None:
            self.refuse("ids says which prompts to borrow; say from which shipped set with prompts_of")
        return header

    def prompt(self) -> Prompt:
        if self.is_header:
            self.refuse("a header must be the first line of the file; move it there")
        fields = self._read(
            _PromptFields, "a prompt may hold id, kind, answer, check, and either text or messages"
        )
        if (fields.text is None) == (fields.messages is None):
            found = "neither text nor" if fields.text is None else "both text and"
            self.refuse(f"the prompt has {found} messages; give it exactly one of them")
        name = fields.id or f"line-{self.number}"
        return Prompt(name, fields.kind, fields.text, self._messages(fields), *self._answer(fields))

    def _messages(self, fields: _PromptFields) -> tuple[Message, ...]:
        messages = tuple(Message(message.role, message.content) for message in fields.messages or ())
        if messages and messages[-1].role != "user":
            self.refuse(f"the last message is the {messages[-1].role}'s; end with one of the user")
        roles = [None, *(message.role for message in messages)]
        for before, message in zip(roles, messages, strict=False):
            if message.content is None and (before, message.role) != ("user", "assistant"):
                self.refuse(
                    f"a message of the {message.role} has no content; only an answer of the assistant to the "
                    "user may be null: the model itself writes it"
                )
        return messages

    def _answer(self, fields: _PromptFields) -> tuple[str | None, Check]:
        """Return the right answer as text, and how outputs are held against it."""
        answer, check = fields.answer, fields.check or "contains"
        if answer is None:
            if fields.check is not None:
                self.refuse("check says how an answer is compared; give the answer as well")
            return None, "contains"
        if isinstance(answer, str):
            if check in _OBJECTS:
                self.refuse(f"the answer of a {check} check is an object; write {{...}}")
            if not any(map(str.isalnum, answer)):
                self.refuse("the answer has neither letters nor digits; only these are compared")
            return answer, check
        if check not in _OBJECTS:
            self.refuse(f"the answer is an object, but the check is {check}; make it json or tool-call")
        if check == "tool-call" and not _is_call(answer):
            self.refuse("the answer of a tool-call check is an object with name and arguments (an object)")
        return json.dumps(answer, ensure_ascii=False), check

    def refuse(self, problem: str) -> NoReturn:
        """Raise the UsageError that says what is wrong with this line."""
        _refuse(self.path, self.number, problem)

    def _read(self, fields: type[T], allowed: str) -> T:
        try:
            return msgspec.convert(self.value, fields)
        except msgspec.ValidationError as error:
            self.refuse(f"{error}; correct it ({allowed})")


def read_rows(path: Path) -> tuple[Row, ...]:
    """Return the JSON objects of a file of JSON lines; blank lines and a byte order mark are skipped.

    Raises UsageError for a file that cannot be read, and for the first line that is too long, not
    UTF-8, not JSON, or not an object.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(printable(f"{path}: {error.strerror}; the prompt file must be readable")) from None
    lines = content.removeprefix(_BOM).split(b"\n")
    return tuple(_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip())


def _is_call(answer: dict[str, Json]) -> bool:
    kinds = (("name", str), ("arguments", dict))
    return answer.keys() == dict(kinds).keys() and all(isinstance(answer[name], kind) for name, kind in kinds)


def _row(path: Path, number: int, line: bytes) -> Row:
    if len(line) > MAX_LINE_BYTES:
        _refuse(path, number, f"the line has {len(line):,} bytes; at most {MAX_LINE_BYTES:,} are read")
    try:
        value = msgspec.json.decode(line.decode())
    except UnicodeDecodeError as error:
        _refuse(path, number, f"byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8")
    except (msgspec.DecodeError, RecursionError) as error:
        _refuse(path, number, f"{error}; write each prompt as one JSON object on one line")
    if not isinstance(value, dict):
        _refuse(path, number, f"the line is no object but {type(value).__name__}; write {{...}}")
    return Row(path, number, value)


def _refuse(path: Path, number: int, problem: str) -> NoReturn:
    raise UsageError(printable(f"{path}:{number}: {problem}")) from None
