"""The generation cache: an unchanged second run starts no engine, and nothing is taken for what it is not.

The engines run in this process and are scripted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import scripted
from scripted_engine import Script

from pytest_kvcache.cache import GenerationCache
from pytest_kvcache.engines import wire
from pytest_kvcache.engines.devices import DevicePool, Slot
from pytest_kvcache.engines.fingerprint import Fingerprint
from pytest_kvcache.errors import EngineError, RequestError
from pytest_kvcache.plan import Request, Target, make_plan
from pytest_kvcache.policy import Policy
from pytest_kvcache.records import (
    Counts,
    EngineSpec,
    Output,
    Prompt,
    PromptSet,
    Provenance,
    Sampling,
    Score,
    ScoreRequest,
    ScoringPath,
    Verdict,
    VerdictKind,
)
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

SET = scripted.prompt_set("plain", prompts=16, max_tokens=80)
PENALISED = scripted.prompt_set("penalised", prompts=16, max_tokens=80, repetition_penalty=1.1)
SETS = (SET, PENALISED)
TODAY = date(2026, 1, 1)


@dataclass
class ScriptedEngine:
    """The scripted engine without a process of its own."""

    script: Script

    @property
    def spec(self) -> EngineSpec:
        return self.script.spec

    @property
    def provenance(self) -> Provenance:
        return self.script.provenance()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> tuple[Output, ...]:
        with _failures():
            self.script.act("generating")
            if len(prompts) == self.script.arguments.get("refuses_prompts"):
                raise RequestError("scripted refusal")
        return tuple(self.script.generate(prompt, sampling) for prompt in prompts)

    @property
    def counts(self) -> Counts:
        return Counts()

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        top_k: int = 20,
        path: ScoringPath | None = None,
        keep_prefix_cache: bool = False,
    ) -> tuple[Score, ...]:
        with _failures():
            self.script.act("scoring")
        kept = keep_prefix_cache
        return tuple(self.script.score(request, top_k, path, kept=kept) for request in requests)

    def close(self) -> int:
        return 0


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise EngineError(str(error)) from None


@dataclass
class Bench:
    """A machine on which one run after the other judges the same model."""

    root: Path
    model_id: str = "commit:1"
    known: bool = True
    limit: int = 1 << 30
    fresh: frozenset[EngineSpec] = frozenset()
    starts: list[str] = field(default_factory=list)
    runs: int = 0
    store: RunStore = field(init=False)
    on_start: Callable[[], None] = lambda: None

    @property
    def cache(self) -> Path:
        return self.root / "cache" / "generations"

    @property
    def kept(self) -> list[Path]:
        return sorted(self.cache.glob("*/*"))

    def session(self, *requests: Request) -> Session:
        self.runs += 1
        self.store = RunStore(self.root / f"run-{self.runs}")
        devices = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=self.root)
        cache = GenerationCache(self.root / "cache", self.identify, fresh=self.fresh, limit=self.limit)
        return Session(make_plan(requests), self.store, self.start, devices, cache=cache)

    def judge(
        self, target: Target, sets: tuple[PromptSet, ...] = SETS, policy: Policy | None = None
    ) -> Verdict:
        running = self.session(Request(target, sets, with_scores=True))
        return running.verdict(target, sets, policy or Policy(), TODAY)

    def started(self) -> list[str]:
        """Return the kv dtypes of the engines that were started since this was asked last."""
        started, self.starts = self.starts, []
        return started

    def identify(self, spec: EngineSpec) -> Fingerprint | None:
        key = f"{spec.key}{self.model_id.removeprefix('commit:')}"
        return Fingerprint(key, self.model_id) if self.known else None

    def start(self, spec: EngineSpec, slot: Slot, *_: object, **__: object) -> ScriptedEngine:
        self.starts.append(spec.kv_cache_dtype)
        script = Script(wire.Start(spec, spec.model, slot.device_ids, ""))
        script.model_id = self.model_id
        self.on_start()
        with _failures():
            script.act("loading")
        return ScriptedEngine(script)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def target(dtype: str = "fp8_e4m3", **arguments: Any) -> Target:
    return scripted.target(scripted.spec(dtype, **arguments), scripted.spec("auto"))


BOTH = ["auto", "fp8_e4m3"]


class TestAnUnchangedSecondRun:
    def test_it_starts_no_engine_and_comes_to_the_same_verdict(self, bench: Bench) -> None:
        first = bench.judge(target())
        assert (first.verdict, first.source) == (VerdictKind.PASS, "fresh")
        assert bench.started() == BOTH
        second = bench.judge(target())
        assert bench.started() == []
        assert (second.verdict, second.source, second.metrics) == (first.verdict, "cached", first.metrics)
        assert bench.store.reports() == ()
        assert bench.store.notes() == ()

    def test_the_copies_take_no_room_and_are_for_their_owner_alone(self, bench: Bench) -> None:
        bench.judge(target())
        assert len(bench.kept) == 4 + 2 + 1, "outputs of two sets by two engines, scores by both, a floor"
        assert all(file.stat().st_nlink == 2 for file in bench.kept)
        assert bench.cache.stat().st_mode & 0o077 == 0
        assert not [file for file in bench.kept if file.name.startswith(".")]

    def test_a_set_of_another_name_is_the_same_set(self, bench: Bench) -> None:
        bench.judge(target())
        bench.started()
        renamed = PromptSet("other", SET.prompts, SET.sampling)
        assert bench.judge(target(), (renamed,)).prompt_sets == ("other",)
        assert bench.started() == []

    def test_outputs_alone_are_kept_without_scores(self, bench: Bench) -> None:
        request = Request(target(), (SET,))
        first = bench.session(request).outputs(target(), SET)
        bench.started()
        assert bench.session(request).outputs(target(), SET) == first
        assert bench.started() == []


class TestWhatIsMissing:
    def test_a_full_run_after_a_partial_one_makes_the_rest(self, bench: Bench) -> None:
        bench.judge(target(), (SET,))
        bench.started()
        verdict = bench.judge(target())
        assert bench.started() == BOTH, "the other set is new to both"
        assert verdict.source == "cached"
        bench.judge(target())
        assert bench.started() == []

    def test_a_second_candidate_shares_the_baseline(self, bench: Bench) -> None:
        bench.judge(target())
        bench.started()
        verdict = bench.judge(target("fp8_e5m2"))
        assert bench.started() == ["fp8_e5m2"]
        assert verdict.source == "cached"

    def test_scores_are_of_the_very_texts_that_were_scored(self, bench: Bench) -> None:
        """A baseline that writes other texts under the same fingerprint, for whatever reason."""
        bench.judge(target())
        shutil.rmtree(next(bench.cache.glob("*-auto-*")))
        for file in bench.cache.glob("*-fp8_e4m3-*/scores-*"):
            name, texts, digest = file.name.removesuffix(".scores").rsplit("-", 2)
            assert len(texts) == 16
            file.rename(file.with_name(f"{name}-{'0' * 16}-{digest}.scores"))
        bench.started()
        assert bench.judge(target()).verdict is VerdictKind.PASS
        assert bench.started() == BOTH

    def test_equal_texts_written_anew_keep_their_scores(self, bench: Bench) -> None:
        bench.judge(target())
        shutil.rmtree(next(bench.cache.glob("*-auto-*")))
        bench.started()
        assert bench.judge(target()).source == "cached"
        assert bench.started() == ["auto"]


class TestWhatIsNotKept:
    def test_another_model_is_another_engine(self, bench: Bench) -> None:
        bench.judge(target())
        bench.started()
        bench.model_id = "commit:2"
        assert bench.judge(target()).source == "fresh"
        assert bench.started() == BOTH

    def test_an_engine_that_nobody_knows(self, bench: Bench) -> None:
        bench.known = False
        for _ in range(2):
            assert bench.judge(target()).source == "fresh"
            assert bench.started() == BOTH
        assert bench.kept == []

    def test_an_engine_that_loaded_something_else_than_was_seen(self, bench: Bench) -> None:
        bench.on_start = lambda: setattr(bench, "model_id", "commit:2")
        bench.session(Request(target(), (SET,))).outputs(target(), SET)
        assert bench.kept == []

    def test_a_model_that_is_first_known_when_it_has_run(self, bench: Bench) -> None:
        bench.known = False
        bench.on_start = lambda: setattr(bench, "known", True)
        session = bench.session(Request(target(), (SET,)))
        session.outputs(target(), SET)
        assert len(bench.kept) == 1

    @pytest.mark.parametrize("place", ["loading", "generating", "scoring"])
    def test_an_engine_that_broke(self, bench: Bench, place: str) -> None:
        broken = target(fail_at=place)
        for _ in range(2):
            assert bench.judge(broken).verdict is VerdictKind.FAIL
            assert "fp8_e4m3" in bench.started()
        assert {path.parent.name.split("-")[2] for path in bench.kept} == {"auto"}

    def test_a_set_that_was_refused_beside_one_that_was_not(self, bench: Bench) -> None:
        small = scripted.prompt_set("refused", prompts=3)
        asked = target(refuses_prompts=3)
        for _ in range(2):
            session = bench.session(Request(asked, (SET, small)))
            with pytest.raises(EngineError, match="refusal"):
                session.outputs(asked, small)
            assert len(session.outputs(asked, SET)) == 16
            assert bench.started() == ["fp8_e4m3"]
        assert len(bench.kept) == 1

    def test_what_a_test_asked_for_without_a_plan(self, bench: Bench) -> None:
        session = bench.session(Request(target(), (), ad_hoc=True))
        session.live(target()).generate([Prompt("p", "chat", text="Say a.")], Sampling())
        session.close()
        assert bench.kept == []


def test_an_engine_that_has_to_be_seen_again_runs_again_with_its_baseline(bench: Bench) -> None:
    bench.judge(target())
    bench.started()
    bench.fresh = frozenset({target().spec, target().baseline})
    assert bench.judge(target()).source == "fresh"
    assert bench.started() == BOTH
    bench.fresh = frozenset()
    assert bench.judge(target()).source == "cached"


class TestTrouble:
    @pytest.mark.parametrize("damage", [b"", b"{}\n", None], ids=["empty", "foreign", "cut"])
    def test_what_is_damaged_is_removed_with_one_note_and_made_anew(
        self, bench: Bench, damage: bytes | None
    ) -> None:
        first = bench.judge(target())
        bench.started()
        for file in bench.kept:
            content = file.read_bytes()
            file.unlink()  # The run store of the first run shares the file.
            file.write_bytes(content[:-9] if damage is None else damage)
        second = bench.judge(target())
        assert (second.verdict, second.source) == (first.verdict, "fresh")
        assert bench.started() == BOTH
        assert [note.rpartition("/")[2].split("-")[2] for note in bench.store.notes()] == BOTH
        assert all("were removed" in note for note in bench.store.notes())
        assert bench.judge(target()).source == "cached"
        assert bench.store.notes() == ()

    def test_a_file_that_pretends_to_be_another_entry_is_none(self, bench: Bench) -> None:
        bench.judge(target())
        ours, theirs = bench.cache.glob("*-fp8_e4m3-*/outputs-*")
        theirs.write_bytes(ours.read_bytes())
        bench.started()
        bench.judge(target())
        assert bench.started() == ["fp8_e4m3"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_directory_that_cannot_be_written_is_a_note(self, bench: Bench) -> None:
        (bench.root / "cache").mkdir(mode=0o500)
        assert bench.judge(target()).verdict is VerdictKind.PASS
        assert len(bench.store.notes()) == 1

    def test_a_file_in_its_place_is_a_note(self, bench: Bench) -> None:
        (bench.root / "cache").write_text("no directory")
        for _ in range(2):
            assert bench.judge(target()).verdict is VerdictKind.PASS
            [note] = bench.store.notes()
            assert "--kv-no-cache" in note

    def test_where_no_file_can_have_two_names_it_is_copied(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr("os.link", refuse)
        bench.judge(target())
        assert all(file.stat().st_nlink == 1 for file in bench.kept)
        bench.started()
        assert bench.judge(target()).source == "cached"
        assert bench.started() == []


class TestSize:
    def test_the_engine_that_was_used_least_recently_goes_first(self, bench: Bench) -> None:
        for dtype in ("fp8_e4m3", "fp8_e5m2"):
            bench.session(Request(target(dtype), (SET,))).outputs(target(dtype), SET)
        bench.session(Request(target(), (SET,))).outputs(target(), SET)  # used again
        bench.limit = sum(file.stat().st_size for file in bench.kept)
        bench.session(Request(target("nvfp4"), (SET,))).outputs(target("nvfp4"), SET)
        assert {path.name.split("-")[2] for path in bench.cache.iterdir() if path.is_dir()} == {
            "fp8_e4m3",
            "nvfp4",
        }

    def test_what_is_larger_alone_than_all_may_be_is_not_kept(self, bench: Bench) -> None:
        bench.limit = 100
        assert bench.judge(target()).verdict is VerdictKind.PASS
        assert bench.kept == []

    def test_nothing_else_in_the_directory_is_touched(self, bench: Bench) -> None:
        other = bench.root / "cache" / "models" / "weights"
        other.parent.mkdir(parents=True)
        other.write_bytes(bytes(1000))
        bench.limit = 0
        bench.judge(target())
        assert other.exists()


def test_runs_that_keep_and_take_at_once_disturb_nobody(bench: Bench) -> None:
    def run(number: int) -> Verdict:
        own = Bench(bench.root / str(number))
        own.root.mkdir()
        (own.root / "cache").symlink_to(bench.root / "cache")
        own.limit = 30_000 if number % 4 == 0 else 1 << 30
        return own.judge(target())

    (bench.root / "cache").mkdir()
    with ThreadPoolExecutor(4) as threads:
        verdicts = list(threads.map(run, range(12)))
    assert {verdict.verdict for verdict in verdicts} == {VerdictKind.PASS}
    assert len({str(verdict.metrics) for verdict in verdicts}) == 1
    assert not list(bench.cache.glob("*/.*"))
