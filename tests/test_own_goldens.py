"""The repository's own goldens can be read, and are of the prompts that are shipped today."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kvcache.cli import main
from pytest_kvcache.golden import GoldenDirectory
from pytest_kvcache.plan import is_scored
from pytest_kvcache.prompts import load_prompt_set, shipped_prompt_sets

ROOT = Path(__file__).parent.parent / "golden"
SETS = [name for name in shipped_prompt_sets() if name.startswith("smoke")]


@pytest.mark.parametrize("model", ["ref:gqa", "ref:gqa-kbias"])
@pytest.mark.parametrize("prompt_set", SETS)
def test_there_is_a_golden_of_every_model_of_the_gate_and_every_set_of_its_tier(
    model: str, prompt_set: str
) -> None:
    asked = load_prompt_set(prompt_set)
    golden = GoldenDirectory(ROOT).find(model, "auto", asked, ("cpu",))
    assert golden.outputs.spec.model == model
    assert (golden.scores is not None) == is_scored(asked)


def test_all_of_them_are_whole_and_fit_to_be_held_against(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", "verify", f"--kv-golden-dir={ROOT}", str(ROOT)]) == 0
    assert capsys.readouterr().out == f"{2 * len(SETS)} files verified, 0 findings\n"
