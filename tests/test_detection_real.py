"""The real outputs of the detection benchmark: the committed data, its labels, and their readers."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from detection.criterion import (
    BOUND,
    BOUND_PENALISED,
    HEALTHY_MODELS,
    QUANTILE,
    circles,
    label_of,
    repeats,
    window_surprises,
    worst_surprise,
)
from detection.reading import CLASSES, Reading, disagreements, kappa, kappa_broken, read_labels
from detection.real import RealDocument, RealOutput, documents, read_outputs, write_outputs
from detection.sheet import draw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def outputs() -> list[RealOutput]:
    return read_outputs()


@pytest.fixture(scope="module")
def documented() -> list[RealDocument]:
    return list(documents())


def test_there_are_more_outputs_than_asked_for_and_none_is_there_twice(outputs: list[RealOutput]) -> None:
    assert len(outputs) >= 700
    assert len({output.id for output in outputs}) == len(outputs)
    assert len({output.reading_id for output in outputs}) == len(outputs)
    assert len({(output.prompt_token_ids, output.token_ids) for output in outputs}) == len(outputs)


def test_models_and_dtypes_are_balanced(outputs: list[RealOutput]) -> None:
    counts = Counter((output.model, output.kv_dtype) for output in outputs)
    assert counts.pop(("gqa", "auto")) == 48, "the baseline of every prompt is there"
    assert {dtype for _, dtype in counts} == {"auto", "fp8_e4m3", "fp8_e5m2"}
    assert len(counts) == 14 * 3 - 1
    assert all(15 <= count <= 24 for count in counts.values())


def test_every_token_has_its_log_probability(outputs: list[RealOutput]) -> None:
    for output in outputs:
        n = len(output.token_ids)
        assert len(output.logprobs) == len(output.top_ids) == len(output.top_logprobs) == n > 0
        assert len(output.entropies) == n
        assert all(given <= top <= 0 for given, top in zip(output.logprobs, output.top_logprobs, strict=True))


def test_a_score_holds_the_log_probabilities_that_were_kept(outputs: list[RealOutput]) -> None:
    output = outputs[0]
    score = output.score()
    assert score.token_ids == output.token_ids == output.output().token_ids
    assert score.k == 2
    np.testing.assert_allclose(np.frombuffer(score.logprobs, "<f4"), output.logprobs, rtol=1e-6)
    ids = np.frombuffer(score.top_ids, "<i4").reshape(-1, 2)
    assert ids[:, 0].tolist() == list(output.top_ids)
    top = np.frombuffer(score.top_logprobs, "<f4").reshape(-1, 2)
    np.testing.assert_allclose(top[:, 0], output.top_logprobs, rtol=1e-6)
    assert (top[:, 1] <= top[:, 0]).all()


def test_a_score_has_the_entropy_that_was_kept(outputs: list[RealOutput]) -> None:
    for output in outputs[::50]:
        first, second = np.frombuffer(output.score().top_logprobs, "<f4").reshape(-1, 2).T
        entropy = -np.exp(first) * first - (1 - np.exp(first)) * second
        np.testing.assert_allclose(entropy, output.entropies, atol=0.02)


def test_a_models_outputs_are_in_one_half_and_the_halves_are_of_like_size(
    outputs: list[RealOutput],
) -> None:
    tuning = {output.model for output in outputs if output.half == "tuning"}
    test = {output.model for output in outputs if output.half == "test"}
    assert not tuning & test
    assert {"gqa-kbias", "gqa-kbias-gptq"} <= tuning
    assert {"mha-rotated", "mha-rotated-kbias", "gqa-kbias-awq"} <= test
    counts = Counter(output.half for output in outputs)
    assert min(counts.values()) > 0.45 * len(outputs)


def test_outputs_survive_being_written_and_equal_ones_give_equal_files(
    outputs: list[RealOutput], tmp_path: Path
) -> None:
    write_outputs(outputs[:20], tmp_path / "one.gz")
    write_outputs(reversed(outputs[:20]), tmp_path / "two.gz")
    assert read_outputs(tmp_path / "one.gz") == outputs[:20]
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_every_output_has_a_label_and_every_label_has_outputs_in_both_halves(
    documented: list[RealDocument],
) -> None:
    counts = Counter((document.half, document.label) for document in documented)
    for half in ("tuning", "test"):
        for label in ("healthy", "nonsense", "loop", "doubtful"):
            assert counts[half, label] >= 40


def test_documents_carry_the_baselines_output_for_their_prompt(documented: list[RealDocument]) -> None:
    own = next(d for d in documented if d.id == "gqa/auto/smoke/chat-01")
    assert own.baseline == own.output
    other = next(
        d for d in documented if d.model == "gqa-kbias" and d.baseline.prompt_id == "gqa/auto/smoke/chat-01"
    )
    assert other.prompt == own.prompt
    assert other.output != own.output
    assert [d.id for d in documents("test")] == [d.id for d in documented if d.half == "test"]


def test_healthy_models_under_auto_write_no_nonsense(documented: list[RealDocument]) -> None:
    labels = {d.label for d in documented if d.model in HEALTHY_MODELS and d.kv_dtype == "auto"}
    assert "nonsense" not in labels


def test_fragile_models_break_under_fp8_and_not_under_auto(documented: list[RealDocument]) -> None:
    def nonsense(dtype: str) -> int:
        return sum(d.label == "nonsense" for d in documented if d.kv_dtype == dtype)

    assert nonsense("fp8_e5m2") > 5 * nonsense("fp8_e4m3") > 5 * nonsense("auto")


@pytest.mark.parametrize(("penalised", "bound"), [(False, BOUND), (True, BOUND_PENALISED)])
def test_the_criterions_bounds_are_those_of_healthy_outputs(
    penalised: bool, bound: float, outputs: list[RealOutput]
) -> None:
    windows = [
        window_surprises(output.logprobs)
        for output in outputs
        if output.model in HEALTHY_MODELS and output.kv_dtype == "auto" and output.is_penalised == penalised
    ]
    assert np.quantile(np.concatenate(windows), QUANTILE) == pytest.approx(bound, abs=0.05)


def test_surprise_is_the_worst_of_all_windows() -> None:
    logprobs = [-1.0] * 40 + [-5.0] * 32 + [-1.0] * 40
    assert worst_surprise(logprobs) == pytest.approx(5.0)
    assert worst_surprise([-2.0, -4.0]) == pytest.approx(3.0)
    assert worst_surprise([]) == 0.0


def test_improbable_text_is_nonsense_and_less_so_under_a_penalty() -> None:
    ids = range(60)
    assert label_of(ids, [-1.0] * 60, penalised=False) == "healthy"
    assert label_of(ids, [-2.2] * 60, penalised=False) == "doubtful"
    assert label_of(ids, [-2.2] * 60, penalised=True) == "healthy"
    assert label_of(ids, [-3.0] * 60, penalised=False) == "nonsense"
    assert label_of(ids, [-4.0] * 60, penalised=True) == "nonsense"


def test_what_was_said_before_to_no_surprise_is_a_loop() -> None:
    loop = list(range(10)) * 10
    assert label_of(loop, [-0.1] * 100, penalised=False) == "loop"
    assert label_of(loop[:60], [-0.1] * 60, penalised=False) == "doubtful"
    assert label_of(loop[:40], [-0.1] * 40, penalised=False) == "healthy"
    assert label_of(loop, [-1.0] * 100, penalised=False) == "healthy", "a loop is easy to foresee"
    assert label_of(range(100), [-0.1] * 100, penalised=False) == "healthy", "a copied prompt is no loop"


def test_repeats_are_counted_from_the_second_time_on() -> None:
    assert repeats([1, 2, 3, 4, 1, 2, 3, 4]).tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert repeats([7] * 6).tolist() == [0, 0, 0, 0, 1, 1]
    assert not circles([7] * 10, [-0.1] * 10, 64)


def test_the_sheet_shows_all_labels_alike_and_is_drawn_the_same_again(outputs: list[RealOutput]) -> None:
    sample = draw(outputs)
    assert len({output.id for output in sample}) == 160
    assert sample == draw(list(reversed(outputs)))
    counts = Counter(output.label for output in sample)
    assert min(counts.values()) >= 25
    assert [o.id for o in sample] != sorted(o.id for o in sample)


def test_hand_labels_are_of_outputs_that_were_on_the_sheet(outputs: list[RealOutput]) -> None:
    readings = read_labels()
    names = [reading.id for reading in readings]
    assert len(set(names)) == len(names)
    assert set(names) <= {output.reading_id for output in draw(outputs)}


def test_a_hand_label_of_no_class_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("id,reader1,reader2,note\nab,healthy,fine,\n")
    with pytest.raises(ValueError, match="ab is labelled fine"):
        read_labels(file)


def test_no_labels_are_no_error_before_anybody_has_read(tmp_path: Path) -> None:
    assert read_labels(tmp_path / "none.csv") == []


def test_readers_who_differ_leave_an_output_disputed() -> None:
    agreed, differing = Reading("a", "loop", "loop"), Reading("b", "loop", "nonsense", "both, really")
    assert agreed.merged == "loop"
    assert differing.merged == "disputed"
    assert disagreements([agreed, differing]) == [differing]


def test_kappa_of_a_table_made_by_hand() -> None:
    table = {
        ("healthy", "healthy"): 20,
        ("healthy", "loop"): 5,
        ("loop", "healthy"): 10,
        ("loop", "loop"): 15,
    }
    readings = [Reading("x", one, two) for (one, two), count in table.items() for _ in range(count)]
    assert kappa(readings) == pytest.approx(0.4)
    assert kappa_broken(readings) == pytest.approx(0.4)


def test_kappa_on_being_broken_does_not_ask_how() -> None:
    readings = [Reading("a", "loop", "nonsense"), Reading("b", "healthy", "healthy")]
    assert kappa(readings) < kappa_broken(readings) == 1
    assert math.isnan(kappa([Reading("a", "loop", "loop")]))


@pytest.mark.parametrize(
    ("hand", "label", "broken"),
    [
        (None, "healthy", False),
        (None, "loop", True),
        (None, "doubtful", None),
        ("healthy", "loop", False),
        ("other-broken", "healthy", True),
        ("disputed", "nonsense", None),
    ],
)
def test_the_readers_word_comes_before_the_criterions(
    hand: str | None, label: str, broken: bool | None, documented: list[RealDocument]
) -> None:
    from dataclasses import replace

    document = replace(documented[0], hand=hand, label=label)  # type: ignore[arg-type]
    assert document.is_broken is broken
    assert hand in (None, "disputed", *CLASSES)
