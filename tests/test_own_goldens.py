"""The repository's own goldens can be read, and are of the prompts and models that are shipped today."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kvcache.cli import main
from pytest_kvcache.golden import GoldenDirectory, read
from pytest_kvcache.golden.sizes import READABLE_BYTES, largest_text
from pytest_kvcache.plan import is_scored
from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets
from pytest_kvcache.refmodels.recipes import directory_name

ROOT = Path(__file__).parent.parent / "golden"
SETS = [name for name in shipped_prompt_sets() if name.startswith("smoke")]

MODELS = {
    "ref:gqa": (
        "gqa-284c4d7dc6e79bd1",
        "sha256:bbcbc4b6dc4ddeca41ad1b2b93231dab03d2cdecd0d1c379a37783e2eed70446",
    ),
    "ref:gqa-kbias": (
        "gqa-kbias-fcc22a8636e27622",
        "sha256:636adaf9a47b17d469f3a6469cf02605e8be0b53ba4a0eb049a82ded44dcf608",
    ),
}
"""The directory that a recipe is built in, which has the recipe's key, and the id of what was built there."""


@pytest.mark.parametrize("model", MODELS)
def test_the_recipes_are_those_of_the_models_that_wrote_them(model: str) -> None:
    directory, _ = MODELS[model]
    assert directory_name(model) == directory, "refresh golden/ and write the new name and model_id above"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("prompt_set", SETS)
def test_there_is_a_golden_of_every_model_of_the_gate_and_every_set_of_its_tier(
    model: str, prompt_set: str
) -> None:
    asked = load_prompt_set(prompt_set)
    golden = GoldenDirectory(ROOT).find(model, "auto", asked, ("cpu",))
    assert golden.outputs.provenance.model_id == MODELS[model][1]
    assert (golden.scores is not None) == is_scored(asked)


def test_a_reviewer_can_read_each_of_them() -> None:
    sizes = {path.name: path.stat().st_size for path in ROOT.rglob("*.json")}
    assert {name for name, size in sizes.items() if size > READABLE_BYTES} == set()
    assert len(sizes) == len(SETS)


def test_none_is_larger_than_was_to_be_expected_before_an_engine_ran() -> None:
    for path in ROOT.rglob("*.json"):
        assert path.stat().st_size <= largest_text(read(path).prompt_set)


def test_all_of_them_are_whole_and_fit_to_be_held_against(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", "verify", f"--kv-golden-dir={ROOT}", str(ROOT)]) == 0
    assert capsys.readouterr().out == f"{2 * len(SETS)} files verified, 0 findings\n"
