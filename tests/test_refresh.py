"""A refresh makes goldens from engines' own words, shows what changes, and writes all of them or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scripted
from golden_samples import put_in_version_1

from pytest_kvcache.conditions import BATCH
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.engines.pool import FLOOR_TOKENS
from pytest_kvcache.errors import EngineError, GoldenError, KvCacheError, UsageError
from pytest_kvcache.golden import GoldenDirectory, name_of
from pytest_kvcache.plan import Request, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import Golden, Prompt, PromptSet, Sampling
from pytest_kvcache.refresh import (
    Refresh,
    Want,
    assemble,
    check_may_write,
    check_sizes,
    merge,
    produce,
    wants_of,
)
from pytest_kvcache.session import Session
from pytest_kvcache.shards import Shards
from pytest_kvcache.store import RunStore

PLAIN = scripted.prompt_set("plain", prompts=4, max_tokens=80)
PENALISED = scripted.prompt_set("penalised", prompts=4, max_tokens=80, repetition_penalty=1.1)


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "starts"
    path.touch()
    monkeypatch.setenv("SCRIPTED_ENGINE_STARTS", str(path))
    return path


@pytest.fixture
def directory(tmp_path: Path) -> GoldenDirectory:
    return GoldenDirectory(tmp_path / "golden")


def baseline_wants(**arguments: Any) -> tuple[Want, ...]:
    """Return what a test with a verdict needs whose engines have these arguments."""
    target = scripted.target(scripted.spec("fp8_e4m3", **arguments), scripted.spec("auto", **arguments))
    return wants_of(Request(target, (PLAIN, PENALISED), with_scores=True))


def candidate_want(**arguments: Any) -> Want:
    return replace(baseline_wants(**arguments)[0], target=candidate(**arguments), is_baseline=False)


def candidate(**arguments: Any) -> Any:
    return scripted.target(scripted.spec("fp8_e4m3", **arguments), scripted.spec("auto", **arguments))


def make(tmp_path: Path, *wants: Want, run: str = "run") -> list[tuple[Want, Golden]]:
    store = RunStore(tmp_path / run)
    devices = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path)
    factory = child_engine_factory(30.0, scripted.COMMAND)
    session = Session(make_plan([want.request for want in wants]), store, factory, devices)
    for want in wants:
        produce(session, want)
    return [(want, whole(store, want)) for want in wants]


def whole(store: RunStore, want: Want) -> Golden:
    golden = assemble(store, want)
    assert golden is not None
    return golden


def large(prompts: int) -> PromptSet:
    text = "Describe the harbour in the morning, when the boats come back." * 3
    return PromptSet(
        "large",
        tuple(Prompt(f"p{i}", "chat", text=f"{i}: {text}") for i in range(prompts)),
        Sampling(max_tokens=512),
    )


def refresh(directory: GoldenDirectory, made: list[tuple[Want, Golden]]) -> tuple[Path, ...]:
    begun = Refresh(directory)
    return begun.commit(begun.review(made, Policy()))


def contents(directory: GoldenDirectory) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in directory.root.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


class TestMaking:
    def test_a_golden_holds_texts_their_scores_and_the_floor_of_one_engine_started_once(
        self, tmp_path: Path, starts: Path
    ) -> None:
        (_, plain), (_, penalised) = make(tmp_path, *baseline_wants())
        assert starts.read_text().splitlines() == ["scripted/model auto (0,)"]
        assert (plain.variant, plain.prompt_set) == ("auto", PLAIN)
        assert plain.scores is not None
        assert plain.floor is not None
        assert [s.token_ids for s in plain.scores.scores] == [o.token_ids for o in plain.outputs]
        assert {len(score.token_ids) for score in plain.floor.scores} == {FLOOR_TOKENS}
        assert (len(penalised.outputs), penalised.scores, penalised.floor) == (4, None, None)

    def test_a_candidates_own_golden_starts_no_baseline(self, tmp_path: Path, starts: Path) -> None:
        [(_, golden)] = make(tmp_path, candidate_want())
        assert starts.read_text().split()[1::3] == ["fp8_e4m3"]
        assert golden.variant == "fp8_e4m3"
        assert golden.scores is not None
        assert [s.token_ids for s in golden.scores.scores] == [o.token_ids for o in golden.outputs]

    def test_without_log_probabilities_nothing_is_scored(self, tmp_path: Path) -> None:
        [(_, golden)] = make(tmp_path, replace(baseline_wants()[0], logprobs=False))
        assert (golden.scores, golden.floor) == (None, None)

    @pytest.mark.parametrize("place", ["loading", "generating", "scoring"])
    def test_a_broken_engine_makes_no_golden(self, tmp_path: Path, place: str) -> None:
        want = baseline_wants(fail_at=place)[0]
        with pytest.raises(EngineError, match=f"scripted failure while {place}"):
            make(tmp_path, want)
        assert assemble(RunStore(tmp_path / "run"), want) is None


class TestWants:
    def test_who_compares_needs_the_baselines_goldens_and_who_asks_for_goldens_its_own(self) -> None:
        target = candidate()
        assert wants_of(Request(target, (PLAIN,))) == ()
        for request in (
            Request(target, (PLAIN,), with_baseline=True),
            Request(target, (PLAIN,), with_scores=True),
            Request(target, (PLAIN,), conditions=(BATCH,)),
        ):
            [want] = wants_of(request)
            assert (want.variant, want.is_baseline) == ("auto", True)
        [own] = wants_of(Request(target, (PLAIN,), with_golden=True))
        assert (own.variant, own.is_baseline) == ("fp8_e4m3", False)
        [own] = wants_of(Request(target.of_baseline(), (PLAIN,), with_golden=True))
        assert (own.variant, own.is_baseline) == ("auto", True)

    def test_a_golden_that_anybody_needs_as_a_baseline_is_one(self) -> None:
        want = baseline_wants()[0]
        assert merge([replace(want, is_baseline=False), want]) == (want,)

    def test_a_variant_goes_by_its_name(self) -> None:
        assert Want(replace(candidate(), variant="skip-two"), PLAIN, is_baseline=False).variant == "skip-two"

    def test_a_golden_is_there_for_its_own_set_length_variant_and_platform_alone(
        self, tmp_path: Path, directory: GoldenDirectory
    ) -> None:
        want = baseline_wants()[0]
        refresh(directory, make(tmp_path, want))
        begun = Refresh(directory)
        longer = replace(PLAIN, sampling=replace(PLAIN.sampling, max_tokens=81))
        assert begun.has(want, ["cuda", "cpu"])
        assert not begun.has(want, ["cuda"])
        assert not begun.has(candidate_want(), ["cpu"])
        assert not begun.has(replace(want, prompt_set=longer), ["cpu"])
        assert not begun.has(replace(want, prompt_set=PENALISED), ["cpu"])


class TestWriting:
    def test_what_is_written_is_what_was_made(self, tmp_path: Path, directory: GoldenDirectory) -> None:
        made = make(tmp_path, *baseline_wants(), candidate_want())
        written = refresh(directory, made)
        assert {directory.path(name_of(golden)) for _, golden in made} <= set(written)
        assert [directory.get(name_of(golden)) for _, golden in made] == [golden for _, golden in made]

    def test_refreshing_without_a_change_touches_no_file(
        self, tmp_path: Path, directory: GoldenDirectory
    ) -> None:
        refresh(directory, make(tmp_path, *baseline_wants()))
        before = contents(directory)
        begun = Refresh(directory)
        review = begun.review(make(tmp_path, *baseline_wants(), run="again"), Policy())
        assert {change.kind for change in review.changes} == {"unchanged"}
        assert begun.commit(review) == ()
        assert contents(directory) == before

    def test_a_change_is_shown_before_it_is_written(self, tmp_path: Path, directory: GoldenDirectory) -> None:
        refresh(directory, make(tmp_path, baseline_wants()[0]))
        before = contents(directory)
        begun = Refresh(directory)
        review = begun.review(make(tmp_path, baseline_wants(says="other")[0], run="again"), Policy())
        assert [change.kind for change in review.changes] == ["text"]
        assert contents(directory) == before
        begun.commit(review)
        assert contents(directory).keys() != before.keys()

    def test_others_goldens_are_left_alone(self, tmp_path: Path, directory: GoldenDirectory) -> None:
        refresh(directory, make(tmp_path, *baseline_wants()))
        penalised = directory.path(name_of(make(tmp_path, baseline_wants()[1])[0][1]))
        before = contents(directory)[penalised]
        refresh(directory, make(tmp_path, baseline_wants(says="other")[0], run="again"))
        assert contents(directory)[penalised] == before

    def test_a_damaged_golden_is_replaced_and_said_to_be(
        self, tmp_path: Path, directory: GoldenDirectory
    ) -> None:
        made = make(tmp_path, baseline_wants()[0])
        refresh(directory, made)
        path = directory.path(name_of(made[0][1]))
        good = path.read_bytes()
        path.write_bytes(good[:-100])
        begun = Refresh(directory)
        review = begun.review(made, Policy())
        assert any("cannot be read" in line for line in review.changes[0].lines)
        begun.commit(review)
        assert path.read_bytes() == good


class TestRefusing:
    @pytest.mark.parametrize("fault", [{"script": "loop"}, {"script": "empty"}, {"resolves_to": "fp8_e4m3"}])
    def test_no_golden_is_written_if_one_baseline_is_degenerate_or_quantized(
        self, tmp_path: Path, directory: GoldenDirectory, fault: dict[str, Any]
    ) -> None:
        made = [
            *make(tmp_path, *baseline_wants(**fault)),
            *make(tmp_path, candidate_want(says="other"), run="healthy"),
        ]
        begun = Refresh(directory)
        review = begun.review(made, Policy())
        assert review.refusals
        assert not any("\n" in refusal for refusal in review.refusals)
        with pytest.raises(GoldenError):
            begun.commit(review)
        assert not contents(directory)

    def test_a_candidates_own_golden_may_be_quantized(
        self, tmp_path: Path, directory: GoldenDirectory
    ) -> None:
        assert refresh(directory, make(tmp_path, candidate_want()))

    def test_a_candidate_that_resolved_to_no_quantized_cache_is_refused(
        self, tmp_path: Path, directory: GoldenDirectory
    ) -> None:
        made = make(tmp_path, candidate_want(resolves_to="bfloat16"))
        [refusal] = Refresh(directory).review(made, Policy()).refusals
        assert "vLLM resolved bfloat16, so it is no golden of fp8_e4m3" in refusal

    def test_scores_that_are_no_numbers_are_refused(self, tmp_path: Path, directory: GoldenDirectory) -> None:
        [(want, golden)] = make(tmp_path, baseline_wants()[0])
        assert golden.scores is not None
        first, *rest = golden.scores.scores
        nan = np.full(len(first.token_ids), np.nan, "<f4").tobytes()
        spoiled = replace(golden.scores, scores=(replace(first, logprobs=nan), *rest))
        review = Refresh(directory).review([(want, replace(golden, scores=spoiled))], Policy())
        assert len(review.refusals) == 1

    def test_a_golden_that_could_not_be_kept_is_refused_before_it_is_made(self) -> None:
        want = baseline_wants()[0]
        check_sizes([replace(want, prompt_set=large(3500))])
        with pytest.raises(UsageError, match=r"4,500 prompts .* may come to \d\d.\d MB, .* split the set"):
            check_sizes([want, replace(want, prompt_set=large(4500))])

    def test_what_changed_since_the_refresh_began_is_kept(
        self, tmp_path: Path, directory: GoldenDirectory
    ) -> None:
        late = Refresh(directory)
        refresh(directory, make(tmp_path, baseline_wants()[0]))
        before = contents(directory)
        other = late.review(make(tmp_path, *baseline_wants(says="other"), run="again"), Policy())
        with pytest.raises(GoldenError):
            late.commit(other)
        assert contents(directory) == before
        same = late.review(make(tmp_path, baseline_wants()[0], run="third"), Policy())
        assert late.commit(same) == ()

    def test_the_same_golden_of_an_older_schema_is_brought_up_to_date(
        self, tmp_path: Path, directory: GoldenDirectory
    ) -> None:
        made = make(tmp_path, baseline_wants()[0])
        [path] = refresh(directory, made)
        before = path.read_bytes()
        put_in_version_1(path)
        begun = Refresh(directory)
        review = begun.review(made, Policy())
        headline, schema = review.changes[0].lines
        assert headline.endswith(": unchanged")
        assert schema == "  in the schema of today, in place of an older one"
        assert begun.commit(review) == (path,)
        assert path.read_bytes() == before

    def test_a_full_disk_leaves_the_old_goldens(
        self, tmp_path: Path, directory: GoldenDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refresh(directory, make(tmp_path, *baseline_wants()))
        before = contents(directory)
        made = make(tmp_path, *baseline_wants(says="other"), run="again")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(KvCacheError, match="No space left"):
                refresh(directory, made)
        assert contents(directory) == before

    @pytest.mark.parametrize("value", ["1", "true", "yes"])
    def test_in_ci_writing_must_be_asked_for_by_name(self, value: str) -> None:
        with pytest.raises(UsageError, match="--kv-golden-allow-ci"):
            check_may_write({"CI": value}, allow_ci=False)
        check_may_write({"CI": value}, allow_ci=True)

    @pytest.mark.parametrize("environ", [{}, {"CI": ""}, {"CI": "false"}, {"CI": "0"}])
    def test_elsewhere_it_need_not(self, environ: dict[str, str]) -> None:
        check_may_write(environ, allow_ci=False)


class TestShards:
    def test_what_one_process_expects_and_leaves_another_reads(self, tmp_path: Path) -> None:
        wants = baseline_wants()
        needs = {"test_a[x]": wants, "test_b": wants[:1], "test_c": ()}
        shards = Shards(tmp_path)
        assert shards.expected() == {}
        shards.expect(needs)
        shards.put("test_a[x]")
        other = Shards(tmp_path)
        assert other.expected() == needs
        assert [test for test in needs if other.has(test)] == ["test_a[x]"]

    def test_only_the_owner_may_read_them(self, tmp_path: Path) -> None:
        Shards(tmp_path).put("test_a")
        [file] = (tmp_path / "goldens").iterdir()
        assert not file.stat().st_mode & 0o077
        assert not file.parent.stat().st_mode & 0o077

    def test_damaged_ones_are_named(self, tmp_path: Path) -> None:
        Shards(tmp_path).expect({})
        (tmp_path / "goldens" / "expected.json").write_bytes(b'{"wants": 1')
        with pytest.raises(KvCacheError, match=r"expected\.json is damaged"):
            Shards(tmp_path).expected()

    def test_a_full_disk_is_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(KvCacheError, match=r"cannot write .*No space left.*--kv-report"):
            Shards(tmp_path).put("test_a")
