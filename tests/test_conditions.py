"""Serving conditions: a target is held against itself, and what did not come about is never a pass."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import scripted
from hypothesis import given
from hypothesis import strategies as st
from plugin_project import GATE, engines_started, known_bad, results

import pytest_kvcache as kv
from pytest_kvcache import conditions
from pytest_kvcache.conditions import BATCH, SHIPPED, Condition
from pytest_kvcache.engines import Engine
from pytest_kvcache.engines.devices import DevicePool
from pytest_kvcache.engines.following import first_part, follow
from pytest_kvcache.engines.launch import child_engine_factory
from pytest_kvcache.errors import ConditionError, EngineError, UsageError
from pytest_kvcache.markers import KvSensitive
from pytest_kvcache.plan import Following, Request, Target, Texts, make_plan
from pytest_kvcache.records import (
    Counts,
    PlannedConditions,
    PlannedScores,
    Score,
    ScoreRequest,
    ScoringPath,
)
from pytest_kvcache.serving import planned_conditions
from pytest_kvcache.session import Session
from pytest_kvcache.store import RunStore

AGAIN, ALONE, CONTINUED, CHUNKED, PREEMPTED = (
    SHIPPED[name] for name in ("again", "alone", "continued", "chunked", "preempted")
)
BASELINE = scripted.spec("auto")
FP8 = scripted.spec("fp8_e4m3")
SMALL = scripted.prompt_set("small")
OTHER = scripted.prompt_set("other", prompts=5)
PENALISED = scripted.prompt_set("penalised", repetition_penalty=1.1)


class TestPlan:
    """What conditions ask of engines."""

    TARGET = scripted.target(FP8, BASELINE)

    def test_a_targets_own_engine_follows_in_a_plain_batch_and_then_in_each_manner(self) -> None:
        baseline, own = make_plan([Request(self.TARGET, (SMALL,), conditions=(ALONE, AGAIN))]).jobs
        assert (baseline.spec, baseline.follow, baseline.generate) == (BASELINE, (), (SMALL,))
        texts = Texts(SMALL, BASELINE)
        assert own.follow == tuple(Following(texts, manner) for manner in ("batch", "alone", "again"))
        assert own.reads == (texts,)

    def test_other_engine_arguments_need_a_twin_that_writes_nothing(self) -> None:
        _, own, twin = make_plan([Request(self.TARGET, (SMALL, OTHER), conditions=(CHUNKED,))]).jobs
        assert twin.label == "model-fp8_e4m3+chunked"
        assert twin.spec == replace(FP8, engine_args=CHUNKED.engine_args)
        assert (twin.generate, twin.score, twin.baseline) == ((), (), BASELINE)
        assert (
            twin.follow == own.follow == tuple(Following(Texts(s, BASELINE), "batch") for s in (SMALL, OTHER))
        )

    def test_a_twins_arguments_stand_beside_the_targets_own_and_before_them(self) -> None:
        target = scripted.target(scripted.spec("fp8_e4m3", max_num_seqs=8, zeta=1), BASELINE)
        served = target.under(CHUNKED)
        assert served.spec.arguments() == {
            "enable_chunked_prefill": True,
            "max_num_batched_tokens": 64,
            "max_num_seqs": 64,
            "zeta": 1,
        }
        assert [name for name, _ in served.spec.engine_args] == sorted(served.spec.arguments())

    def test_many_tests_of_one_condition_share_its_twin(self) -> None:
        requests = [Request(self.TARGET, (s,), conditions=(CHUNKED,)) for s in (SMALL, OTHER, SMALL)]
        assert [job.spec.engine_args for job in make_plan(requests).jobs] == [(), (), CHUNKED.engine_args]

    def test_texts_that_are_not_scored_are_not_followed(self) -> None:
        _, own = make_plan([Request(self.TARGET, (SMALL, PENALISED), conditions=(AGAIN,))]).jobs
        assert {each.texts.prompt_set.name for each in own.follow} == {"small"}

    def test_a_run_without_conditions_follows_nothing(self) -> None:
        plan = make_plan([Request(self.TARGET, (SMALL,), with_scores=True)])
        assert [job.follow for job in plan.jobs] == [(), ()]

    def test_a_goldens_texts_are_followed(self) -> None:
        golden = replace(BASELINE, golden="auto")
        request = Request(scripted.target(FP8, golden), (SMALL,), conditions=(AGAIN, CHUNKED))
        plan = make_plan([request])
        assert plan.goldens == (Texts(SMALL, golden),)
        assert [{each.texts.writer for each in job.follow} for job in plan.jobs] == [{golden}] * 2


class TestMarker:
    """What a test may declare."""

    def declared(self, value: Any) -> tuple[Condition, ...]:
        return KvSensitive.from_arguments("test_it", [], {"conditions": value}).serving_conditions()

    def test_shipped_conditions_go_by_their_names(self) -> None:
        assert self.declared(["again", "chunked"]) == (AGAIN, CHUNKED)

    def test_a_tests_own_are_engine_arguments(self) -> None:
        (own,) = self.declared({"two-at-a-time": {"max_num_seqs": 2}})
        assert own == Condition("two-at-a-time", engine_args=(("max_num_seqs", "2"),))

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            (["agian"], "no 'agian'; there are batch, again, alone, continued, chunked"),
            ("again", "takes a list, e.g. conditions="),
            (3, "takes a list, e.g. conditions="),
            ([["again"]], "takes a list, e.g. conditions="),
            ({7: {"max_num_seqs": 2}}, "takes a list, e.g. conditions="),
            ({"mine": {7: 2}}, "every name has engine arguments"),
            ({"chunked": {"max_num_seqs": 2}}, "name of a shipped condition"),
            ({"mine": {}}, "at least one engine argument"),
            ({"mine": 3}, "every name has engine arguments"),
            ({"mine": {"model": "other"}}, "may not set model"),
            ({"mine": {"kv_cache_dtype": "auto"}}, "may not set kv_cache_dtype"),
            ({"mine": {"x": object()}}, "must be JSON values"),
        ],
    )
    def test_what_is_no_condition_is_refused_in_one_line(self, value: Any, complaint: str) -> None:
        with pytest.raises(UsageError, match="test_it: kv_sensitive") as caught:
            self.declared(value)
        assert complaint in str(caught.value)
        assert "\n" not in str(caught.value)


def make_target(**arguments: Any) -> Target:
    return scripted.target(scripted.spec("fp8_e4m3", **arguments), scripted.spec("auto", **arguments))


def make_session(tmp_path: Path, *requests: Request) -> Session:
    devices = DevicePool(1, kind="cpu", device_ids=[0], lock_dir=tmp_path)
    factory = child_engine_factory(30.0, scripted.COMMAND)
    return Session(make_plan(requests), RunStore(tmp_path / "run"), factory, devices)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """One to which no test has declared anything."""
    return make_session(tmp_path)


class TestSession:
    """What becomes of conditions when engines run."""

    def test_scores_tell_their_manner_and_what_came_about(self, session: Session) -> None:
        target = make_target()
        planned = planned_conditions(session, target, [SMALL], [AGAIN, ALONE, CONTINUED, PREEMPTED])
        entries = {name: planned[name]["small"] for name in planned}
        assert {name: (e.manner, e.counts) for name, e in entries.items()} == {
            "batch": ("batch", Counts(0, 0)),
            "again": ("again", Counts(8, 0)),
            "alone": ("alone", Counts(0, 0)),
            "continued": ("continued", Counts(64, 0)),
            "preempted": ("batch", Counts(0, 2)),
        }
        texts = [output.token_ids for output in session.outputs(target.of_baseline(), SMALL)]
        for entry in entries.values():
            assert [score.token_ids for score in entry.scores] == texts
            assert entry.text_of == target.baseline.key
        assert entries["preempted"].spec == target.under(PREEMPTED).spec

    def test_each_engine_and_each_twin_lives_once(self, tmp_path: Path) -> None:
        target, asked = make_target(prompt_tokens=100), (AGAIN, CHUNKED, PREEMPTED)
        session = make_session(tmp_path, Request(target, (SMALL, OTHER), conditions=asked))
        for _ in range(2):
            planned_conditions(session, target, [SMALL, OTHER], asked)
        assert [report.label for report in RunStore(tmp_path / "run").reports()] == [
            "model-auto",
            "model-fp8_e4m3",
            "model-fp8_e4m3+chunked",
            "model-fp8_e4m3+preempted",
        ]

    @pytest.mark.parametrize(
        ("condition", "arguments", "complaint"),
        [
            (AGAIN, {"never_caches": True}, "no prompt was read from the prefix cache"),
            (CONTINUED, {"never_caches": True}, "nothing that it had decoded was read back"),
            (CONTINUED, {"ends_after": 14}, "give longer texts, of more than 16 tokens"),
            (PREEMPTED, {"preempts": 0}, "of 4 sequences none was preempted"),
            (PREEMPTED, {"preempts": None}, "does not tell whether a sequence was preempted"),
            (CHUNKED, {}, "its longest prompt of 3 tokens fits into one step of 64"),
        ],
    )
    def test_a_condition_that_did_not_come_about_is_an_error(
        self, session: Session, condition: Condition, arguments: dict[str, Any], complaint: str
    ) -> None:
        with pytest.raises(EngineError, match=complaint):
            planned_conditions(session, make_target(**arguments), [SMALL], [condition])

    def test_a_condition_that_cannot_come_about_is_told_from_one_that_did_not(
        self, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for condition in (AGAIN, CONTINUED):
            with pytest.raises(ConditionError, match="prefix caching off"):
                planned_conditions(session, make_target(enable_prefix_caching=False), [SMALL], [condition])
        uncached = SHIPPED["uncached"]
        with pytest.raises(ConditionError, match="served as uncached asks anyway"):
            planned_conditions(session, make_target(enable_prefix_caching=False), [SMALL], [uncached])
        monkeypatch.setattr("shutil.which", lambda _: None)
        with pytest.raises(ConditionError, match="needs a C\\+\\+ compiler"):
            planned_conditions(session, make_target(), [SMALL], [SHIPPED["compiled"]])

    @pytest.mark.parametrize(
        ("condition", "resolved"),
        [
            (SHIPPED["compiled"], {"enforce_eager": False}),
            (SHIPPED["whole"], {"chunked_prefill": False}),
            (SHIPPED["uncached"], {"prefix_caching": False}),
        ],
    )
    def test_a_twin_that_would_run_as_the_target_resolved_by_itself_is_not_started(
        self, session: Session, tmp_path: Path, condition: Condition, resolved: dict[str, Any]
    ) -> None:
        with pytest.raises(ConditionError, match=f"served as {condition.name} asks anyway"):
            planned_conditions(session, make_target(reports=resolved), [SMALL], [condition])
        assert [report.label for report in RunStore(tmp_path / "run").reports()] == ["model-fp8_e4m3"]

    def test_an_engine_that_cannot_follow_breaks_nothing_else(self, session: Session) -> None:
        target = make_target(cannot_follow=True)
        with pytest.raises(EngineError, match="cannot follow a given text"):
            planned_conditions(session, target, [SMALL], [AGAIN])
        assert len(session.scores(target, SMALL).scores) == 4
        assert len(session.outputs(target, SMALL)) == 4

    def test_a_twin_that_does_not_start_breaks_nothing_else(self, session: Session) -> None:
        target = make_target()
        broken = conditions.condition("broken", {"fail_at": "loading"})
        with pytest.raises(EngineError, match="scripted failure while loading"):
            planned_conditions(session, target, [SMALL], [broken])
        assert len(planned_conditions(session, target, [SMALL], [AGAIN])) == 2

    def test_sets_that_are_not_scored_are_a_usage_error(self, session: Session) -> None:
        with pytest.raises(UsageError, match="declare another set for kv_conditions"):
            planned_conditions(session, make_target(), [PENALISED], [AGAIN])

    def test_a_set_whose_writing_preempted_is_noted(self, session: Session, tmp_path: Path) -> None:
        outputs = session.outputs(make_target(preempts=3), SMALL)
        assert outputs.counts.preemptions == 3
        (note,) = RunStore(tmp_path / "run").notes()
        assert "preempted 3 times while it wrote small" in note


class TestContinued:
    """How texts are cut in two, and the score of both parts is that of the whole text."""

    @pytest.mark.parametrize(
        ("prompt", "text", "part"),
        [
            (3, 16, 14),
            (3, 15, 14),
            (3, 14, None),
            (15, 3, 2),
            (16, 3, None),
            (16, 18, 17),
            (3, 160, 78),
            (0, 0, None),
        ],
    )
    def test_the_first_part_fills_a_block_by_decoding_and_leaves_something(
        self, prompt: int, text: int, part: int | None
    ) -> None:
        assert first_part(prompt, text, 16) == part

    @given(prompt=st.integers(1, 999), text=st.integers(1, 400), block=st.sampled_from([1, 16, 32, 128]))
    def test_what_is_read_back_are_whole_blocks_of_which_the_last_is_decoded(
        self, prompt: int, text: int, block: int
    ) -> None:
        part = first_part(prompt, text, block)
        boundaries = [end for end in range(prompt + 1, prompt + text - 1) if end % block == 0]
        assert (part is None) == (not boundaries)
        if part is not None:
            chosen = prompt + part - 1
            middle = prompt + text / 2
            assert chosen in boundaries
            assert abs(chosen - middle) == min(abs(end - middle) for end in boundaries)

    def test_the_beginning_is_decoded_on_an_empty_cache_and_the_rest_on_what_it_left(self) -> None:
        engine = Recorder()
        long, short = ScoreRequest("long", (1, 2), tuple(range(30))), ScoreRequest("short", (1,), (5, 6, 7))
        scores, counts = follow(cast(Engine, engine), [long, short], "continued", top_k=1)
        assert engine.asked == [
            ([ScoreRequest("long", (1, 2), tuple(range(15))), short], "decode", False),
            ([ScoreRequest("long", (1, 2, *range(15)), tuple(range(15, 30)))], "decode", True),
        ]
        assert counts == Counts(2, 0)
        assert [(score.prompt_id, score.token_ids) for score in scores] == [
            ("long", tuple(range(30))),
            ("short", (5, 6, 7)),
        ]
        (whole, _), _ = follow(cast(Engine, engine), [long, short], "batch", top_k=1)
        assert scores[0] == whole


class Recorder:
    """An engine with blocks of 16 tokens that gives every token its own number as its log-probability."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[ScoreRequest], ScoringPath | None, bool]] = []
        self.provenance = SimpleNamespace(block_size=16)

    @property
    def counts(self) -> Counts:
        return Counts(len(self.asked), 0)

    def score(
        self,
        requests: Sequence[ScoreRequest],
        *,
        top_k: int,
        path: ScoringPath | None = None,
        keep_prefix_cache: bool = False,
    ) -> tuple[Score, ...]:
        self.asked.append((list(requests), path, keep_prefix_cache))
        return tuple(self._score(request, top_k) for request in requests)

    @staticmethod
    def _score(request: ScoreRequest, top_k: int) -> Score:
        ids, n = request.token_ids, len(request.token_ids)
        logprobs = struct.pack(f"<{n}f", *ids)
        return Score(request.prompt_id, ids, logprobs, struct.pack(f"<{n}i", *ids), logprobs, top_k)


def test_planned_conditions_name_those_there_are() -> None:
    planned = PlannedConditions((("batch", PlannedScores(())), ("again", PlannedScores(()))))
    assert list(planned) == ["batch", "again"]
    with pytest.raises(KeyError, match=r"alone \(conditions of this test: batch, again\)"):
        planned["alone"]


def test_conditions_are_taken_from_the_fixture_and_more_than_the_plain_batch() -> None:
    with pytest.raises(UsageError, match="conditions takes what kv_conditions gives, not dict"):
        kv.assert_conditions_alike({})  # type: ignore[arg-type]
    plain = PlannedConditions((("batch", PlannedScores(())),))
    with pytest.raises(UsageError, match=r"^assert_conditions_alike: give at least one condition besides"):
        kv.assert_conditions_alike(plain)


def test_counts_add_up_and_what_is_unknown_stays_so() -> None:
    assert Counts(1, 2) + Counts(3, 4) == Counts(4, 6)
    assert Counts(1, None) + Counts(3, 4) == Counts(4, None)


def test_a_plain_batch_is_a_condition_like_any_other() -> None:
    assert SHIPPED["batch"] is BATCH
    assert BATCH.engine_args == ()


TEST = """
import pytest
import pytest_kvcache as kv

@pytest.mark.kv_sensitive(prompts="smoke", conditions=["again"])
def test_again(kv_conditions):
    kv.assert_conditions_alike(kv_conditions)
"""


class TestPlugin:
    """Conditions in a team's own tests."""

    def test_candidates_are_compared_with_themselves(self, project: pytest.Pytester) -> None:
        project.makepyfile(TEST)
        project.runpytest(*GATE).assert_outcomes(passed=1)
        assert engines_started(project) == ["auto", "fp8_e4m3"]

    def test_a_condition_that_changes_the_scores_fails_with_codes(self, project: pytest.Pytester) -> None:
        project.makepyfile(TEST)
        result = project.runpytest(*GATE, "--kv-engine-arg=candidate_kept_delta_nll=0.5")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "*QualityError: again: the candidate is not proven to be within the margins:*",
                "*delta NLL, in nats per token, is 0.500 * beyond the margin*",
            ]
        )

    def test_a_candidate_without_numbers_fails_by_that_and_not_by_a_condition(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(TEST)
        result = project.runpytest(*GATE, "--kv-engine-arg=candidate_delta_nll=NaN")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["*QualityError: log-probabilities of the candidate at * are not finite*"]
        )

    def test_a_declared_divergence_from_the_baseline_excuses_none_from_itself(
        self, project: pytest.Pytester
    ) -> None:
        project.makepyfile(TEST)
        differs = "--kv-engine-arg=candidate_kept_delta_nll=0.5"
        declared = known_bad(project, "delta-nll", "kld", "same-top")
        project.runpytest(*GATE, differs, declared).assert_outcomes(failed=1)
        declared = known_bad(project, "conditions-differ")
        project.runpytest(*GATE, differs, declared).assert_outcomes(xfailed=1)

    def test_where_prefix_caching_is_off_the_test_skips_and_says_so(self, project: pytest.Pytester) -> None:
        project.makepyfile(TEST)
        result = project.runpytest(*GATE, "-rs", "--kv-engine-arg=enable_prefix_caching=false")
        result.assert_outcomes(skipped=1)
        result.stdout.fnmatch_lines(["*vLLM resolved prefix caching off*"])

    def test_what_did_not_come_about_is_one_red_line(self, project: pytest.Pytester) -> None:
        project.makepyfile(TEST)
        result = project.runpytest(*GATE, "--kv-engine-arg=never_caches=true")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*again of smoke: no prompt was read from the prefix cache; give*"])
        assert "Traceback" not in result.stdout.str()

    def test_a_name_that_does_not_exist_is_a_usage_error(self, project: pytest.Pytester) -> None:
        project.makepyfile(TEST.replace('"again"]', '"agian"]'))
        result = project.runpytest(*GATE)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*test_again*no 'agian'; there are batch, again*"])

    def test_the_fixture_without_a_condition_is_a_usage_error(self, project: pytest.Pytester) -> None:
        project.makepyfile(TEST.replace(', conditions=["again"]', ""))
        result = project.runpytest(*GATE)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*uses kv_conditions and declares none*"])

    def test_twins_are_reported_as_engines(self, project: pytest.Pytester) -> None:
        project.makepyfile(
            TEST.replace('=["again"]', '={"few": {"max_num_seqs": 2}}').replace("again", "few")
        )
        project.runpytest(*GATE).assert_outcomes(passed=1)
        assert [engine["label"] for engine in results(project)["engines"]] == [
            "model-auto",
            "model-fp8",
            "model-fp8+few",
        ]
        assert len(engines_started(project)) == 3

    @pytest.mark.parametrize(
        "suite", ["prefix_cache", "batching", "chunked_prefill", "preemption", "compiled"]
    )
    def test_the_shipped_suites_pass_where_no_condition_matters(
        self, project: pytest.Pytester, suite: str
    ) -> None:
        path = Path(__file__).parents[1] / "suites" / f"test_{suite}.py"
        project.makepyfile(path.read_text(encoding="utf-8"))
        result = project.runpytest(*GATE, "--kv-engine-arg=prompt_tokens=300")
        assert result.ret == 0
        assert not result.parseoutcomes().keys() & {"skipped", "errors", "failed"}

    def test_the_shipped_suite_of_talks_sees_what_is_read_back_wrongly(
        self, project: pytest.Pytester
    ) -> None:
        suite = Path(__file__).parents[1] / "suites" / "test_multi_turn.py"
        project.makepyfile(suite.read_text(encoding="utf-8"))
        args = (*GATE, "-m", "kv_full", "-k", "continued")
        project.runpytest(*args).assert_outcomes(passed=1)
        result = project.runpytest(*args, "--kv-engine-arg=candidate_kept_delta_nll=0.5")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*QualityError: continued: the candidate is not proven to be within*"])

    def test_an_unchanged_second_run_starts_no_engine(self, project: pytest.Pytester) -> None:
        project.makepyfile(TEST.replace('=["again"]', '=["again", "alone", "continued", "uncached"]'))
        model = project.mkdir("model")
        (model / "config.json").write_text("{}")
        (model / "model.bin").write_bytes(bytes(1000))
        for _ in range(2):
            project.runpytest(GATE[0], "--kv-models=model").assert_outcomes(passed=1)
        assert len(engines_started(project)) == 3
