"""What a policy tells a model's chat template, from its file to the engines and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import GATE, results

from pytest_kvcache.cli import _wanted
from pytest_kvcache.conditions import condition
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import EngineSpec

TOLD = ["chat_template_kwargs", '{"enable_thinking": false}']
PAIR_TEST = """
import pytest

@pytest.mark.kv_sensitive(prompts="smoke")
def test_pair(kv_outputs, kv_baseline):
    assert kv_outputs.sets[0].spec.engine_args == kv_baseline.sets[0].spec.engine_args
"""


def policy(folder: Path, model: str) -> str:
    """Write a policy that tells a model's template about thinking; return the option that names it."""
    file = folder / "policy.toml"
    file.write_text(f'[chat_template_kwargs."{model}"]\nenable_thinking = false\n')
    return f"--kv-policy={file}"


@pytest.mark.parametrize(("model", "told"), [("scripted/model", [TOLD]), ("scripted/other", [])])
def test_baseline_and_candidate_of_the_named_model_are_told_the_same(
    project: pytest.Pytester, model: str, told: list[list[str]]
) -> None:
    project.makepyfile(PAIR_TEST)
    project.runpytest(*GATE, policy(project.path, model)).assert_outcomes(passed=2)
    assert [engine["spec"]["engine_args"] for engine in results(project)["engines"]] == [told, told]


def test_a_model_that_the_run_does_not_know_is_named(project: pytest.Pytester) -> None:
    project.makepyfile(PAIR_TEST)
    result = project.runpytest(*GATE, policy(project.path, "scripted/other"))
    result.stdout.fnmatch_lines(
        ["*the policy has chat_template_kwargs for scripted/other, which is no model*"]
    )


def test_what_the_template_is_told_is_no_argument_of_vllm() -> None:
    name, told = TOLD
    spec = EngineSpec("m", "auto", engine_args=((name, told), ("max_model_len", "512")))
    assert spec.llm_arguments() == {"max_model_len": 512}
    assert spec.template_arguments() == {"enable_thinking": False}


def test_engines_that_are_told_otherwise_are_different_engines() -> None:
    plain = EngineSpec("m", "auto")
    policies = [Policy(chat_template_kwargs={"m": {"enable_thinking": value}}) for value in (True, False)]
    told = [EngineSpec("m", "auto", engine_args=each.template_arguments("m")) for each in policies]
    assert len({spec.key for spec in (plain, *told)}) == 3


def test_a_condition_cannot_tell_the_template_something_else() -> None:
    with pytest.raises(ValueError, match="may not set chat_template_kwargs"):
        condition("silent", {"chat_template_kwargs": {"enable_thinking": False}})


def test_a_new_golden_is_of_an_engine_that_is_told_what_the_policy_says() -> None:
    told = Policy(chat_template_kwargs={"ref:gqa": {"enable_thinking": False}})
    (want,) = _wanted.new(["ref:gqa"], ["auto"], ["smoke"], told)
    assert want.target.spec.engine_args == (tuple(TOLD),)
    assert _wanted.new(["ref:gqa"], ["auto"], ["smoke"], Policy())[0].target.spec.engine_args == ()
