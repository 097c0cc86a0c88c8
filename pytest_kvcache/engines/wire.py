"""The wire between pytest and an engine: typed messages in frames, over an inherited socket.

A frame is four bytes (big-endian length) and that many bytes of MessagePack. Nothing is unpickled,
and stdout stays free for vLLM's own prints.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgspec

from pytest_kvcache.records import (
    Counts,
    EngineSpec,
    Output,
    Prompt,
    Provenance,
    Sampling,
    Score,
    ScoreRequest,
    ScoringPath,
)

_LENGTH = struct.Struct(">I")


class Start(msgspec.Struct, tag=True, frozen=True):
    """First request: load the model. Answered by `Ready`."""

    spec: EngineSpec
    model_path: str
    """Where the weights are: a directory, or the hub id itself."""
    device_ids: tuple[int, ...]
    cache_dir: str
    """Where content hashes of local models are remembered."""


class Generate(msgspec.Struct, tag=True, frozen=True):
    """Generate for all prompts in one batch. Answered by `Outputs`, in the same order."""

    prompts: tuple[Prompt, ...]
    sampling: Sampling


class ScoreTexts(msgspec.Struct, tag=True, frozen=True):
    """Score all texts in one batch. Answered by `Scores`, in the same order."""

    requests: tuple[ScoreRequest, ...]
    top_k: int
    path: ScoringPath | None = None
    """The way to score; None for the one that the engine's probe chose."""
    keep_prefix_cache: bool = False


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Last request: end in order. Answered by `Stopped`."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    provenance: Provenance


class Outputs(msgspec.Struct, tag=True, frozen=True):
    outputs: tuple[Output, ...]
    counts: Counts = Counts()
    scales_differ: str | None = None
    """Where the engine's kv scales are not the checkpoint's, once the outputs are written."""


class Scores(msgspec.Struct, tag=True, frozen=True):
    scores: tuple[Score, ...]
    counts: Counts = Counts()


class Progress(msgspec.Struct, tag=True, frozen=True):
    """May come any number of times before the answer to a request."""

    phase: str
    """``loading``, ``generating`` or ``scoring``."""
    done: int
    total: int


class Stopped(msgspec.Struct, tag=True, frozen=True):
    peak_rss_bytes: int


class Failure(msgspec.Struct, tag=True, frozen=True):
    """The request could not be answered; ``message`` is one line for a person."""

    message: str


Request = Start | Generate | ScoreTexts | Stop
Reply = Ready | Outputs | Scores | Progress | Stopped | Failure


def send(channel: socket.socket, message: Request | Reply) -> None:
    """Write one message; raises OSError when the other side is gone."""
    body = msgspec.msgpack.encode(message)
    channel.sendall(_LENGTH.pack(len(body)) + body)


def receive(channel: socket.socket, kind: Any) -> Any:
    """Read one message of type ``kind`` (`Request` or `Reply`).

    Raises EOFError when the other side is gone, TimeoutError when the socket's timeout passes, and
    ``msgspec.ValidationError`` for bytes that are no such message.
    """
    (length,) = _LENGTH.unpack(_read_exactly(channel, _LENGTH.size))
    return msgspec.msgpack.decode(_read_exactly(channel, length), type=kind)


def _read_exactly(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    filled = 0
    while filled < size:
        try:
            count = channel.recv_into(view[filled:])
        except ConnectionError as error:
            raise EOFError("the connection was reset") from error
        if count == 0:
            raise EOFError("the other side closed the connection")
        filled += count
    return data
