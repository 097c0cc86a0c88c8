"""The detection benchmark's evaluation: what is counted, of which documents, and how it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from detection import __main__ as commands
from detection import real
from detection.aims import AIMS, Aim, worst_kind
from detection.corpus import Damage, Document, write_documents
from detection.evaluate import (
    Decode,
    Evaluation,
    Found,
    Result,
    judge,
    judge_documents,
    judge_real,
    read_evaluation,
    write_evaluation,
)
from detection.inputs import joined, makers
from detection.peers import PEERS
from detection.rates import (
    RIGHT_KINDS,
    RULES,
    damaged_tokens,
    fails,
    fails_or_warns,
    loops,
    names_it,
    period_band,
    share,
)
from detection.report import cell, report, summary

from pytest_kvcache import UsageError
from pytest_kvcache.measures.paired import share_interval
from pytest_kvcache.records import Output, Signal

PROSE = "It rained all day, and nobody came to the shop until the evening; then the bell rang twice. "
UNIT = "a gentle soul, "


def decode(ids: object) -> str:
    """A tokenizer whose tokens are characters."""
    return "".join(map(chr, ids))  # type: ignore[call-overload]


def document(name: str, text: str, damage: Damage | None = None, kind: str = "prose-en") -> Document:
    ids = tuple(map(ord, text))
    return Document(name, damage.kind if damage else kind, "made", "test", text, ids, damage)


def loop_document(name: str = "loop/1", copies: int = 20, noise: float = 0.0) -> Document:
    text = PROSE + UNIT * copies
    return document(name, text, Damage("loop", "made", len(PROSE), len(text), "severe", len(UNIT), noise))


def result(
    kind: str = "prose-en", *signals: Found, damage: Damage | None = None, alarms: tuple[str, ...] = ()
) -> Result:
    return Result(f"{kind}/1", kind, 100, 400, "excerpt", damage, signals, alarms)


def damage(kind: str = "loop", *, start: int = 100, end: int = 300, **more: object) -> Damage:
    return msgspec.convert(
        {"kind": kind, "generator": "made", "start": start, "end": end, "severity": "severe", **more}, Damage
    )


def of_documents(results: Iterable[Result]) -> Evaluation:
    return Evaluation("test", list(results), [], [])


@pytest.fixture(autouse=True)
def one_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were one detector, which sees the loop of these tests where nothing excuses it."""

    def find_loop(
        output: Output, *, prompt: object = None, baseline: object = None, **_: object
    ) -> list[Signal]:
        start = output.text.find(UNIT)
        if start < 0 or prompt or baseline:
            return []
        return [Signal("loop", "fail", "char", start, len(output.text), "many times")]

    monkeypatch.setattr("detection.evaluate.find_degeneration", find_loop)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    salad = document("salad/1", "rain bell shop", Damage("word-salad", "made", 0, 14, "mild"))
    write_documents(
        tmp_path,
        [document("prose/1", PROSE), document("song/1", UNIT * 20, kind="song"), loop_document(), salad],
    )
    return tmp_path


def test_every_document_of_the_half_is_judged_once_healthy_ones_first(corpus: Path) -> None:
    found = {each.id: each for each in judge_documents(corpus, "test", decode=decode)}
    assert list(found) == ["prose/1", "song/1", "loop/1", "salad/1"]
    assert [each.fails for each in found.values()] == [False, True, True, False]
    assert found["loop/1"].damage == loop_document().damage
    assert "zlib" in found["loop/1"].alarms
    assert found["prose/1"].alarms == ()
    assert list(judge_documents(corpus, "tuning", decode=decode)) == []


def test_one_kind_can_be_judged_alone(corpus: Path) -> None:
    assert [each.id for each in judge_documents(corpus, "test", kind="song", decode=decode)] == ["song/1"]


def test_the_baselines_output_and_the_prompt_are_shown_to_our_detectors() -> None:
    text = UNIT * 20
    alone = document("loop/1", text)
    beside = msgspec.structs.replace(alone, baseline=text)
    asked = msgspec.structs.replace(alone, prompt=f"Repeat 'a gentle soul' 20 times: {UNIT}")
    assert judge(alone).fails
    assert not judge(beside).fails
    assert not judge(asked).fails


def test_results_come_back_as_they_were_written(corpus: Path) -> None:
    results = list(judge_documents(corpus, "test", decode=decode))
    evaluation = Evaluation("test", results, results[:2], results[1:])
    write_evaluation(corpus, evaluation)
    assert read_evaluation(corpus, "test") == evaluation


def test_results_that_were_never_written_are_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="evaluate --half tuning"):
        read_evaluation(tmp_path, "tuning")


def test_a_signal_placed_in_tokens_is_placed_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = Signal("loop", "fail", "token", 40, 120, "many times")
    monkeypatch.setattr("detection.evaluate.find_degeneration", lambda *_, **__: [signal])
    output = Document("x", "loop", "made", "test", "a" * 360, tuple(range(120)))

    def place(decode: Decode | None) -> tuple[int, int]:
        (found,) = judge(output, decode=decode).signals
        return found.start, found.end

    assert place(lambda ids: "xx" * len(ids)) == (80, 240)
    assert place(None) == (120, 360)


def test_an_excerpt_begins_at_the_damage_and_is_short_and_harmless() -> None:
    text = "fine " * 10 + "\x1b[31m\n::error::" + "z" * 200
    shown = judge(document("x", text, Damage("soup", "made", 50, len(text), "mild"))).excerpt
    assert shown.startswith("\\x1b[31m\\n")
    assert len(shown) <= 80
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("places", "overlap"),
    [
        ([], 0.0),
        ([(0, 100)], 0.0),
        ([(100, 300)], 1.0),
        ([(200, 300)], 0.5),
        ([(200, 400)], 1 / 3),
        ([(0, 10), (100, 200)], 0.5),
    ],
)
def test_overlap_is_that_of_the_signal_that_fits_best(places: list[tuple[int, int]], overlap: float) -> None:
    signals = [Found("loop", "fail", start, end, "") for start, end in places]
    assert result("loop", *signals, damage=damage()).overlap == pytest.approx(overlap)


def test_a_signal_names_the_damage_rightly_only_if_its_kind_fits() -> None:
    def named(kind: str, signal: str) -> bool:
        return names_it(result(kind, Found(signal, "warn", 0, 1, ""), damage=damage(kind)))

    assert named("numbered-loop", "near-loop")
    assert named("mojibake", "mojibake")
    assert not named("mojibake", "loop")
    assert named("runaway", "runaway")
    assert not named("runaway", "early-end")


def test_a_warning_is_no_fail() -> None:
    warned = result("soup", Found("soup", "warn", 0, 1, ""), damage=damage("soup"))
    assert (fails(warned), fails_or_warns(warned)) == (False, True)


def test_periods_fall_into_bands_without_gaps() -> None:
    assert [period_band(period) for period in (1, 2, 4, 5, 16, 17, 64, 65, 4000)] == (
        ["1", "2–4", "2–4", "5–16", "5–16", "17–64", "17–64", "65+", "65+"]
    )
    assert period_band(None) is None


def test_loops_are_picked_by_noise_and_band() -> None:
    quiet = result("loop", damage=damage(period=3, noise=0.0))
    noisy = result("loop", damage=damage(period=30, noise=0.05))
    numbered = result("numbered-loop", damage=damage("numbered-loop", period=3))
    everything = [quiet, noisy, numbered, result()]
    assert loops(everything) == [quiet, noisy]
    assert loops(everything, 0.05) == [noisy]
    assert loops(everything, 0.0, "17–64") == []
    assert loops(everything, None, "2–4") == [quiet]


def test_a_damages_tokens_are_its_share_of_the_characters() -> None:
    assert damaged_tokens(result("loop", damage=damage(start=100, end=300))) == 50


@pytest.mark.parametrize(
    ("count", "n", "text"),
    [
        (0, 4000, "0 [0, 0.096]"),
        (1, 1000, "0.10 [0.018, 0.56]"),
        (50, 100, "50.0 [40.4, 59.6]"),
        (999, 1000, "99.90 [99.44, 99.982]"),
        (10, 10, "100 [72.2, 100]"),
    ],
)
def test_shares_are_told_with_the_digits_that_they_need(count: int, n: int, text: str) -> None:
    assert cell(share_interval(count, n)) == text


def test_an_aim_is_met_likely_met_or_missed() -> None:
    at_most = Aim("x", 0.002, is_upper=True, choose=lambda evaluation, _: evaluation.documents)
    assert at_most.is_met(share_interval(0, 4000)) == "yes"
    assert at_most.is_met(share_interval(0, 100)) == "likely"
    assert at_most.is_met(share_interval(1, 100)) == "no"
    assert at_most.is_met(None) == "not measured"
    at_least = dataclasses.replace(at_most, bound=0.9, is_upper=False)
    assert at_least.is_met(share_interval(990, 1000)) == "yes"
    assert at_least.is_met(share_interval(91, 100)) == "likely"
    assert at_least.is_met(share_interval(89, 100)) == "no"


def test_word_salad_and_real_outputs_have_aims_of_their_own() -> None:
    salad = damage("word-salad")
    found = result("word-salad", Found("improbable", "fail", 0, 9, ""), damage=salad)
    missed = result("word-salad", damage=salad)
    looped = result("loop", Found("loop", "fail", 0, 9, ""), damage=damage())
    evaluation = Evaluation("test", [missed], [found], [looped, result("healthy"), missed])
    measured = {aim.text: aim.measure(evaluation, fails) for aim in AIMS}
    by_score = measured["word-salad, with the baseline's log-probabilities"]
    outputs = measured["broken outputs of reference models"]
    assert by_score is not None
    assert (by_score.value, by_score.n) == (1, 1)
    assert outputs is not None
    assert (outputs.value, outputs.n) == (0.5, 2)


def test_the_worst_kind_is_one_of_enough_documents() -> None:
    alarming = Found("loop", "fail", 0, 1, "")
    many = [result("many")] * 1498 + [result("many", alarming)] * 2
    more = [result("more")] * 1499 + [result("more", alarming)]
    few = [result("few", alarming)] * 1499
    assert {each.kind for each in worst_kind(of_documents([*more, *many, *few]), fails)} == {"many"}
    assert worst_kind(of_documents(few), fails) == []


def test_aims_measure_the_damage_that_they_name() -> None:
    found = result("loop", Found("loop", "fail", 100, 300, ""), damage=damage(noise=0.05, period=3))
    missed = result("loop", damage=damage(noise=0.05, period=3))
    quiet = result("loop", damage=damage(noise=0.0, period=3))
    aims = {aim.text: aim for aim in AIMS}
    measured = aims["loops, 5% noise"].measure(of_documents([found, missed, quiet]), fails)
    assert measured is not None
    assert (measured.value, measured.n) == (0.5, 2)
    assert aims["mojibake"].measure(of_documents([found]), fails) is None


def test_the_page_tells_rates_aims_places_and_examples(corpus: Path) -> None:
    page = report(of_documents(judge_documents(corpus, "test", decode=decode)))
    assert "2 healthy documents of 2 kinds and 2 damaged ones of 2, the test half" in page
    assert "| **all** | 2 | 50.0 [9.5, 90.5] | 50.0 [9.5, 90.5] |" in page
    assert "| song | 1 | 100 [20.7, 100] | 100 [20.7, 100] |" in page
    assert "| loops, 0% noise | ≥ 99.5 | 100 [20.7, 100] | likely | 100 [20.7, 100] | likely |" in page
    assert "| loops, 10% noise | ≥ 75 | – | not measured | – | not measured |" in page
    assert "| loop | 1 | 100 [20.7, 100] | 1.00 |" in page
    assert "| word-salad | mild | 1 | 0 [0, 79.3] |" in page
    assert "`song/1` (fail: loop): `a gentle soul," in page
    assert "`salad/1` (mild): `rain bell shop`" in page


def test_the_page_tells_of_healthy_and_broken_real_outputs_apart() -> None:
    found = result("loop", Found("loop", "fail", 0, 9, ""), damage=damage(), alarms=("zlib",))
    outputs = [found, result("nonsense", damage=damage("nonsense")), result("healthy")]
    page = report(Evaluation("test", [result()], [], outputs))
    section = page[page.index("## Outputs of reference models") : page.index("## Places")]
    assert "| damaged | loop | 1 | 100 [20.7, 100] |" in section
    assert "| healthy | healthy | 1 | 0 [0, 79.3] |" in section
    totals = [line.split(" | ")[1:] for line in section.splitlines() if line.startswith("| **all**")]
    healthy, broken = ([each.rstrip(" |") for each in cells] for cells in totals)
    assert healthy == ["0 [0, 79.3]"] * 11
    found_by = dict(zip(("ours", *PEERS), broken, strict=True))
    assert [name for name, rate in found_by.items() if rate == "50.0 [9.5, 90.5]"] == ["ours", "zlib"]


def test_the_page_shows_at_most_3_examples_of_a_kind_and_no_code_span_is_broken() -> None:
    hostile = [
        Result(f"prose/{number}", "prose", 9, 9, "a ``` b | c", None, (Found("loop", "fail", 0, 9, ""),))
        for number in range(5)
    ]
    page = report(of_documents(hostile))
    assert page.count("`prose/") == 3
    assert "a ˋˋˋ b | c" in page


def test_every_row_of_a_table_has_as_many_cells_as_its_head(corpus: Path) -> None:
    page = report(of_documents(judge_documents(corpus, "test", decode=decode)))
    tables = [part.splitlines() for part in page.split("\n\n") if part.startswith("|")]
    assert tables
    for rows in tables:
        assert len({row.count("|") for row in rows}) == 1, rows[0]


def test_the_authors_summary_counts_each_kind(corpus: Path) -> None:
    rows = summary(list(judge_documents(corpus, "test", decode=decode))).splitlines()
    assert rows[2].startswith("| damaged | loop | 1 | 100 [")
    assert rows[4].startswith("| healthy | prose-en | 1 | 0 [")


@pytest.fixture
def few_real_outputs(monkeypatch: pytest.MonkeyPatch) -> list[real.RealDocument]:
    """As if reference models had written these and no others: two of each label."""
    labels: dict[bool | None, list[real.RealDocument]] = {True: [], False: [], None: []}
    for each in real.documents("test"):
        if len(labels[each.is_broken]) < 2:
            labels[each.is_broken].append(each)
    few = [each for group in labels.values() for each in group]
    monkeypatch.setattr("detection.evaluate.documents", lambda _: iter(few))
    return few


def test_real_outputs_are_healthy_or_broken_and_doubtful_ones_are_left_out(
    few_real_outputs: list[real.RealDocument],
) -> None:
    judged = {each.id: each.is_healthy for each in judge_real("test")}
    known = {each.id: not each.is_broken for each in few_real_outputs if each.is_broken is not None}
    assert judged == known
    assert len(known) == 4


@pytest.mark.usefixtures("few_real_outputs")
def test_misses_and_false_alarms_are_listed_by_id_on_request(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "load", lambda _: Tokenizer())
    assert commands.main(["evaluate", "--corpus", str(corpus), "--misses"]) == 0
    out = capsys.readouterr().out
    assert "FALSE ALARM song/1: fail loop" in out
    assert "MISS salad/1" in out
    kept = read_evaluation(corpus, "test")
    assert {each.id for each in kept.documents} == {"prose/1", "song/1", "loop/1", "salad/1"}
    assert kept.real


def test_a_quick_look_keeps_nothing(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "load", lambda _: Tokenizer())
    assert commands.main(["evaluate", "--corpus", str(corpus), "--quick"]) == 0
    assert "| healthy | song | 1 |" in capsys.readouterr().out
    with pytest.raises(UsageError):
        read_evaluation(corpus, "test")


def test_a_half_without_documents_is_a_users_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "load", lambda _: Tokenizer())
    assert commands.main(["evaluate", "--corpus", str(tmp_path), "--kind", "song"]) == 1
    assert capsys.readouterr().err.startswith("error: no documents of kind 'song'")


class Tokenizer:
    decode = staticmethod(decode)


def test_joined_documents_have_the_wanted_length_and_go_round() -> None:
    documents = [document("1", "abc"), document("2", "defgh"), document("3", "")]
    assert joined(documents, 10).text == "abcdefghab"
    assert joined(documents, 4, start=1).text == "defg"
    assert len(joined(documents, 1000).token_ids) == 1000


@pytest.mark.parametrize("size", [1000, 1001])
def test_every_input_of_the_scaling_curve_has_about_the_wanted_length(size: int) -> None:
    for name, make in makers([document("1", PROSE)]).items():
        made = make(size)
        if isinstance(made, str):
            assert len(made) == pytest.approx(4 * size, abs=4), name
        else:
            ids = made.token_ids if isinstance(made, Output) else made
            assert len(ids) == pytest.approx(size, abs=1), name


def test_a_de_bruijn_input_repeats_no_window() -> None:
    ids = makers([document("1", PROSE)])["de Bruijn, 2 ids"](1000)
    assert isinstance(ids, list)
    windows = list(zip(*(ids[start:] for start in range(10)), strict=False))
    assert len(set(windows)) == len(windows)


def test_kinds_that_a_signal_names_are_kinds_of_damage_with_rules_for_all_tables() -> None:
    assert {"fail", "fail or warn", "zlib"} <= RULES.keys()
    assert all(RIGHT_KINDS.values())


def test_no_results_have_no_share() -> None:
    assert share([], fails) is None
    assert cell(None) == "–"
