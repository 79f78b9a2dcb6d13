"""Studies with stages through the command: trials are promoted, killed and resumed, refused, judged and added to.

Tests session/promotion.py, session/further_trials.py, session/promoted_trials.py, cli/run.py and commands/run.py.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder, write_trial
from watchers import Silent

from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.findings.study_findings import FINDINGS
from tunectl.commands.export import export_study, read_for_export
from tunectl.commands.launch import LaunchRequest, launch
from tunectl.commands.next_round import next_round
from tunectl.commands.report import report_study
from tunectl.commands.retrain import RetrainRequest, chosen_trials, missing_retrains
from tunectl.core.errors import UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import FactorySignature, PlannedTrial, WorkloadReference
from tunectl.exchange.export_folder import database_url
from tunectl.language.campaign import read_campaign
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.open_study import open_study
from tunectl.session.promotion import promotion, promotion_notes
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice
from tunectl.session.trial_requests import trial_request
from tunectl.session.written_report import StudyReport
from tunectl.space.trial_plan import trial_seed
from tunectl.store.plan_file import append_plan, read_plan
from tunectl.store.trial_files import write_request

PROGRAM = """\
study: small
workload:
  command: [sh, train.sh, "{{learning_rate}}", "{{max_train_steps}}", "{{trial.seed}}"]
  metrics: [{{regex: "{0}"}}]
objective: {{metric: loss, direction: minimize}}
training: {{max_train_steps: 4}}
hyperparameters:
  learning_rate: {{role: nuisance, range: [0.1, 0.9]}}
search: {{trials: 4, promote: [{{keep: 2, max_train_steps: 8, despite_boundary: true}}]}}
"""
SCRIPT = """\
for step in $(seq 1 $2); do awk "BEGIN {print \\"step=$step loss=\\" 1 - $1 * $step / 9 + ($3 % 100) / 1e6}"; done
"""


def program(place: Path) -> Path:
    """A study of a program without torch, whose loss falls with the learning rate and the length."""
    (place / "train.sh").write_text(SCRIPT)
    study = place / "small.yaml"
    study.write_text(PROGRAM.format(r"step=(?P<step>\\d+) loss=(?P<loss>\\S+)"))
    return study


def results(folder: Path) -> dict[str, object]:
    """What a run leaves that may not depend on how often it was killed."""
    rows = list(csv.DictReader((folder / "tables" / "trials.csv").read_text().splitlines()))
    kept = [{name: row[name] for name in ("trial", "stage", "seed", "best_value", "final_value")} for row in rows]
    return {"plan": (folder / "plan.jsonl").read_text(), "rows": kept}


def cut_plan(folder: Path, lines: int, torn: int = 0) -> None:
    """Leave this number of lines in the plan, and a torn one, and the folders of these trials alone."""
    plan = folder / "plan.jsonl"
    found = plan.read_text().splitlines(keepends=True)
    plan.write_text("".join(found[:lines]) + (found[lines][:torn] if torn else ""))
    for number in range(lines, len(found)):
        shutil.rmtree(folder / "trials" / f"{number:05d}")
    (folder / "study.db").unlink()


def test_the_best_trials_are_promoted_whenever_the_run_is_killed(tunectl, tmp_path):
    study = program(tmp_path)
    called = tunectl("run", study)
    assert called.code == 0, called.err
    folder = tmp_path / "runs" / "small"
    whole = results(folder)
    plan = read_plan(folder / "plan.jsonl")
    short, long = plan[:4], plan[4:]
    assert 2 <= len(long) <= 4
    assert [trial.stage for trial in plan] == [0] * 4 + [1] * len(long)
    for trial in long:
        (origin,) = [item for item in short if item.point == trial.point]
        same = ("setting", "point", "coordinates", "hyperparameters", "trial_kind", "repeat")
        assert [getattr(trial, name) for name in same] == [getattr(origin, name) for name in same]
        request = json.loads((folder / "trials" / f"{trial.trial:05d}" / "request.json").read_text())
        assert (request["max_train_steps"], request["seed"]) == (8, trial.seed)
    assert len({trial.seed for trial in plan}) == len(plan)
    assert f"stage 1 (8 steps): {len(long)} trials of stage 0 (4 steps) are trained anew" in called.err
    assert "stage 1 (8 steps)" in called.out.splitlines()[0]
    # After the last short trial; while the plan is written, with a promoted trial that has not ended.
    for lines, torn in ((4, 0), (5, 30)):
        copy = tmp_path / f"killed-{lines}"
        shutil.copytree(folder, copy)
        cut_plan(copy, lines, torn)
        (copy / "trials" / "00004" / "result.json").unlink(missing_ok=True)
        again = tunectl("run", study, "--dir", copy, "--quiet")
        assert (again.code, results(copy)) == (0, whole), lines


RATE = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}
TWO = {"optimizer": "{role: scientific, values: [sgd, adam]}", **RATE}


def staged_text(keep: int = 2, trials: int = 6, names: dict[str, str] = TWO, **sections: str) -> str:
    search = f"{{trials: {trials}, promote: [{{keep: {keep}, max_train_steps: 20000}}]}}"
    return study_text(names, **{"search": search, **sections})


def added_by(folder: StudyFolder, text: str) -> tuple[list[PlannedTrial], str, list[str]]:
    """The trials that the next run would add, why it adds none, and what it prints."""
    watcher = Silent()
    spec = parse_study(text, folder.path.parent / "study_file.yaml")
    with open_study(spec, folder.path, watcher) as study:
        found = promotion(study)
        return list(found.trials), found.stopped, promotion_notes(study, found.trials)


def spec_in(folder: StudyFolder) -> StudySpec:
    """The study of a folder, as its own file would be read."""
    return parse_study(folder.study.read_text(), folder.path.parent / "study_file.yaml")


def judged(folder: StudyFolder, stage: int | None = None) -> StudyReport:
    return report_study(folder.path, ObjectiveChoice(), stage=stage, draw=False)


def by_trial(values: dict[int, float | None]) -> Callable[[PlannedTrial], float | None]:
    return lambda plan: values.get(plan.trial, 0.9)


def test_each_setting_promotes_its_best_feasible_trials_in_turn(tmp_path):
    # Settings alternate: even trials are sgd's, odd ones adam's.
    values = {0: 0.5, 2: 0.2, 4: None, 6: 0.3, 8: 0.6, 10: 0.7, **dict.fromkeys((1, 3, 5, 7, 9), None), 11: 0.4}
    folder = made_up_folder(tmp_path / "study", staged_text(), by_trial(values))
    trials, stopped, notes = added_by(folder, staged_text())
    assert stopped == ""
    assert [(trial.trial, trial.setting, trial.point) for trial in trials] == [(12, 0, 1), (13, 1, 5), (14, 0, 3)]
    assert all(trial.training["max_train_steps"] == 20000 for trial in trials)
    assert notes == [
        "stage 1 (20,000 steps): 3 trials of stage 0 (2,000 steps) are trained anew",
        "  optimizer=sgd: trials 2, 6 (the best 2 of 5)",
        "  optimizer=adam: trial 11 (only 1 completed with a value, and 2 were asked for)",
    ]


def test_a_setting_without_a_feasible_trial_promotes_none_and_says_so(tmp_path):
    folder = made_up_folder(
        tmp_path / "study", staged_text(), lambda plan: None if plan.setting else 0.2 + plan.trial / 10
    )
    trials, _, notes = added_by(folder, staged_text())
    assert [trial.setting for trial in trials] == [0, 0]
    assert notes[-1] == "  optimizer=adam: none, as no trial completed with a value of valid/error_rate"


def test_nothing_is_promoted_before_all_trials_have_ended_and_failed_ones_never_are(tmp_path):
    folder = made_up_folder(tmp_path / "study", staged_text(names=RATE), lambda plan: 0.2 + plan.trial / 10)
    result = folder.trial(0).result
    failed = {**json.loads(result.read_text()), "state": "failed", "reason": "error"}
    result.unlink()
    assert added_by(folder, staged_text(names=RATE))[:2] == ([], "")
    failed.pop("crc32", None)
    result.write_text(json.dumps(failed))
    assert [trial.point for trial in added_by(folder, staged_text(names=RATE))[0]] == [1, 2]


def test_trials_that_were_promoted_stay_and_a_larger_keep_adds_others(tmp_path):
    folder = made_up_folder(tmp_path / "study", staged_text(names=RATE), lambda plan: 0.2 + plan.trial / 10)
    first, _, _ = added_by(folder, staged_text(names=RATE))
    append_plan(folder.plan, first)
    for trial in first:
        write_trial(folder, trial, "valid/error_rate", 0.1)
    assert added_by(folder, staged_text(names=RATE))[0] == []
    more, _, _ = added_by(folder, staged_text(keep=3, names=RATE))
    assert [(trial.trial, trial.point) for trial in more] == [(8, 2)]
    # More short trials, of which one is better than all: it is added, and the earlier ones stay.
    with open_study(
        parse_study(staged_text(trials=7, keep=3, names=RATE), tmp_path / "study_file.yaml"), folder.path, Silent()
    ) as study:
        (new,) = study.left()
        assert (new.trial, new.point, new.stage) == (8, 6, 0)
    write_trial(folder, new, "valid/error_rate", 0.01)
    added, _, _ = added_by(folder, staged_text(trials=7, keep=3, names=RATE))
    assert [(trial.trial, trial.point) for trial in added] == [(9, 6)]


def crowded(trials: int = 20, **entry: str) -> tuple[str, Callable[[PlannedTrial], float]]:
    """A study whose trials get better towards the upper end of the learning rate."""
    more = "".join(f", {name}: {value}" for name, value in entry.items())
    search = f"{{trials: {trials}, promote: [{{keep: 3, max_train_steps: 20000{more}}}]}}"
    return study_text(RATE, search=search), lambda plan: 0.9 - 0.8 * plan.coordinates[0] ** 2


def test_an_open_boundary_stops_promotion_with_exit_code_1_until_the_study_says_otherwise(tunectl, tmp_path):
    text, values = crowded()
    folder = made_up_folder(tmp_path / "study", text, values)
    trials, stopped, _ = added_by(folder, text)
    assert trials == []
    assert "crowd the end of learning_rate (search-boundary)" in stopped
    assert "tunectl next" in stopped
    assert "search.promote[0]" in stopped
    called = tunectl("run", tmp_path / "study_file.yaml", "--dir", folder.path, "--json")
    assert (called.code, called.json()["not_promoted"], called.json()["complete"]) == (1, stopped, True)
    assert (
        "no trial is promoted to stage 1 (20,000 steps)"
        in tunectl("run", tmp_path / "study_file.yaml", "--dir", folder.path).messages
    )
    assert len(added_by(folder, crowded(despite_boundary="true")[0])[0]) == 3


@pytest.fixture
def two_stages(tmp_path: Path) -> StudyFolder:
    """A finished study of two stages: the long trials are better, and in the other order."""
    text = staged_text(keep=4, trials=8)
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.2 + 0.05 * plan.point)
    added, _, _ = added_by(folder, text)
    append_plan(folder.plan, added)
    for trial in added:
        write_trial(folder, trial, "valid/error_rate", 0.15 - 0.02 * trial.point)
    return folder


def test_every_command_judges_the_last_complete_stage_and_says_so(two_stages, tunectl):
    folder = two_stages.path
    best = 22  # point 3 of sgd, trained long
    status = tunectl("status", folder)
    assert f"(trial {best}, step 50), of stage 1 (20,000 steps)" in status.out
    assert "  stage 0 (2,000 steps): 16 of 16 trials have ended\n  stage 1 (20,000 steps): 8 of 8" in status.out
    report = judged(two_stages)
    assert report.judged == "stage 1 (20,000 steps)"
    assert [(item.trials, item.best_trial, item.stage) for item in report.settings] == [(4, best, 1), (4, best + 1, 1)]
    (agree,) = [item for item in report.findings if item.id == "stages-agree"]
    assert (agree.level, agree.numbers["rank_correlation"]) == ("warning", pytest.approx(-1))
    earlier = judged(two_stages, 0)
    assert [(item.trials, item.best_trial) for item in earlier.settings] == [(8, 0), (8, 1)]
    assert "stages-agree" not in [item.id for item in earlier.findings]
    assert earlier.page.name == "report.stage-0.html"
    listed = tunectl("ls", folder, "--json").json()["studies"][0]
    assert (listed["best_trial"], listed["stage"]) == (best, 1)
    refused = tunectl("report", folder, "--stage", 2)
    assert (refused.code, "stages 0 to 1" in refused.err) == (2, True)
    table = list(csv.DictReader((folder / "tables" / "stages.csv").read_text().splitlines()))
    assert [(row["trial"], row["rank"], row["earlier_rank"]) for row in table[:4]] == [
        ("22", "1.0", "4.0"),
        ("20", "2.0", "3.0"),
        ("18", "3.0", "2.0"),
        ("16", "4.0", "1.0"),
    ]


def test_a_stage_that_has_not_ended_is_not_judged(two_stages, tunectl):
    (two_stages.trial(22).result).unlink()
    assert judged(two_stages).stage == 0
    assert "of stage 0 (2,000 steps)" in tunectl("status", two_stages.path).out


def test_compare_judges_the_long_trials(two_stages, tunectl):
    found = tunectl("compare", two_stages.path, "--json").json()
    assert (found["old"]["trial"], found["new"]["trial"]) == (22, 23)
    assert found["notes"] == ["both are judged by stage 1 (20,000 steps)"]
    assert found["old"]["study_deviation"] is None


def test_a_launch_of_a_promoted_trial_has_its_own_length_and_schedule(tmp_path, monkeypatch):
    text = staged_text(names={**TWO, "schedule": "linear"}, keep=1)
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.2 + 0.05 * plan.point)
    added, _, _ = added_by(folder, text)
    append_plan(folder.plan, added)
    for trial in added:
        write_trial(folder, trial, "valid/error_rate", 0.1 + 0.01 * trial.point)
    monkeypatch.chdir(tmp_path)
    Path("campaign.yaml").write_text("goal: x\n")
    now = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    found = {
        trial: launch(LaunchRequest(f"study/{trial}", "x", None, anyway=True, now=now)).launch
        for trial in (added[0].trial, 0)
    }
    long, short = found[added[0].trial], found[0]
    assert long.max_train_steps == 20000
    assert (long.values["decay_steps"], long.values["post_warmup_steps"]) == (2000, 18000)
    assert short.max_train_steps == 2000
    assert "decay_steps" not in short.values
    assert read_campaign(Path()).launched == (long, short)


@pytest.mark.parametrize("has_index", [True, False], ids=["with its index", "without an index"])
def test_damaged_lines_of_promoted_trials_and_their_retrains_are_restored(two_stages, has_index):
    plan = read_plan(two_stages.plan)
    spec = spec_in(two_stages)
    again = replace(plan[22], trial=24, repeat=1, seed=trial_seed(0, 24), trial_kind="retrain")
    append_plan(two_stages.plan, [again])
    write_trial(two_stages, again, "valid/error_rate", 0.1)
    before = [*plan, again]
    for trial in before:
        reference = WorkloadReference("m:f", "f", module="m")
        write_request(two_stages.trial(trial.trial), trial_request(spec, reference, FactorySignature(), trial))
    with open_study(spec, two_stages.path, Silent()):
        pass  # the index has all of them
    lines = two_stages.plan.read_text().splitlines(keepends=True)
    for number in (16, 21, 24):
        lines[number] = lines[number][:40] + "\n"
    two_stages.plan.write_text("".join(lines))
    if not has_index:
        two_stages.index.unlink()
    said: list[str] = []
    with study_snapshot(two_stages.path, said.append) as found:
        assert list(found.trials) == before
    assert any("the line of trials 16, 21, 24 is missing or wrong" in line for line in said)


@pytest.mark.parametrize("stage", [None, 0], ids=["long", "short"])
def test_the_best_trial_of_a_stage_is_trained_again_at_its_length(two_stages, stage):
    with open_study(spec_in(two_stages), two_stages.path, Silent()) as study:
        chosen = chosen_trials(study, RetrainRequest(1, 2, stage=stage))
        (first, second) = missing_retrains(study, chosen, 2)
    assert (first.stage, first.point) == ((1, 3) if stage is None else (0, 0))
    assert first.training.get("max_train_steps") == (20000 if stage is None else None)
    assert (first.repeat, second.repeat, second.seed) == (1, 2, trial_seed(0, 25))


def test_a_stage_is_not_trained_again_before_all_its_trials_have_ended(two_stages):
    two_stages.trial(23).result.unlink()
    with open_study(spec_in(two_stages), two_stages.path, Silent()) as study:
        with pytest.raises(UsageError, match="1 trials of the search have not ended"):
            chosen_trials(study, RetrainRequest(1, 1))
        assert [item.plan.trial for item in chosen_trials(study, RetrainRequest(1, 1, stage=0))] == [0]


def test_optuna_s_best_trial_is_a_long_one_and_all_exports_have_the_stage(two_stages, tmp_path):
    optuna = pytest.importorskip("optuna")
    place = export_study(two_stages.path, "optuna", str(tmp_path / "o.db")).place
    loaded = optuna.load_study(study_name="study_file", storage=database_url(place))
    assert loaded.best_trial.number == 22
    states = [trial.state.name for trial in loaded.trials]
    assert states == ["PRUNED"] * 16 + ["COMPLETE"] * 8
    assert [trial.user_attrs["stage"] for trial in loaded.trials] == [0] * 16 + [1] * 8
    exported = read_for_export(two_stages.path)
    assert (exported.stage, exported.facts()["judged_stage"]) == (1, 1)
    assert {trial.facts()["stage"] for trial in exported.trials} == {0, 1}


def test_the_next_round_changes_the_length_of_the_stage_that_is_judged(two_stages, tmp_path, monkeypatch):
    change = Change(("training", "max_train_steps"), 40_000, "they still improve")
    monkeypatch.setitem(
        FINDINGS, "still-improving", lambda _: [Finding("still-improving", "warning", "", "", changes=(change,))]
    )
    found = next_round(two_stages.path, tmp_path / "longer.yaml")
    assert found.judged == "stage 1 (20,000 steps)"
    spec = parse_study((tmp_path / "longer.yaml").read_text(), tmp_path / "longer.yaml")
    assert (spec.training.max_train_steps, spec.search.promote[0].max_train_steps) == (2000, 40_000)


def test_check_counts_the_cost_of_all_stages_at_most(tmp_path, tunectl):
    study = tmp_path / "s.yaml"
    study.write_text(staged_text(keep=2, trials=6))
    called = tunectl("check", study)
    assert "stage 1: 20,000 steps, at most 8 trials: the best 2 of each setting" in called.out
    assert "all stages: at most 20 trials, 184,000 steps, 11,776,000 examples" in called.out
    found = tunectl("check", study, "--json").json()
    assert (found["trials"], found["steps"]) == (12, 24_000)
    assert found["all_stages_at_most"] == {
        "trials": 20,
        "steps": 184_000,
        "examples": 184_000 * 64,
        "evaluations": 12 * 21 + 8 * 201,
    }
