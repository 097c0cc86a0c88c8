"""Scoring in the engine process: the log-probabilities of given texts, in one of two ways.

*Prefill* reads prompt and text in one pass. It is cheaper, but an attention backend may take the keys and
values that this pass has just computed, before they were rounded into the cache. *Decoding* goes along
the text as if the engine wrote it, token by token, and every step reads the cache. Once per engine both
score the same short texts: where they agree, prefill has read the cache too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pytest_kvcache.errors import EngineError
from pytest_kvcache.records import Score, ScoreRequest, ScoringPath

AGREEMENT = 0.02
"""Nats per token, as the mean of absolute differences, within which both ways give the same figures."""
PROBE_CONTEXT = 8
"""Tokens of a probe text that are its prompt."""
PROBE_TOKENS = 64
"""Tokens of a probe text that are scored."""
PROBE_TEXTS = (
    """\
The lighthouse stood at the end of a narrow spit of land, and for forty years the same man had climbed its
stairs each evening to light the lamp. On the night of the great storm he found the door open, the lamp lit
already, and a letter on the table. It was addressed to him in a hand that he knew well, although he had not
seen it since he was a boy.
""",
    """\
def moving_average(values, width):
    if width < 1:
        raise ValueError("width must be positive")
    sums = [sum(values[i : i + width]) for i in range(len(values) - width + 1)]
    return [total / width for total in sums]

print(moving_average([3, 5, 8, 13, 21], 2))
""",
    """\
Question: Why is the sky blue at noon and red in the evening?
Answer: Air scatters short waves of light more than long ones. At noon the light crosses little air, and the
scattered blue comes from all sides. In the evening it crosses much more air, and most of the blue is lost on
the way, so that what is left is yellow, orange and red.
""",
    """\
Shopping list for Saturday:
1. two loaves of bread
2. a dozen eggs
3. 500 g of flour
4. butter
5. three lemons
6. one bottle of olive oil
7. fresh basil
8. 250 g of tomatoes
9. salt and black pepper
10. a jar of honey
11. green tea
""",
)
FOLLOWER = "pytest_kvcache.engines.vllm_follower:Follower"
"""The logits processor that lets nothing but the given tokens be written."""
FOLLOWED = "pytest_kvcache_text"
"""The name under which a request carries the tokens that the follower is to write."""

Run = Callable[[list[list[int]], Any, int], list[Any]]
"""Lets vLLM work on token ids under sampling parameters (one, or one each), in about so many steps."""


def following_arguments(config: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what vLLM must further be started with, so that its decoding can follow given texts.

    ``config`` is what vLLM makes of ``arguments``. Its newer runner follows natively, its older one by a
    logits processor, and neither while it speculates: then there is nothing to return.
    """
    if any(name.startswith(("speculative_", "spec_")) for name in arguments):
        return {}
    if not getattr(config, "use_v2_model_runner", False):
        return {"logits_processors": [*arguments.get("logits_processors", ()), FOLLOWER]}
    return {"enable_trace_replay": True} if hasattr(config.model_config, "enable_trace_replay") else {}


def probe_requests(encode: Callable[[str], Sequence[int]], longest: int) -> tuple[ScoreRequest, ...]:
    """Return the probe texts for a model whose tokenizer and longest sequence these are."""
    end = min(PROBE_CONTEXT + PROBE_TOKENS, longest)
    return tuple(
        ScoreRequest(f"probe-{i}", tuple(ids[:PROBE_CONTEXT]), tuple(ids[PROBE_CONTEXT:end]))
        for i, ids in enumerate(map(encode, PROBE_TEXTS))
    )


def mean_difference(one: Sequence[Score], other: Sequence[Score]) -> float:
    """Return the mean absolute difference, in nats per token, of two scorings of the same texts.

    Each text's first token is left out: both ways take it from the prompt's prefill.
    """
    pairs = [
        np.frombuffer(a.logprobs, "<f4")[1:].astype(float) - np.frombuffer(b.logprobs, "<f4")[1:]
        for a, b in zip(one, other, strict=True)
    ]
    return float(np.abs(np.concatenate(pairs)).mean())


class Scorer:
    """Scores texts with one ``vllm.LLM``, by the way that its probe chose."""

    def __init__(self, config: Any, run: Run) -> None:
        """``config`` is the engine's ``VllmConfig``."""
        self._run = run
        self._follow = _follower_of(config.model_config)
        self._tokens_per_step: int = config.scheduler_config.max_num_batched_tokens
        self.path: ScoringPath = "prefill"
        self.difference: float | None = None
        """What `mean_difference` says of both ways; None where the engine cannot follow a text."""

    def probe(self, texts: Sequence[ScoreRequest]) -> None:
        """Choose the way: prefill where it agrees with decoding, and where decoding cannot follow."""
        if self._follow is None:
            return
        self.difference = mean_difference(self.score(texts, 1, "prefill"), self.score(texts, 1, "decode"))
        self.path = "prefill" if self.difference <= AGREEMENT else "decode"

    def score(
        self, requests: Sequence[ScoreRequest], top_k: int, path: ScoringPath | None = None
    ) -> tuple[Score, ...]:
        """Score all texts in one batch, by the chosen way or by ``path``.

        Raises `EngineError` if ``path`` is decoding and the engine cannot follow a text, or strays from it.
        """
        if (path or self.path) == "prefill":
            return self._by_prefill(requests, top_k)
        return self._by_decoding(requests, top_k)

    def _by_prefill(self, requests: Sequence[ScoreRequest], top_k: int) -> tuple[Score, ...]:
        from vllm import SamplingParams

        inputs = [[*request.prompt_token_ids, *request.token_ids] for request in requests]
        steps = -(-sum(map(len, inputs)) // self._tokens_per_step)
        parameters = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=top_k, detokenize=False)
        results = self._run(inputs, parameters, steps)
        return tuple(
            _score(request, result.prompt_logprobs[len(request.prompt_token_ids) :], top_k)
            for request, result in zip(requests, results, strict=True)
        )

    def _by_decoding(self, requests: Sequence[ScoreRequest], top_k: int) -> tuple[Score, ...]:
        from vllm import SamplingParams

        if self._follow is None:
            raise EngineError("it cannot follow a given text: with speculative decoding vLLM does not")
        parameters = [
            SamplingParams(
                max_tokens=len(request.token_ids),
                temperature=0.0,
                logprobs=top_k,
                ignore_eos=True,
                detokenize=False,
                **self._follow(list(request.token_ids)),
            )
            for request in requests
        ]
        steps = max((len(request.token_ids) for request in requests), default=0)
        results = self._run([list(request.prompt_token_ids) for request in requests], parameters, steps)
        for request, result in zip(requests, results, strict=True):
            if tuple(result.outputs[0].token_ids) != request.token_ids:
                raise EngineError("it strayed from the text that it was to follow: its scores mean nothing")
        return tuple(
            _score(request, result.outputs[0].logprobs, top_k)
            for request, result in zip(requests, results, strict=True)
        )


def _follower_of(model_config: Any) -> Callable[[list[int]], dict[str, Any]] | None:
    """Return what makes sampling parameters that follow a text, or None if the engine cannot."""
    if getattr(model_config, "enable_trace_replay", False):
        return lambda ids: {"trace_decode_token_ids": ids}
    if FOLLOWER in (model_config.logits_processors or ()):
        return lambda ids: {"extra_args": {FOLLOWED: ids}}
    return None


def _score(request: ScoreRequest, positions: Sequence[Any], top_k: int) -> Score:
    given: list[float] = []
    ids: list[int] = []
    logprobs: list[float] = []
    for token, candidates in zip(request.token_ids, positions, strict=True):
        given.append(candidates[token].logprob)
        # The given token comes too when it is not among the top k: it has a rank beyond k.
        ranked = sorted(candidates.items(), key=lambda item: item[1].rank)[:top_k]
        ids += [token_id for token_id, _ in ranked]
        logprobs += [entry.logprob for _, entry in ranked]
    return Score(
        prompt_id=request.prompt_id,
        token_ids=request.token_ids,
        logprobs=struct.pack(f"<{len(given)}f", *given),
        top_ids=struct.pack(f"<{len(ids)}i", *ids),
        top_logprobs=struct.pack(f"<{len(logprobs)}f", *logprobs),
        k=top_k,
    )
