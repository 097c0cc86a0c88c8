"""A stand-in engine that speaks the wire protocol: for the plugin's own behaviour, never as proof about vLLM.

Run like the real child, with the number of its socket as last argument. What it does is asked for by
engine arguments, so that a test says it where it says everything else:

``script``      ``healthy`` (default), ``loop``, ``empty`` or ``zeros`` (token 0 alone): what it writes;
                ``knows`` answers what can be, ``echo`` begins with what the prompt says
``writes``      the text that it writes, whatever it is asked
``ends_after``  so many tokens end an output
``heeds_penalties`` penalties change what it writes
``reports``     what its provenance says, by the names of its fields
``says``        a word on which all that it writes depends
``delta_nll``   how much less probable it finds every text, in nats per token
``fail_at``     ``loading``, ``generating`` or ``scoring``: answers with a failure there
``crash_at``    the same places: ends with SIGKILL
``hang_at``     the same places: never answers
``grandchild``  a file: starts a process that outlives it, and writes its pid there
``resolves_to`` the kv dtype that it says it resolved
``refuses_prompts`` refuses a penalised set of so many prompts, and lives on
``seconds``     how long each step takes
``prompt_tokens`` how long every prompt is
``preempts``    how many sequences it preempts in each batch; with ``num_gpu_blocks_override`` it does two
``kept_delta_nll`` so much less again, for what it scores on a prefix cache that was not emptied
``never_caches`` reads nothing from the prefix cache although it has one
``cannot_follow`` answers with a failure where it is to score by decoding

Arguments whose name begins with ``candidate_`` hold for quantized dtypes alone. Every start appends a
line to the file named by ``$SCRIPTED_ENGINE_STARTS``.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lifelike import lifelike_ids, text_of

from pytest_kvcache.engines import wire
from pytest_kvcache.engines.identity import model_identity
from pytest_kvcache.engines.turns import generate_by_turns
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


class Script:
    def __init__(self, start: wire.Start) -> None:
        self.spec: EngineSpec = start.spec
        arguments = start.spec.arguments()
        if start.spec.kv_cache_dtype.startswith("fp8"):
            arguments |= {
                k.removeprefix("candidate_"): v for k, v in arguments.items() if k.startswith("candidate_")
            }
        self.arguments = arguments
        self.device_ids = start.device_ids
        # Of files their hash, as the real engine says it; of a name that nothing lies behind, any.
        name = hashlib.sha256(start.spec.model.encode()).hexdigest()[:12]
        config = SimpleNamespace(_commit_hash=name)
        path = start.model_path or start.spec.model
        self.model_id = model_identity(path, config, Path(start.cache_dir))
        if "grandchild" in arguments:
            process = subprocess.Popen(["sleep", "600"], start_new_session=True)
            Path(arguments["grandchild"]).write_text(str(process.pid), encoding="ascii")

    @property
    def prompt_token_ids(self) -> tuple[int, ...]:
        return tuple(range(1, 1 + self.arguments.get("prompt_tokens", 3)))

    @property
    def scales_differ(self) -> str | None:
        """As it reports it once outputs are written."""
        said: dict[str, Any] = self.arguments.get("reports", {}) | self.arguments.get("reports_later", {})
        return said.get("scales_differ")

    def act(self, place: str) -> None:
        """Misbehave here if that was asked for."""
        time.sleep(self.arguments.get("seconds", 0))
        if self.arguments.get("crash_at") == place:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.arguments.get("hang_at") == place:
            time.sleep(3600)
        if self.arguments.get("fail_at") == place:
            raise RuntimeError(f"scripted failure while {place}")

    def provenance(self) -> Provenance:
        dtype = self.spec.kv_cache_dtype
        resolved = self.arguments.get("resolves_to") or ("bfloat16" if dtype == "auto" else dtype)
        provenance = Provenance(
            model=self.spec.model,
            model_path=self.spec.model,
            model_id=self.model_id,
            kv_cache_dtype=resolved,
            kv_cache_quantized=resolved.startswith("fp8"),
            kv_scales="unit" if resolved.startswith("fp8") else "none",
            model_dtype="bfloat16",
            quantization=None,
            chat_template_sha256=None,
            attention_backend="SCRIPTED",
            block_size=self.arguments.get("block_size", 16),
            chunked_prefill=self.arguments.get("enable_chunked_prefill", True),
            enforce_eager=self.arguments.get("enforce_eager", True),
            max_num_batched_tokens=self.arguments.get("max_num_batched_tokens") or 4096,
            max_num_seqs=self.arguments.get("max_num_seqs", 256),
            kv_capacity_tokens=200_000 if resolved.startswith("fp8") else 100_000,
            prefix_caching=self.arguments.get("enable_prefix_caching", True),
            max_model_len=8192,
            device="script",
            device_ids=self.device_ids,
            threads=len(os.sched_getaffinity(0)),
            platform="cpu",
            cpu_flags=(),
            versions=(("vllm", "scripted"),),
            environment=(),
            seconds_to_load=0.0,
            scoring_difference=None if self.arguments.get("cannot_follow") else 0.001,
        )
        return replace(provenance, **self.arguments.get("reports", {}))

    def generate(self, prompt: Prompt, sampling: Sampling) -> Output:
        seed = f"{self.arguments.get('says', '')}{self.spec.model}|{prompt.id}|{self.spec.kv_cache_dtype}"
        if self.arguments.get("heeds_penalties"):
            seed += f"|{sampling.repetition_penalty}"
        ids = lifelike_ids(
            seed, min(sampling.max_tokens, self.arguments.get("ends_after", sampling.max_tokens))
        )
        script = self.arguments.get("script", "healthy")
        if script == "zeros":
            ids = [0] * len(ids)
        if script == "loop":
            ids = (ids[:8] + [7, 8, 9, 10] * len(ids))[: sampling.max_tokens]
        if script == "empty":
            ids = []
        if script == "knows" and prompt.answer is not None:
            return Output(prompt.id, self.prompt_token_ids, (1,), prompt.answer, "stop")
        reason = "length" if len(ids) == sampling.max_tokens else "stop"
        begun = f"{prompt.content} " if script == "echo" else ""
        text = self.arguments.get("writes") or begun + text_of(ids)
        return Output(prompt.id, self.prompt_token_ids, tuple(ids), text, reason)

    def score(
        self, request: ScoreRequest, k: int, path: ScoringPath | None = None, *, kept: bool = False
    ) -> Score:
        dice = random.Random(f"{request.prompt_id}|{self.spec.kv_cache_dtype}|{path}")
        delta = float(self.arguments.get("delta_nll", 0.0))
        if kept:
            delta += self.arguments.get("kept_delta_nll", 0.0)
        n = len(request.token_ids)
        logprobs = [-1.0 - delta + dice.gauss(0.0, 0.01) for _ in range(n)]
        agree = 1.0 - min(0.9, delta)
        top = [t if dice.random() < agree else t + 1 for t in request.token_ids]
        ids = [i for t in top for i in range(t, t + k)]
        return Score(
            request.prompt_id,
            request.token_ids,
            struct.pack(f"<{n}f", *logprobs),
            struct.pack(f"<{n * k}i", *ids),
            struct.pack(f"<{n * k}f", *[p - j for p in logprobs for j in range(k)]),
            k,
        )

    def counts(self, found: Sequence[Sequence[int]] = ()) -> Counts:
        """Return what its scheduler would have done for one batch, whose prefix cache held some prompts.

        It never caches a prompt's last token.
        """
        small = "num_gpu_blocks_override" in self.arguments
        reads = self.provenance().prefix_caching and not self.arguments.get("never_caches")
        cached = sum(len(prompt) - 1 for prompt in found) if reads else 0
        return Counts(cached, self.arguments.get("preempts", 2 if small else 0))


def main() -> None:
    fd = int(sys.argv[-1])
    os.set_inheritable(fd, False)
    channel = socket.socket(fileno=fd)
    script: Script | None = None
    while True:
        try:
            request = wire.receive(channel, wire.Request)
        except EOFError:
            return
        if isinstance(request, wire.Stop):
            wire.send(channel, wire.Stopped(1 << 20))
            return
        try:
            if isinstance(request, wire.Start):
                record_start(request)
                script = Script(request)
            assert script is not None
            wire.send(channel, answer(script, request))
        except RuntimeError as error:
            wire.send(channel, wire.Failure(str(error)))


def answer(script: Script, request: wire.Start | wire.Generate | wire.ScoreTexts) -> wire.Reply:
    match request:
        case wire.Start():
            script.act("loading")
            return wire.Ready(script.provenance())
        case wire.Generate():
            script.act("generating")
            if len(request.prompts) == script.arguments.get("refuses_prompts") and request.sampling.penalised:
                raise RuntimeError(f"scripted refusal of {len(request.prompts)} prompts")
            outputs = generate_by_turns(
                request.prompts, lambda turn: [script.generate(p, request.sampling) for p in turn]
            )
            talks = {prompt.id for prompt in request.prompts if prompt.is_open}
            found = [output.prompt_token_ids for output in outputs if output.prompt_id in talks]
            return wire.Outputs(outputs, script.counts(found), script.scales_differ)
        case wire.ScoreTexts():
            script.act("scoring")
            if len(request.requests) == 1 and script.arguments.get("refuses_single_texts"):
                raise RuntimeError("scripted refusal of a text alone")
            if request.path == "decode" and script.arguments.get("cannot_follow"):
                raise RuntimeError("it cannot follow a given text")
            kept = request.keep_prefix_cache
            scores = [script.score(r, request.top_k, request.path, kept=kept) for r in request.requests]
            found = [each.prompt_token_ids for each in request.requests if kept]
            return wire.Scores(tuple(scores), script.counts(found))


def record_start(start: wire.Start) -> None:
    if path := os.environ.get("SCRIPTED_ENGINE_STARTS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{start.spec.model} {start.spec.kv_cache_dtype} {start.device_ids}\n")


if __name__ == "__main__":
    main()
