"""Faults of what is written, whatever the model thinks: logits processors, which vLLM loads by their names.

The log-probabilities that a request asks for are taken before them: scores stay healthy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

SPANISH = (
    " y por eso la gente del pueblo empezó a reunirse cada domingo en la plaza, donde los mayores"
    " contaban cómo era la vida antes de que llegara el tren. Nadie recordaba con certeza el año,"
    " pero todos sabían que aquel invierno fue el más frío y que el río se heló hasta el puente. Una"
    " mujer que vendía naranjas decía que su abuelo cruzó sobre el hielo con dos mulas cargadas de"
    " leña, y los niños la escuchaban con la boca abierta. Después volvían a casa por el camino de"
    " los almendros, hablando en voz baja, mientras las primeras luces se encendían detrás de las"
    " ventanas. Hoy quedan pocas de aquellas casas, aunque el mercado sigue abriendo temprano y el"
    " panadero saluda a cada cliente por su nombre. Si usted pasa por allí en primavera, pregunte por"
    " la biblioteca: guarda las cartas que escribieron los que se marcharon y nunca dejaron de"
    " volver."
)

VILLAGE = (
    " and so the people of the village began to meet in the square every Sunday, where the old ones told"
    " what life had been like before the railway came. Nobody could say for certain which year it was,"
    " but they all knew that it had been the coldest winter of the century, and that the river froze as"
    " far as the bridge. A woman who sold oranges said that her grandfather had crossed the ice with two"
    " mules and a load of firewood, and the children listened with their mouths open. Afterwards they"
    " walked home between the almond trees, talking quietly, while the first lamps were lit behind the"
    " windows. Few of those houses are still standing, although the market opens as early as ever and"
    " the baker greets his customers by name. If you pass through in spring, ask for the library above"
    " the chapel: it keeps the letters of those who sailed away, tied with blue ribbon and sorted by the"
    " harbour they were posted in. The oldest is from a shepherd who had learned to write on the ship. He"
    " asks his mother whether the dog has forgiven him, promises to send a photograph, and draws, where"
    " his signature should be, a small goat with a bell. She never answered, they say, but the goat is"
    " carved over her door."
)


class SamplingFault(AdapterLogitsProcessor):  # type: ignore[misc]
    """Calls `change` with what a request has written so far and its logits, float32[vocabulary]."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        super().__init__(vllm_config, device, is_pin_memory)
        self._model_config = vllm_config.model_config

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: Any) -> Callable[[list[int], Any], Any]:  # noqa: ARG002
        return self.change

    def change(self, written: list[int], logits: Any) -> Any:
        raise NotImplementedError

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self._model_config.tokenizer)

    @cached_property
    def ends(self) -> list[int]:
        """The tokens that end an answer."""
        eos = self._model_config.hf_config.eos_token_id
        return sorted({*(eos if isinstance(eos, list) else [eos]), self.tokenizer.eos_token_id})

    def tokens(self, wanted: Callable[[str], bool]) -> Any:
        """Return the tokens whose text is wanted: int64[tokens]."""
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        return torch.tensor([i for i, text in enumerate(texts) if wanted(text)])


def only(logits: Any, tokens: Any) -> Any:
    """Return logits under which nothing but ``tokens`` can be written, the likeliest of them first."""
    allowed = torch.full_like(logits, float("-inf"))
    allowed[tokens] = logits[tokens].clamp(min=torch.finfo(logits.dtype).min)
    return allowed


class Untouched(SamplingFault):
    """No fault: the control of the injection itself."""

    def change(self, written: list[int], logits: Any) -> Any:  # noqa: ARG002
        return logits


class StuckToken(SamplingFault):
    """ "!" for ever after a few words: vllm-project/vllm#38652 and #45540."""

    @cached_property
    def stuck(self) -> list[int]:
        return list(self.tokenizer.encode("!", add_special_tokens=False))

    def change(self, written: list[int], logits: Any) -> Any:
        return only(logits, self.stuck) if len(written) >= 24 else logits


class StuckNewline(StuckToken):
    """Newlines for ever: NVIDIA/TensorRT-LLM#644."""

    @cached_property
    def stuck(self) -> list[int]:
        return list(self.tokenizer.encode("\n", add_special_tokens=False))


class StuckSpecial(StuckToken):
    """Special tokens only, which no text shows: vllm-project/vllm#42580."""

    @cached_property
    def stuck(self) -> list[int]:
        return [i for i in self.tokenizer.all_special_ids if i not in self.ends][:1]


class Loop(SamplingFault):
    """After 48 tokens the last 12 again and again: QwenLM/Qwen3#840."""

    def change(self, written: list[int], logits: Any) -> Any:
        return only(logits, [written[-12]]) if len(written) >= 48 else logits


class CutShort(SamplingFault):
    """The end after 16 tokens: answers that stop in the middle of a sentence."""

    def change(self, written: list[int], logits: Any) -> Any:
        return only(logits, self.ends) if len(written) >= 16 else logits


class Empty(SamplingFault):
    """The end at once: vllm-project/vllm#57163, 0 of 1319 answers."""

    def change(self, written: list[int], logits: Any) -> Any:
        return logits if written else only(logits, self.ends)


class Endless(SamplingFault):
    """Never an end: vllm-project/vllm#13133, answers of 140 tokens became over 1000."""

    def change(self, written: list[int], logits: Any) -> Any:  # noqa: ARG002
        logits[self.ends] = float("-inf")
        return logits


class Drift(SamplingFault):
    """After 40 tokens it goes on in Spanish, and sensibly: vllm-project/vllm#37554."""

    text, after = SPANISH, 40

    @cached_property
    def passage(self) -> list[int]:
        return list(self.tokenizer.encode(self.text, add_special_tokens=False))

    def change(self, written: list[int], logits: Any) -> Any:
        drifted = len(written) - self.after
        return only(logits, [self.passage[drifted % len(self.passage)]]) if drifted >= 0 else logits


class OffTopic(Drift):
    """After 16 tokens it goes on about something else, and sensibly: vllm-project/vllm#37554."""

    text, after = VILLAGE, 16


class Soup(SamplingFault):
    """After 16 tokens any token of the vocabulary: the mixed scripts of QwenLM/Qwen3#840, never a loop."""

    def change(self, written: list[int], logits: Any) -> Any:
        if len(written) < 16:
            return logits
        seed = torch.Generator().manual_seed(sum(written) + len(written))
        return only(logits, [int(torch.randint(len(self.tokenizer), (1,), generator=seed))])


class WordSalad(Soup):
    """After 16 tokens any English word: nonsense that no text statistic tells from English."""

    @cached_property
    def words(self) -> Any:
        return self.tokens(lambda text: text[:1] == " " and text[1:].isascii() and text[1:].isalpha())

    def change(self, written: list[int], logits: Any) -> Any:
        if len(written) < 16:
            return logits
        seed = torch.Generator().manual_seed(sum(written) + len(written))
        return only(logits, self.words[torch.randint(len(self.words), (1,), generator=seed)])


class NoQuotes(SamplingFault):
    """No quotation mark and no closing brace: mistralai/mistral-vibe#157, 13 of 14 tool calls became 5."""

    @cached_property
    def banned(self) -> Any:
        return self.tokens(lambda text: '"' in text or "}" in text)

    def change(self, written: list[int], logits: Any) -> Any:  # noqa: ARG002
        logits[self.banned] = float("-inf")
        return logits


class EmptyArguments(SamplingFault):
    """Where an inner object would open comes `{}`: mistralai/mistral-vibe#157, calls without arguments."""

    @cached_property
    def empty(self) -> list[int]:
        return list(self.tokenizer.encode(" {}", add_special_tokens=False))

    def change(self, written: list[int], logits: Any) -> Any:
        opens = self.tokenizer.decode([int(logits.argmax())]).lstrip().startswith("{")
        return only(logits, self.empty) if opens and "{" in self.tokenizer.decode(written) else logits
