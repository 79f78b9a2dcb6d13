"""`history`: the path of the best over the rounds, saturation, and cost."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from campaigns import OTHER_SEEDS, STAGES, promote_best, round_of
from made_up_folders import NOW
from narrowing import of_type

from tunectl.analysis.comparison.campaign_history import CampaignHistory
from tunectl.analysis.findings.campaign_findings import campaign_findings
from tunectl.analysis.findings.findings import Finding
from tunectl.commands.history import campaign_report, read_history
from tunectl.commands.launch import LaunchRequest, launch
from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder
from tunectl.core.records import FactorySignature, TrialRequest, TrialResult, WorkloadReference
from tunectl.language.campaign import read_campaign
from tunectl.language.study_reader import parse_study
from tunectl.session.campaign_folder import find_campaign
from tunectl.session.trial_requests import trial_request
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import write_request

SECONDS = 2.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rounds(home: Path, *values: tuple[float, Sequence[float | None]], **sections: str) -> list[StudyFolder]:
    """A campaign with a round for each best value and its retrains."""
    folders = [round_of(home, f"r{number}", best, again, sections) for number, (best, again) in enumerate(values, 1)]
    (home / "campaign.yaml").write_text(
        f"goal: x\nrounds: [{', '.join(f'{item.path.name}.yaml' for item in folders)}]\n"
    )
    return folders


def timed(folder: StudyFolder) -> None:
    """Give each trial a time: 2 s of training, 1 s of evaluation, half a second of start-up, 100 steps."""
    for place in sorted(folder.trials.iterdir()):
        result = TrialResult(int(place.name), "completed", "", "", None, 100, SECONDS, 1.0, 0.5, "cpu")
        (place / "result.json").write_text(jsontext.encode(result.to_json()))
    folder.index.unlink()


def history_here() -> CampaignHistory:
    return read_history(read_campaign(Path()))[0]


def findings_here() -> list[Finding]:
    return campaign_findings(*read_history(read_campaign(Path())))


def test_the_best_of_each_round_is_that_of_its_search_and_of_its_retrains(home):
    rounds(home, (0.5, [0.6, 0.62, 0.64]), (0.4, [0.55, 0.57, 0.59]), (0.45, [0.5, 0.52, 0.54]))
    history = history_here()
    assert [(item.best_trial, item.best_value, item.retrained_trial) for item in history.rounds] == [
        *((2, 0.5, 2), (2, 0.4, 2), (2, 0.45, 2)),
    ]
    assert history.best_values() == [0.5, 0.4, 0.4]
    assert [history.mean(item) for item in history.rounds] == pytest.approx([0.62, 0.57, 0.52])
    assert history.best_means() == pytest.approx([0.62, 0.57, 0.52])
    assert history.deviation(history.rounds[0]) == pytest.approx(0.02)


def test_a_round_is_not_judged_by_retrains_of_a_shorter_stage_than_that_of_its_best_trial(home):
    (folder,) = rounds(home, (0.5, [0.6, 0.62]), search=f"{{trials: 4, {STAGES}}}")
    long = promote_best(folder, 0.3)
    (found,) = history_here().rounds
    assert (found.best_trial, found.best_value, found.retrained_trial, found.retrains) == (long, 0.3, None, ())


def test_larger_is_better_where_the_objective_says_so(home):
    rounds(
        home,
        *((0.5, [0.4, 0.45, 0.42]), (0.9, [0.8, 0.85, 0.83])),
        objective="{metric: valid/accuracy, direction: maximize}",
    )
    history = history_here()
    # Where larger is better, the made-up trials are best at their last step, by a tenth.
    assert history.best_values() == [history.rounds[0].best_value, history.rounds[1].best_value]
    assert history.best_means() == pytest.approx([1.27 / 3 * 1.1, 2.48 / 3 * 1.1])


def test_rounds_that_gain_nothing_are_called_saturated_and_the_answer_is_to_stop(home):
    again = [0.30, 0.31, 0.32]
    rounds(home, (0.5, [0.6, 0.61, 0.62]), (0.28, again), (0.29, again), (0.27, again))
    (finding,) = findings_here()
    assert (finding.id, finding.level) == ("saturated", "warning")
    assert "The last 2 rounds gained 0, less than the retrain deviation (0.01)" in finding.sentence
    assert finding.action.startswith("stop, or change the model")


def test_without_retrains_it_is_not_known_and_the_commands_for_them_are_shown(home):
    rounds(home, (0.5, []), (0.4, []), (0.3, []))
    (finding,) = findings_here()
    assert finding.id == "saturation-not-known"
    assert finding.command.splitlines()[0].strip() == "tunectl retrain runs/r1 --repeats 5"


def test_the_cost_of_each_round_counts_all_its_trials_and_other_searches(home):
    folders = rounds(home, (0.5, [0.6, 0.62]), (0.4, []))
    folders.append(round_of(home, "r2.search-1", 0.4, (), OTHER_SEEDS))
    for folder in folders:
        timed(folder)
    first, second = history_here().rounds
    assert (first.searches, first.cost.trials, first.cost.device_seconds) == (1, 6, 6 * 3.5)
    assert (second.searches, second.cost.trials, second.cost.examples) == (2, 8, 8 * 100 * 64)
    assert [item.device_seconds for item in history_here().costs()] == [21.0, 49.0]


def test_the_time_of_a_trial_is_counted_for_as_many_devices_as_it_had(home):
    # The study says four by now; before, trial 0 was trained on one and trial 1 on two.
    (folder,) = rounds(home, (0.5, []), resources="{devices_per_trial: 4}")
    timed(folder)
    spec, plans = parse_study(folder.study.read_text(), folder.study), read_plan(folder.plan)
    reference = WorkloadReference("tunectl.workloads.digits:mlp", "mlp", module="tunectl.workloads.digits")
    for plan, devices in zip(plans, (1, 2), strict=False):
        request = trial_request(spec, reference, FactorySignature(), plan)
        write_request(folder.trial(plan.trial), replace(of_type(TrialRequest, request), devices=devices))
    (first,) = history_here().rounds
    assert first.cost.device_seconds == 3.5 * (1 + 2 + 4 + 4)


def test_another_search_that_is_also_named_as_a_round_is_counted_once(home):
    rounds(home, (0.5, []), (0.4, []))
    round_of(home, "r2.search-1", 0.3, (), OTHER_SEEDS)
    (home / "campaign.yaml").write_text("rounds: [r1.yaml, r2.yaml, runs/r2.search-1]\n")
    history = history_here()
    assert history.rounds[2].problem == "is another search of round 2, which counts it"
    assert [item.trials for item in history.costs()] == [4, 12, 12]


def test_a_round_that_cannot_be_judged_says_why_and_stops_nothing(home):
    rounds(home, (0.5, []), (0.4, []))
    round_of(home, "other", 0.5, (), {"objective": "{metric: valid/loss, direction: minimize}"})
    broken = round_of(home, "broken", 0.5)
    broken.study.write_text("study: [\n")
    (home / "new.yaml").write_text((home / "r1.yaml").read_text().replace("study: r1", "study: new"))
    (home / "campaign.yaml").write_text("rounds: [r1.yaml, new.yaml, other.yaml, runs/broken, r2.yaml, runs/r1]\n")
    history = history_here()
    problems = [item.problem for item in history.rounds]
    assert (problems[0], problems[1], problems[4]) == ("", "not run yet", "")
    assert problems[2] == "is judged by valid/loss (minimize), not by valid/error_rate"
    assert "cannot be read as a study" in problems[3]
    assert problems[5] == "is the study of round 1 already"
    assert history.best_values() == [0.5, 0.5, 0.5, 0.5, 0.4, 0.4]
    assert history.costs()[-1].trials == history.rounds[0].cost.trials + history.rounds[2].cost.trials + 4


def test_the_launched_trial_is_the_one_by_which_a_round_is_judged(home):
    rounds(home, (0.5, [0.6, 0.62, 0.64]))
    launch(LaunchRequest("runs/r1/1", "simpler", None, True, NOW))
    found = history_here().rounds[0]
    assert found.launched == (1,)
    assert found.retrained_trial == 2  # trial 1 has no retrains


def test_the_baseline_is_shown_by_the_mean_of_its_retrains(home):
    rounds(home, (0.5, [0.6, 0.62, 0.64]), (0.4, []))
    text = (home / "campaign.yaml").read_text()
    for baseline, value in (("runs/r1/2", 0.62), ("runs/r2/2", 0.4), ("runs/gone/1", None), ("{width: 8}", None)):
        (home / "campaign.yaml").write_text(f"{text}baseline: {baseline}\n")
        assert history_here().baseline == (None if value is None else pytest.approx(value))


def test_an_empty_campaign_has_an_empty_history(home):
    (home / "campaign.yaml").write_text("goal: x\n")
    found = campaign_report(find_campaign(None))
    assert (found.history.rounds, found.history.objective) == ((), None)
    assert found.page.is_file()


def test_page_tables_and_plots_are_written_below_the_campaign(home, tunectl):
    rounds(home, (0.5, [0.6, 0.62, 0.64]), (0.4, [0.5, 0.51]))
    launch(LaunchRequest("runs/r1", "a start <b>", None, False, NOW))
    called = tunectl("history", "--json")
    assert called.code == 0, called.err
    found = called.json()
    assert [item["mean"] for item in found["rounds"]] == pytest.approx([0.62, 0.505])
    assert found["progress"]["verdict"] == "not known"
    assert found["launched"][0]["because"] == "a start <b>"
    names = {str(Path(name).relative_to("history")) for name in found["files"]}
    assert {"report.html", "tables/rounds.csv", "tables/costs.md", "plots/best-by-round.svg"} <= names
    page = (home / "history" / "report.html").read_text()
    assert "tunectl campaign" in page
    assert "a start <b>" not in page
    rows = list(csv.DictReader((home / "history" / "tables" / "rounds.csv").read_text().splitlines()))
    assert [row["launched"] for row in rows] == ["2", ""]


def test_the_command_prints_rounds_cost_and_what_to_do(home, tunectl):
    rounds(home, (0.5, [0.6, 0.62, 0.64]), (0.4, []))
    called = tunectl("history", ".")
    assert called.code == 0, called.err
    assert "minimize valid/error_rate; best_so_far is by the means of retrains" in called.out
    assert "nothing was launched yet" in called.out
    assert "note saturation-not-known: " in called.out
    assert called.out.endswith("history/report.html\n")
    assert max(map(len, called.out.splitlines())) <= 100
