"""The engine process. Only this module and its neighbours whose names begin alike import vllm.

Run as ``python -m pytest_kvcache.engines.vllm_child FD``; it answers the requests of `wire` on that
socket until the other side is gone. Whatever vLLM prints goes to the engine's log.
"""

from __future__ import annotations

import os
import platform
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_kvcache.dtypes import canonical_dtype, check_runnable, cpu_name, is_quantized, kernel_flags
from pytest_kvcache.engines import wire
from pytest_kvcache.engines.attention import Layer, kind_of_scales, quantized_scales, read_layers
from pytest_kvcache.engines.chat import Chat
from pytest_kvcache.engines.identity import model_identity, text_hash
from pytest_kvcache.engines.kv_scales import (
    announces_scales,
    announcing_file,
    check_scales,
    read_checkpoint_scales,
)
from pytest_kvcache.engines.model_files import loaded_directory
from pytest_kvcache.engines.turns import generate_by_turns
from pytest_kvcache.engines.vllm_counts import Counter
from pytest_kvcache.engines.vllm_scoring import Scorer, following_arguments, probe_requests
from pytest_kvcache.errors import EngineError, KvCacheError
from pytest_kvcache.records import (
    Output,
    Prompt,
    Provenance,
    Sampling,
    Score,
    ScoreRequest,
    ScoringPath,
)
from pytest_kvcache.redact import is_secret_name, redact

PROGRESS_EVERY_SECONDS = 1.0
CPU_CACHE_BYTES = 2 << 30
ENVIRONMENT = tuple(
    (name, redact(value))
    for name, value in sorted(os.environ.items())
    if name.startswith("VLLM_") and not is_secret_name(name)
)
"""What was set from outside, before vLLM sets variables of its own."""


def main(arguments: list[str]) -> None:
    fd = int(arguments[0])
    os.set_inheritable(fd, False)
    # In this process, not one more: the process is ours alone already.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    # Ahead of its turn, and before anybody says what to load: that may be a while from now.
    with suppress(Exception):  # Loading will fail on it too, and say why.
        import vllm

        _ = vllm.LLM  # it comes when it is first looked at
    Server(socket.socket(fileno=fd)).run()


class Server:
    """Answers one request after the other, and every failure with one line."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._model: VllmModel | None = None

    def run(self) -> None:
        while True:
            try:
                request = wire.receive(self._channel, wire.Request)
            except EOFError:
                return
            if isinstance(request, wire.Stop):
                if self._model:
                    self._model.shut_down()
                wire.send(self._channel, wire.Stopped(_peak_rss_bytes()))
                # vLLM's threads may keep a normal exit waiting; everything is delivered.
                os._exit(0)
            try:
                wire.send(self._channel, self._answer(request))
            except Exception as error:
                traceback.print_exc()
                wire.send(self._channel, wire.Failure(one_line(error)))

    def _answer(self, request: wire.Request) -> wire.Reply:
        if isinstance(request, wire.Start):
            wire.send(self._channel, wire.Progress("loading", 0, 1))
            self._model = VllmModel(request, lambda *step: wire.send(self._channel, wire.Progress(*step)))
            return wire.Ready(self._model.provenance())
        if self._model is None:
            raise EngineError("asked for work before it was started")
        if isinstance(request, wire.Generate):
            outputs = self._model.generate(request.prompts, request.sampling)
            return wire.Outputs(outputs, self._model.counter.take(), self._model.scales_differ())
        assert isinstance(request, wire.ScoreTexts)
        scores = self._model.score(
            request.requests, request.top_k, request.path, keep_prefix_cache=request.keep_prefix_cache
        )
        return wire.Scores(scores, self._model.counter.take())


class VllmModel:
    """vLLM's ``LLM`` seen through our records."""

    def __init__(self, start: wire.Start, report: Callable[[str, int, int], None]) -> None:
        began = time.monotonic()
        import vllm
        from vllm.platforms import current_platform

        self._start = start
        self._report = report
        self._platform = str(current_platform.device_type)
        self.llm: Any = vllm.LLM(**self._arguments())
        self._tokenizer: Any = self.llm.get_tokenizer()
        self._chat = Chat(self._tokenizer, start.spec.template_arguments())
        self.seconds_to_load = time.monotonic() - began
        config = self.llm.llm_engine.vllm_config
        model = config.model_config
        self._model_id = model_identity(start.model_path, model.hf_config, Path(start.cache_dir))
        directory = loaded_directory(start.model_path, self._model_id)
        self._stored_scales = None if directory is None else read_checkpoint_scales(directory)
        self._announcing_file = None if directory is None else announcing_file(directory)
        self._announces_scales = announces_scales(getattr(model.hf_config, "quantization_config", None))
        self.counter = Counter(self.llm)
        self._scorer = Scorer(config, lambda *work: self._batch("scoring", *work))
        self._scorer.probe(probe_requests(self._tokenizer.encode, model.max_model_len - 1))
        self.counter.take()

    def _arguments(self) -> dict[str, Any]:
        spec = self._start.spec
        arguments: dict[str, Any] = {"model": self._start.model_path, "kv_cache_dtype": spec.kv_cache_dtype}
        if spec.revision is not None:
            arguments |= {"revision": spec.revision, "tokenizer_revision": spec.revision}
        if self._platform == "cpu":
            arguments |= _cpu_defaults()
        # Scores are log-probabilities of the model itself, whatever processors come after it.
        arguments |= spec.llm_arguments() | {"logprobs_mode": "raw_logprobs"}
        return arguments | following_arguments(_config_of(arguments), arguments)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> tuple[Output, ...]:
        from vllm import SamplingParams

        parameters = SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            repetition_penalty=sampling.repetition_penalty,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            stop=list(sampling.stop) or None,
            ignore_eos=sampling.ignore_eos,
            seed=sampling.seed if sampling.temperature > 0 else None,
        )
        self._empty_prefix_cache()
        return generate_by_turns(prompts, lambda turn: self._generate_turn(turn, parameters))

    def _generate_turn(self, prompts: Sequence[Prompt], parameters: Any) -> tuple[Output, ...]:
        inputs = [self._chat.token_ids(prompt) for prompt in prompts]
        self._check_lengths(inputs, parameters.max_tokens)
        results = self._batch("generating", inputs, parameters, parameters.max_tokens)
        return tuple(
            Output(
                prompt_id=prompt.id,
                prompt_token_ids=tuple(ids),
                token_ids=tuple(result.outputs[0].token_ids),
                text=result.outputs[0].text,
                finish_reason=result.outputs[0].finish_reason,
            )
            for prompt, ids, result in zip(prompts, inputs, results, strict=True)
        )

    def score(
        self,
        requests: Sequence[ScoreRequest],
        top_k: int,
        path: ScoringPath | None,
        *,
        keep_prefix_cache: bool,
    ) -> tuple[Score, ...]:
        if not keep_prefix_cache:
            self._empty_prefix_cache()
        self._check_lengths([[*request.prompt_token_ids, *request.token_ids] for request in requests], 0)
        return self._scorer.score(requests, top_k, path)

    def _empty_prefix_cache(self) -> None:
        if not self.llm.reset_prefix_cache():
            raise EngineError("its prefix cache could not be emptied before a prompt set")

    def _batch(self, phase: str, inputs: list[list[int]], parameters: Any, steps: int) -> list[Any]:
        """Let vLLM work on what its prefix cache holds already."""
        prompts = [{"prompt_token_ids": ids} for ids in inputs]
        with self._steps_reported(phase, steps):
            results: list[Any] = self.llm.generate(prompts, parameters, use_tqdm=False)
        self.counter.add(results)
        return results

    def _check_lengths(self, inputs: list[list[int]], max_tokens: int) -> None:
        # One less than the model's own: to score a text, vLLM must have room for one token after it.
        limit = self.llm.llm_engine.vllm_config.model_config.max_model_len - 1
        longest = max(map(len, inputs), default=0)
        if not all(inputs):
            raise EngineError("a prompt came out as no tokens: is it empty, or has the model no tokenizer?")
        if longest + max_tokens > limit:
            raise EngineError(
                f"a prompt of {longest} tokens and {max_tokens} to generate are more than the {limit} that "
                "the model has room for: shorten the prompt (--kv-context for the long texts), lower "
                "--kv-max-tokens, or raise max_model_len with --kv-engine-arg"
            )

    @contextmanager
    def _steps_reported(self, phase: str, total: int) -> Iterator[None]:
        """Count the engine's steps while the block runs, and report about one a second."""
        engine = self.llm.llm_engine
        step = engine.step
        done, reported = 0, time.monotonic()

        def counted_step() -> Any:
            nonlocal done, reported
            done += 1
            if time.monotonic() - reported >= PROGRESS_EVERY_SECONDS:
                reported = time.monotonic()
                self._report(phase, min(done, total), total)
            return step()

        engine.step = counted_step
        try:
            yield
        finally:
            del engine.step

    def provenance(self) -> Provenance:
        import torch
        import transformers
        import vllm

        start = self._start
        config = self.llm.llm_engine.vllm_config
        model, cache = config.model_config, config.cache_config
        layers = self._attention_layers()
        dtypes = sorted({_resolved_dtype(dtype, model.dtype) for dtype, *_ in layers})
        # On a processor vLLM loads dtypes that it cannot store (nvfp4), and then writes something else.
        check_runnable([dtype for dtype in dtypes if is_quantized(dtype)])
        resolved = "+".join(dtypes)
        quantized = is_quantized(resolved)
        template = getattr(self._tokenizer, "chat_template", None)
        checkpoint_scales, scales_differ = self._check_scales(layers)
        return Provenance(
            model=start.spec.model,
            model_path=start.model_path,
            model_id=self._model_id,
            kv_cache_dtype=resolved,
            kv_cache_quantized=quantized,
            kv_scales=kind_of_scales(layers) if quantized else "none",
            model_dtype=_torch_name(model.dtype),
            quantization=model.quantization,
            chat_template_sha256=text_hash(str(template)) if template else None,
            attention_backend="+".join(sorted({backend for *_, backend in layers})),
            block_size=cache.block_size,
            kv_capacity_tokens=_kv_capacity(cache),
            prefix_caching=bool(cache.enable_prefix_caching),
            max_model_len=model.max_model_len,
            device=_device_name(self._platform),
            device_ids=start.device_ids,
            threads=torch.get_num_threads(),
            platform=self._platform,
            cpu_flags=kernel_flags() if self._platform == "cpu" else (),
            versions=(
                ("pytest_kvcache", metadata.version("pytest-kvcache")),
                ("python", platform.python_version()),
                ("torch", str(torch.__version__)),
                ("transformers", str(transformers.__version__)),
                ("vllm", str(vllm.__version__)),
            ),
            environment=ENVIRONMENT,
            seconds_to_load=self.seconds_to_load,
            scoring=self._scorer.path,
            scoring_difference=self._scorer.difference,
            max_num_seqs=config.scheduler_config.max_num_seqs,
            max_num_batched_tokens=config.scheduler_config.max_num_batched_tokens,
            enforce_eager=bool(model.enforce_eager),
            chunked_prefill=bool(config.scheduler_config.enable_chunked_prefill),
            checkpoint_scales=checkpoint_scales,
            scales_differ=scales_differ,
            fp8_announced_in=self._announcing_file,
        )

    def scales_differ(self) -> str | None:
        """Say where the kv scales are not the checkpoint's by now: weights may have come again meanwhile."""
        if not (self._stored_scales or self._announces_scales):
            return None
        return self._check_scales(self._attention_layers())[1]

    def _check_scales(self, layers: Iterable[Layer]) -> tuple[int | None, str | None]:
        from vllm.platforms import current_platform

        scales = quantized_scales(layers, times=2.0 if current_platform.is_fp8_fnuz() else 1.0)
        return check_scales(scales, self._stored_scales, announced=self._announces_scales)

    def _attention_layers(self) -> list[Layer]:
        """Return every attention layer as vLLM built it."""
        layers: list[Layer] = self.llm.apply_model(read_layers)[0]
        if not layers:
            raise EngineError("no attention layer with a kv cache was found in the model: nothing to judge")
        return layers

    def shut_down(self) -> None:
        """Let vLLM end its own worker processes."""
        core = self.llm.llm_engine.engine_core
        shut_down = getattr(core, "shutdown", None)
        if shut_down:
            shut_down()


def one_line(error: Exception) -> str:
    """Return what a person needs of an exception: its type and its first telling line."""
    lines = [line.strip() for line in _explanation(error).splitlines() if line.strip()]
    text = next((line for line in lines if "Error" in line or "error" in line), lines[0] if lines else "")
    if isinstance(error, KvCacheError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _explanation(error: Exception) -> str:
    """Return an exception's text; of pydantic's, which opens with a count, the first thing it found."""
    findings = getattr(error, "errors", None)
    if type(error).__name__ != "ValidationError" or findings is None:
        return str(error)
    finding = findings(include_url=False)[0]
    place = ".".join(map(str, [getattr(error, "title", "?"), *finding["loc"]]))
    return f"{place}: {finding['msg'].removeprefix('Value error, ')}"


def _config_of(arguments: dict[str, Any]) -> Any:
    """Return the ``VllmConfig`` of these arguments of ``LLM``, but for nested ones.

    Those ``LLM`` reads in ways of its own; they do not decide which runner it takes. What takes long here
    vLLM keeps: making the config of the engine itself is then a matter of milliseconds.
    """
    from vllm import EngineArgs

    known = EngineArgs.__dataclass_fields__
    plain = {k: v for k, v in arguments.items() if k in known and not k.endswith("_config")}
    return EngineArgs(**plain).create_engine_config()


def _cpu_defaults() -> dict[str, Any]:
    """Run eagerly, because compiling needs a C++ compiler and minutes, with a cache of modest size."""
    from vllm import EngineArgs

    defaults: dict[str, Any] = {"enforce_eager": True}
    # Knobs come and go between versions of vLLM: use this one only where it is.
    if (
        "VLLM_CPU_KVCACHE_SPACE" not in os.environ
        and "kv_cache_memory_bytes" in EngineArgs.__dataclass_fields__
    ):
        defaults["kv_cache_memory_bytes"] = CPU_CACHE_BYTES
    return defaults


def _resolved_dtype(kv_cache_dtype: str, model_dtype: Any) -> str:
    return _torch_name(model_dtype) if kv_cache_dtype == "auto" else canonical_dtype(kv_cache_dtype)


def _torch_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _kv_capacity(cache: Any) -> int:
    tokens = getattr(cache, "kv_cache_size_tokens", None)
    return int(tokens if tokens is not None else (cache.num_gpu_blocks or 0) * cache.block_size)


def _device_name(kind: str) -> str:
    if kind != "cpu":
        from vllm.platforms import current_platform

        return str(current_platform.get_device_name())
    return cpu_name()


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
