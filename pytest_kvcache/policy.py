"""The policy: a team's limits, variants and known-bad declarations, read from one TOML file.

Limits are margins of safety: a harm up to the margin still counts as safe. ``[limits]`` holds for
every model and ``[limits."MODEL"]`` overrides it, name by name, for one. See ``docs/policy.md``.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from pytest_kvcache.dtypes import ALIASES, KNOWN_DTYPES, canonical_dtype
from pytest_kvcache.errors import UsageError
from pytest_kvcache.records import CHAT_TEMPLATE_KWARGS, QUALITY_CODES, Json, ReasonCode

Margin = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
QualityCode = Annotated[ReasonCode, Meta(extra_json_schema={"enum": sorted(QUALITY_CODES)})]

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_A_VARIANTS = ("kv_cache_dtype", "model", "revision")
"""Engine arguments that a variant does not set: it has a field for the first, a run for the others."""
_NOT_A_TEMPLATES = frozenset(
    {
        "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents",
        "max_length", "messages", "padding", "return_assistant_tokens_mask", "return_dict",
        "return_tensors", "tokenize", "tokenizer_kwargs", "tools", "truncation",
    }
)  # fmt: skip
"""Arguments of ``apply_chat_template`` that decide what comes of it and not what the template says."""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Margins and minimum evidence for one model. A margin has the name of the metric it limits."""

    delta_nll: Margin = 0.10
    """Nats per token by which the candidate may find the baseline's own text less probable.

    0.10 nat is 10 % more perplexity. Healthy fp8 costs a 135M model 0.05, and larger models less; a
    cache that ruins the text costs 0.3 and more."""
    kld: Margin = 0.05
    """Mean KLD, in nats per token, of the candidate's distributions from the baseline's: a lower bound.

    By Pinsker's inequality 0.05 nat changes at most 16 % of what is sampled at a position, about what
    ``same_top_loss`` grants to greedy outputs. Healthy fp8 costs a 135M model 0.014 to 0.025, the mildest
    of the fragile reference models 0.10."""
    same_top_loss: Margin = 0.15
    """Share of positions at which candidate and baseline may differ in their most probable token.

    Near ties flip under any rounding: 0.02 when a baseline is only batched otherwise, 0.08 for
    healthy fp8 on a 135M model, 0.2 and more where the text is ruined. It sees collapses that the
    mean log-probability hides."""
    conditions_delta_nll: Margin = 0.10
    """`delta_nll` of the candidate from *itself*: under another serving condition beside a plain batch, on
    average and in each text.

    Another order of the same sums costs a healthy 135M model 0.02 in its worst text, another prompt's block
    1.5. What the kv dtype costs is on both sides, so margins beside the baseline say nothing of these."""
    conditions_kld: Margin = 0.05
    """`kld` likewise, on average and in each text: 0.009 in a healthy 135M model's worst text, 0.17 and
    more where other blocks were read."""
    conditions_same_top_loss: Margin = 0.15
    """`same_top_loss` likewise, on average: near ties flip as in a baseline that is batched otherwise."""
    degenerate_excess: Margin = 0.10
    """Share of unpenalised outputs by which the candidate may degenerate more often than the baseline.

    One user in ten meeting a loop is a failure that nobody would ship; below it, small models loop
    and recover by chance, and the interval of a few dozen prompts cannot tell."""
    degenerate_excess_penalised: Margin = 0.10
    """The same for outputs sampled under penalties, where a healthy model hardly ever loops."""
    suspicious_excess: Margin = 0.15
    """Share of outputs by which the candidate may look wrong in any way more often than the baseline:
    by proof or by a warning, beside the prompt and the other one's output.

    A warning is no proof, and rounding alone makes an answer end early or run on now and then, so this is
    more lenient than for loops."""
    empty_excess: Margin = 0.05
    """Share of prompts by which the candidate may leave more of them unanswered than the baseline.

    An empty answer is never a matter of taste, so this is stricter than for loops; not zero, because
    a completion may end at once where two continuations are about equally probable."""
    runaway_excess: Margin = 0.10
    """Share of outputs by which the candidate may run away in length (twice the baseline's, cut off)
    more often than the baseline beside the candidate. Lengths vary much: as lenient as for loops."""
    early_end_excess: Margin = 0.10
    """Share of outputs by which the candidate may break off (at an eighth of the baseline's length, or before
    it was told to) more often than the baseline beside the candidate. As for run-away outputs."""
    nonsense_excess: Margin = 0.10
    """Share of outputs by which the candidate may write soup, mixed scripts or broken characters more often
    than the baseline. As for loops: no user forgives one in ten."""
    language_drift_excess: Margin = 0.05
    """Share of outputs by which the candidate may answer in a language that is neither the prompt's nor the
    baseline's, or change it in between, more often than the baseline beside the candidate.

    Which language is right is no matter of taste: as strict as for empty answers."""
    topic_drift_excess: Margin = 0.10
    """Share of outputs by which the candidate's may leave the topic of their prompts more often than the
    baseline's.

    A free answer may do without the prompt's words: a healthy 135M model does so in an eighth of its outputs,
    and as often under e4m3. Of answers that go on about something else after 16 tokens .59 more are found."""
    penalised_repetition_excess: Margin = 0.10
    """4-gram repetition (0 to 1) that may remain under penalties beyond what the baseline's keeps.

    A healthy model under a penalty repeats nearly nothing; a tenth of all 4-grams repeated is what
    a reader starts to notice."""
    penalties_ignored_excess: Margin = 0.10
    """Share of prompts by which the candidate may begin its penalised text as its plain one more often than
    the baseline does.

    Penalties change all texts of all reference models within 32 tokens, so the margin only keeps a handful of
    prompts from deciding."""
    recall_loss: Margin = 0.10
    """Share of tasks by which the candidate may give fewer right answers than the baseline.

    One answer in ten lost is what users of long documents and tools report as broken. Answers that hang
    by a near tie change either way under any rounding; pairing sets those against each other."""
    baseline_degenerate: Share = 0.50
    """Share of unpenalised outputs that may be degenerate in the baseline itself; the share counts, not
    its interval.

    Small models loop by themselves under greedy sampling (a healthy 135M model in a fifth of its
    outputs), and pairing allows for that; where half of all outputs loop there is nothing left to
    compare with."""
    baseline_degenerate_penalised: Share = 0.25
    """The same under penalties, where the same healthy model loops in none of 60 outputs. Of 16 prompts
    one or two may loop by chance and void no run; more than 4 say that penalties do not work there."""
    baseline_recall: Share = 0.25
    """Share of tasks that the baseline itself must get right, at least; as above, the share counts. What it
    never knew a candidate cannot lose.

    Healthy reference models give 18 to 24 right answers of 24 and the weakest with 4-bit weights 12, which
    still shows a loss; caches that ruin the text leave 0 to 2. A quarter lies between, beside both."""
    capacity_gain: Annotated[float, Meta(ge=1)] = 1.5
    """Times as many tokens that a quantized cache must hold as the baseline's in the same memory, at least.

    Half the bytes are twice the tokens. Half of that gain may go into layers kept in high precision, scales
    and rounding to blocks; where less is gained the cache is not as small as was asked for."""
    min_prompts: Count = 16
    """Prompts that a ``pass`` rests on, at least. Below 16 an interval of a mean is a guess."""
    min_tokens_per_prompt: Count = 64
    """Mean length of the baseline's outputs in tokens, at least: collapses begin after several
    words to several hundred tokens, so a few tokens prove nothing."""
    min_kinds: Count = 4
    """Kinds of prompts, at least: code or lists alone say little about chat."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite")


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named candidate that is more than a dtype."""

    kv_cache_dtype: Text
    engine_args: dict[str, Any] = {}
    """Further ``vllm.LLM`` arguments: anything that JSON can say."""

    def __post_init__(self) -> None:
        for name in _NOT_A_VARIANTS:
            if name in self.engine_args:
                raise ValueError(f"engine_args may not hold {name}")
        if CHAT_TEMPLATE_KWARGS in self.engine_args:
            raise ValueError(
                f"engine_args may not hold {CHAT_TEMPLATE_KWARGS}, or the baseline would be asked something "
                f'else: give them to the model, as [{CHAT_TEMPLATE_KWARGS}."MODEL"]'
            )
        try:
            json.dumps(self.engine_args, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"engine_args must be JSON values: {error}") from None


class KnownBad(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A failure that the team knows about: this model, under this dtype or variant, for these reasons."""

    model: Text
    dtype: Text
    """A kv dtype or the name of a variant."""
    codes: Annotated[tuple[QualityCode, ...], Meta(min_length=1)]
    """The reason codes of the failure: one or several of them and no others. Quality codes only."""
    why: Text
    tests: Annotated[tuple[Text, ...], Meta(min_length=1)] | None = None
    """The functions of the tests that it is about, e.g. ``test_multi_turn``: each of them must fail so. None
    for all tests of the model: each verdict must fail so, and other tests may."""
    expires: date | None = None
    """The last day on which the declaration holds."""
    link: Text | None = None

    def __post_init__(self) -> None:
        for field, name in (("model", self.model), ("dtype", self.dtype), *self._named_tests()):
            if "*" in name:
                raise ValueError(f"{field} must be one name: wildcards are not understood")
        for code in self.codes:
            if code not in QUALITY_CODES:
                raise ValueError(f"{code} is no quality code (those are: {', '.join(sorted(QUALITY_CODES))})")
        if self.expires is None and self.link is None:
            raise ValueError("give `expires` (a date) or `link`, so that somebody comes back to it")

    def expired(self, today: date) -> bool:
        return self.expires is not None and today > self.expires

    @property
    def outlived(self) -> str:
        """What there is to say of a test that passes although this declares its failure."""
        remedy = "remove the declaration"
        remedy += " for this test" if self.tests else ", or name with `tests` in it those that still fail"
        return f"declared known-bad ({', '.join(self.codes)}) but it passes: {remedy}"

    def _named_tests(self) -> list[tuple[str, str]]:
        return [("each of tests", name) for name in self.tests or ()]


class Policy(Struct, frozen=True, kw_only=True):
    """Everything a team declared. Without a file: the default limits and nothing else."""

    limits: Limits = Limits()
    limits_by_model: dict[str, Limits] = {}
    variants: dict[str, Variant] = {}
    known_bad: tuple[KnownBad, ...] = ()
    chat_template_kwargs: dict[str, dict[str, Any]] = {}

    def limits_for(self, model: str) -> Limits:
        """Return the limits that hold for ``model``, named as in ``--kv-models``."""
        return self.limits_by_model.get(model, self.limits)

    def template_arguments(self, model: str) -> tuple[tuple[str, str], ...]:
        """Return what ``model``'s chat template is told, as an engine argument; none if it is not named."""
        told = self.chat_template_kwargs.get(model)
        return ((CHAT_TEMPLATE_KWARGS, json.dumps(told, sort_keys=True)),) if told else ()

    def all_known_bad_for(self, model: str, label: str) -> tuple[KnownBad, ...]:
        """Return all declarations for a model under a variant (by its name) or kv dtype (any spelling)."""
        wanted = (model, canonical_dtype(label))
        return tuple(
            entry for entry in self.known_bad if (entry.model, canonical_dtype(entry.dtype)) == wanted
        )

    def known_bad_for(self, model: str, label: str, test: str | None = None) -> KnownBad | None:
        """Return the one of them that names the test, else the one that names none."""
        entries = self.all_known_bad_for(model, label)
        naming = [entry for entry in entries if test in (entry.tests or ())]
        return next(iter([*naming, *(entry for entry in entries if entry.tests is None)]), None)


class _File(Struct, forbid_unknown_fields=True):
    """The policy file as TOML gives it; ``limits`` mixes limits with tables of limits by model."""

    limits: dict[str, Any] = {}
    variants: dict[str, Variant] = {}
    known_bad: list[KnownBad] = []
    chat_template_kwargs: Annotated[
        dict[str, dict[str, Any]],
        Meta(description="What a model's chat template is told, by the model's name."),
    ] = {}


def load_policy(path: Path) -> Policy:
    """Read and check a policy file. Raises :class:`UsageError`, one line with file and place."""
    try:
        return _policy(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the policy {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"cannot read the policy {path}: it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the policy {path} is not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"the policy {path} is nested too deeply: keep its values flat") from None
    except msgspec.ValidationError as error:
        raise UsageError(f"the policy {path} is wrong: {error}") from None


def policy_schema() -> dict[str, Json]:
    """Return the JSON Schema of a policy file, as shipped in ``schemas/policy.schema.json``."""
    _, definitions = msgspec.json.schema_components([_File], ref_template="#/$defs/{name}")
    _, limits = msgspec.json.schema_components([Limits], ref_template="#/$defs/{name}")
    by_name = limits["Limits"]
    by_model = {"description": "Limits for one model, by its name.", "$ref": "#/$defs/Limits"}
    file = definitions.pop("_File")
    file["properties"]["limits"] = {
        **by_name,
        "title": "Limits for all models",
        "additionalProperties": by_model,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **file,
        "title": "Policy of pytest-kvcache",
        "description": "Limits, variants and known-bad declarations.",
        "$defs": {**definitions, **limits},
    }


def _policy(table: Mapping[str, Any]) -> Policy:
    file = _convert(table, _File, "$")
    common = {name: value for name, value in file.limits.items() if not isinstance(value, dict)}
    by_model = {name: value for name, value in file.limits.items() if isinstance(value, dict)}
    _check_variants(file.variants)
    _check_distinct(file.known_bad)
    _check_template_arguments(file.chat_template_kwargs)
    return Policy(
        limits=_convert(common, Limits, "$.limits"),
        limits_by_model={
            model: _convert({**common, **own}, Limits, f'$.limits."{model}"')
            for model, own in by_model.items()
        },
        variants=file.variants,
        known_bad=tuple(file.known_bad),
        chat_template_kwargs=file.chat_template_kwargs,
    )


def _convert(table: object, kind: type[_T], place: str) -> _T:
    try:
        return msgspec.convert(table, kind, builtin_types=(date,), str_keys=True)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise msgspec.ValidationError(f"{message} (at {place}{path.rstrip('`')})") from None


def _check_variants(variants: Mapping[str, Variant]) -> None:
    for name in variants:
        if name in KNOWN_DTYPES or name in ALIASES:
            raise msgspec.ValidationError(
                f"a variant may not have the name of a kv dtype (at $.variants.{name})"
            )
        if not _NAME.fullmatch(name):
            raise msgspec.ValidationError(
                f"a variant's name is letters, digits, `.`, `_` and `-` (at $.variants.{json.dumps(name)})"
            )


def _check_template_arguments(by_model: Mapping[str, Mapping[str, Any]]) -> None:
    for model, told in by_model.items():
        place = f"(at $.{CHAT_TEMPLATE_KWARGS}.{json.dumps(model)})"
        if "*" in model:
            raise msgspec.ValidationError(f"a model must be one name: wildcards are not understood {place}")
        if wrong := sorted(_NOT_A_TEMPLATES & told.keys()):
            raise msgspec.ValidationError(f"a chat template is not told {', '.join(wrong)} {place}")
        try:
            json.dumps(told, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise msgspec.ValidationError(f"its values must be JSON values: {error} {place}") from None


def _check_distinct(entries: Sequence[KnownBad]) -> None:
    seen: dict[tuple[str, str, str | None], int] = {}
    for index, entry in enumerate(entries):
        for test in entry.tests or (None,):
            first = seen.setdefault((entry.model, canonical_dtype(entry.dtype), test), index)
            if first != index:
                what = f"{test} of {entry.model}" if test else entry.model
                raise msgspec.ValidationError(
                    f"{what} under {entry.dtype} is declared already by $.known_bad[{first}] "
                    f"(at $.known_bad[{index}])"
                )
