"""Tests commands/studies_report.py, report/studies_page.py, figures/studies_figures.py: a page of several studies."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import escape

import pytest
from builders import study_text
from made_up_folders import made_up_folder
from narrowing import as_number, present

from tunectl.commands.studies_report import report_studies
from tunectl.core.errors import FolderError, UsageError
from tunectl.language.study_reader import parse_study
from tunectl.report.studies_page import NUMBERS_A_STUDY
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice, evidence_of
from tunectl.session.written_report import answer_of
from tunectl.space.trial_plan import plan_trials

SGD = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}", "optimizer": "sgd"}
ADAM = {"learning_rate": "{role: nuisance, range: [1e-5, 1e-1], scale: log}", "optimizer": "adam"}


def far(best):
    return lambda plan: None if plan.trial == 2 else 0.1 + abs(as_number(plan.hyperparameters["learning_rate"]) - best)


@pytest.fixture
def two(tmp_path):
    made = {}
    for name, hyperparameters, best in (("first", SGD, 0.1), ("second", ADAM, 0.01)):
        text = study_text(hyperparameters, study=name, search="{trials: 8}")
        made[name] = made_up_folder(tmp_path / name, text, far(best)).path
    return made


def data_of(page):
    html = page.read_text()
    return html, json.loads(present(re.search(r'id="data">(.*?)</script>', html, re.DOTALL))[1])


def test_several_studies_are_on_one_page_beside_them(two, tmp_path):
    before = {path: path.stat().st_mtime_ns for place in two.values() for path in place.rglob("*")}
    found = report_studies([*two.values()], ObjectiveChoice())
    assert found.page == tmp_path / "studies.html"
    assert {path: path.stat().st_mtime_ns for place in two.values() for path in place.rglob("*")} == before
    assert [row[0] for row in found.rows] == ["first", "second"]
    html, data = data_of(found.page)
    assert "<h1>first · second</h1>" in html
    assert html.count("<script") == 3
    rate = next(plot for plot in data["plots"] if plot["name"] == "axis-learning_rate")
    series = rate["spec"]["layer"][0]["encoding"]["color"]["scale"]
    assert series["domain"] == ["first", "second"]
    everywhere = {
        tuple(channel["scale"]["range"])
        for plot in data["plots"]
        for part in plot["spec"]["layer"]
        if (channel := part["encoding"].get("color", {})).get("field") == "series"
        and channel["scale"]["domain"] == ["first", "second"]
    }
    assert len(everywhere) == 1, "a study has one colour in every plot"


def test_the_answer_of_each_study_is_at_the_top(two):
    html, _ = data_of(report_studies([*two.values()], ObjectiveChoice()).page)
    top = html[html.index('<section class="answer"') : html.index('<section id="findings"')]
    for name, place, first in (("first", two["first"], 0), ("second", two["second"], NUMBERS_A_STUDY)):
        own = top[top.index(f"<h3>{name}</h3>") :].split("</article>")[0]
        with study_snapshot(place, print) as study:
            evidence, outcomes = evidence_of(study, ObjectiveChoice())
            answer = answer_of(study.folder, evidence, outcomes)
        best = present(answer.best)
        assert escape(answer.sentence) in own
        assert f'data-trial="{first + best.trial}"' in own
        assert f"<code>{place}/{best.checkpoint}</code>" in own


def test_trials_keep_their_own_numbers_and_folders_though_both_studies_have_them(two):
    _, data = data_of(report_studies([*two.values()], ObjectiveChoice()).page)
    assert data["names"]["3"] == "first 3"
    assert data["names"][str(NUMBERS_A_STUDY + 3)] == "second 3"
    (table,) = [table for table in data["tables"] if table["ofTrials"]]
    trials = table["columns"][0]["cells"]
    assert sorted(trials) == [*range(8), *range(NUMBERS_A_STUDY, NUMBERS_A_STUDY + 8)]
    folders = {detail["trial"]: dict(detail["facts"])["folder"] for detail in data["trials"]}
    assert folders[NUMBERS_A_STUDY + 3] == str(two["second"] / "trials" / "00003")
    first, second = data["commands"]
    assert (first["first"], second["first"]) == (0, NUMBERS_A_STUDY)
    assert str(two["second"]) in second["texts"][0][0]


def test_what_differs_between_the_studies_is_said(two):
    _, data = data_of(report_studies([*two.values()], ObjectiveChoice()).page)
    (table,) = [table for table in data["tables"] if table["caption"].startswith("What differs")]
    cells = [column.get("cells") or [column["texts"][code] for code in column["codes"]] for column in table["columns"]]
    rows = {row[0]: row[1:] for row in zip(*cells, strict=True)}
    assert rows == {"optimizer": ("sgd", "adam"), "learning_rate": ("0.001 to 1, log", "1e-05 to 0.1, log")}


def test_studies_with_different_objectives_need_one_for_all(two, tmp_path):
    other = "{metric: valid/loss, direction: minimize}"
    text = study_text(SGD, study="third", objective=other, search="{trials: 4}")
    third = made_up_folder(tmp_path / "third", text, far(0.1)).path
    with pytest.raises(UsageError, match=r"different objectives: first has minimize valid/error_rate .*--objective"):
        report_studies([two["first"], third], ObjectiveChoice())
    found = report_studies([two["first"], third], ObjectiveChoice("train/loss", "minimize"))
    assert found.objective.metric == "train/loss"


def test_a_study_is_given_once_and_another_file_is_never_replaced(two, tmp_path):
    with pytest.raises(UsageError, match="expected each study once, got it 2 times"):
        report_studies([two["first"], two["first"] / "."], ObjectiveChoice())
    mine = tmp_path / "mine.html"
    mine.write_text("my own page")
    with pytest.raises(FolderError, match=r"mine.html: is there, and is not a page of several studies"):
        report_studies([*two.values()], ObjectiveChoice(), to=mine)
    assert mine.read_text() == "my own page"
    page = tmp_path / "both.html"
    assert report_studies([*two.values()], ObjectiveChoice(), to=page).page == page
    assert report_studies([*two.values()], ObjectiveChoice(), to=page).page == page


def test_two_folders_of_one_name_are_called_by_their_paths(two, tmp_path):
    text = study_text(SGD, study="first", search="{trials: 8}")
    again = made_up_folder(tmp_path / "again", text, far(0.2)).path
    found = report_studies([two["first"], again], ObjectiveChoice())
    assert [row[0] for row in found.rows] == [str(two["first"]), str(again)]


def test_retrains_of_a_study_are_among_its_trials_and_not_among_its_best(two, tmp_path):
    text = study_text(SGD, study="retrained", search="{trials: 8}")
    plan = plan_trials(parse_study(text, tmp_path / "study.yaml"))[0]
    more = (replace(plan, trial=8, repeat=1, trial_kind="retrain"),)
    made = made_up_folder(tmp_path / "retrained", text, lambda item: 0.01 if item.trial == 8 else 0.5, more=more).path
    found = report_studies([two["first"], made], ObjectiveChoice())
    row = dict(zip(found.header, found.rows[1], strict=True))
    assert (row["best_value"], row["trials"]) == (0.5, 9)
