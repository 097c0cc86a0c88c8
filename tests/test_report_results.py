"""The results file keeps its promises: whole or absent, valid JSON, private, readable by other tools."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from report_samples import (
    BROKEN,
    EMPTY,
    FAILED,
    FULL,
    PASSED,
    PERFORMANCE,
    RAN,
    RUN,
    hostile_results,
    results,
    verdict,
)

from pytest_kvcache.errors import KvCacheError, UsageError
from pytest_kvcache.records import EngineSpec, Metric, ReasonCode, VerdictKind
from pytest_kvcache.report import (
    Results,
    RunInfo,
    read_results,
    results_schema,
    shipped_schema,
    write_results,
)

MEASURED = results(PASSED, performance=PERFORMANCE)


@pytest.mark.parametrize("sample", [FULL, EMPTY, MEASURED], ids=["full", "empty", "measured"])
def test_what_was_written_is_read_back(tmp_path: Path, sample: Results) -> None:
    path = write_results(tmp_path / "report", sample)
    assert path == tmp_path / "report" / "results.json"
    assert read_results(path) == sample
    assert read_results(path.parent) == sample


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_results(tmp_path / name, FULL).read_bytes() for name in ("one", "other"))
    assert one == other


def test_only_the_owner_may_read_the_report(tmp_path: Path) -> None:
    path = write_results(tmp_path / "report", FULL)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    write_results(tmp_path, FULL)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_full_disk_leaves_the_old_file_and_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_results(tmp_path, EMPTY).read_bytes()

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(KvCacheError, match=r"cannot write the results to .*: No space left on device$"):
        write_results(tmp_path, FULL)
    assert (tmp_path / "results.json").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_report_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(KvCacheError, match="cannot write the results to"):
        write_results(tmp_path / "report", FULL)


# The schema


def test_the_shipped_schema_is_the_one_of_the_code() -> None:
    assert shipped_schema() == results_schema()


@pytest.mark.parametrize(
    "sample", [FULL, EMPTY, MEASURED, hostile_results()], ids=["full", "empty", "measured", "hostile"]
)
def test_a_written_file_fits_the_shipped_schema(tmp_path: Path, sample: Results) -> None:
    validate(json.loads(write_results(tmp_path, sample).read_text()))


def test_verdicts_and_reason_codes_are_closed_lists() -> None:
    definitions = shipped_schema()["$defs"]
    assert set(definitions["VerdictKind"]["enum"]) == set(VerdictKind)
    assert set(definitions["ReasonCode"]["enum"]) == set(ReasonCode)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (["verdicts", 1, "verdict"], "fine"),
        (["verdicts", 1, "reasons", 0, "code"], "bad-mood"),
        (["verdicts", 1, "metrics", "delta_nll", "value"], "large"),
        (["engines", 0, "tokens_generated"], 0.5),
        (["run", "complete"], "yes"),
        (["schema_version"], 2),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_document_that_breaks_the_contract_is_refused_by_schema_and_reader(
    tmp_path: Path, place: list[Any], value: Any
) -> None:
    document = written(tmp_path, FULL)
    *parents, last = place
    inner = document
    for key in parents:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(document)
    with pytest.raises(UsageError):
        read_document(tmp_path, document)


def test_fields_of_a_later_release_are_no_harm(tmp_path: Path) -> None:
    document = written(tmp_path, FULL)
    document["verdicts"][0]["mood"] = document["weather"] = "fine"
    validate(document)
    assert read_document(tmp_path, document) == FULL


# Figures and texts that JSON cannot hold


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_null_in_the_file_and_nan_when_read(
    tmp_path: Path, figure: float
) -> None:
    sample = results(verdict(metrics={"delta_nll": Metric(figure, figure, 1.0, 64, margin=0.1)}))
    document = written(tmp_path, sample)
    validate(document)
    metric = document["verdicts"][0]["metrics"]["delta_nll"]
    assert (metric["value"], metric["ci_low"], metric["ci_high"]) == (None, None, 1.0)
    again = read_results(tmp_path).verdicts[0].metrics["delta_nll"]
    assert math.isnan(again.value)
    assert math.isnan(again.ci_low)
    assert (again.ci_high, again.margin, again.floor) == (1.0, 0.1, None)


def test_hostile_text_reaches_no_terminal_that_shows_the_file(tmp_path: Path) -> None:
    text = write_results(tmp_path, hostile_results()).read_text("utf-8")
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())


def test_text_survives_in_the_file_but_for_lone_surrogates(tmp_path: Path) -> None:
    sample = hostile_results()
    document = written(tmp_path, sample)
    assert document["excerpts"][0]["prompt_text"] == sample.excerpts[0].prompt_text.replace(
        "\ud800", "\\ud800"
    )


# Files that cannot be read


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"{} {}", "it is not JSON"),
        (b"[]", "it is not a results file of pytest-kvcache"),
        (b'{"schema_version": true}', "it is not a results file of pytest-kvcache"),
        (b'{"schema_version": 99}', "its schema is version 99, newer than 1: upgrade pytest-kvcache"),
        (b'{"schema_version": 1}', "it does not fit its schema: Object missing required field `run`"),
    ],
    ids=["empty", "binary", "deep", "trailing", "list", "bool", "newer", "incomplete"],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_results(path)
    assert str(caught.value) == f"cannot read results from {path}: {problem}"


def test_hostile_content_is_not_quoted_raw(tmp_path: Path) -> None:
    document = written(tmp_path, FULL)
    document["verdicts"][0]["verdict"] = "\x1b[2J\n::error::owned"
    with pytest.raises(UsageError) as caught:
        read_document(tmp_path, document)
    assert str(caught.value).isprintable()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"results\.json: No such file or directory$"):
        read_results(tmp_path)


# Secrets


def test_no_report_can_hold_a_secret_of_command_engine_or_reason() -> None:
    command = ("pytest", "--kv-engine-arg", "hf_token=opensesame", "--api-key", "opensesame")
    engine = replace(
        BROKEN,
        spec=EngineSpec("ref:gqa", "fp8_e4m3", engine_args=(("hf_token", '"opensesame"'),)),
        failure="no answer from https://me:opensesame@host/v1",
    )
    reasons = tuple(replace(reason, message="api_key=opensesame") for reason in FAILED.reasons)
    unmeasured = replace(PERFORMANCE[0], not_measured="no clock at https://me:opensesame@host")
    sample = results(
        replace(FAILED, reasons=reasons),
        run=replace(RUN, command=command),
        engines=(RAN, engine),
        performance=(unmeasured,),
    )
    assert "opensesame" not in repr(sample)
    assert sample.engines[0] == RAN


def test_a_run_keeps_what_is_no_secret() -> None:
    assert RunInfo(**{name: getattr(RUN, name) for name in RUN.__slots__}) == RUN


def validate(document: Any) -> None:
    schema = shipped_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


def written(directory: Path, sample: Results) -> Any:
    return json.loads(write_results(directory, sample).read_text("utf-8"), parse_constant=pytest.fail)


def read_document(directory: Path, document: Any) -> Results:
    path = directory / "changed.json"
    path.write_text(json.dumps(document))
    return read_results(path)
