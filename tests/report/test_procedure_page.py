"""Tests report/procedure_page.py: the page of a procedure."""

from __future__ import annotations

import json
import re

import numpy as np
from builders import study
from narrowing import present

from tunectl.analysis.figures.figures import Axis, Point, PointsFigure
from tunectl.analysis.results.runs import Run
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.core.table_columns import Column
from tunectl.report.page import page_html
from tunectl.report.procedure_page import ProcedureContent, procedure_page
from tunectl.report.table import Table

NASTY = "</script><b>"
VERDICT = f"The best learning rate is 0.1, of {NASTY}. Above 0.3 it is unstable."


def content(trials=4):
    plans = [
        PlannedTrial(number, 0, number, 0, (), {"learning_rate": 0.1 * (1 + number), "optimizer": "sgd"}, seed=number)
        for number in range(trials)
    ]
    outcomes = [TrialOutcome(plan, "completed", best_value=0.5, best_step=10) for plan in plans]
    steps = (np.array([0.0, 10.0]), np.array([1.0, 0.5]))
    runs = [Run(plan, "completed", best_value=0.5, best_step=10, curves={"valid/error_rate": steps}) for plan in plans]
    figure = PointsFigure("rates", "Rates", Axis("rate"), Axis("loss"), [Point(0.1, 0.5, trial=0)])
    table = Table((Column("rate", "scalar"),), [(0.1,), (0.2,)])
    return ProcedureContent("lr-sweep", study(), VERDICT, "learning_rate: 0.1", table, [figure], outcomes, runs, [])


def test_the_page_begins_with_the_conclusion_as_text_and_the_lines_to_adopt(tmp_path):
    html = page_html(procedure_page(StudyFolder(tmp_path), content()))
    assert html.index("<h2>Conclusion</h2>") < html.index("<h2>What it rests on</h2>") < html.index("<h2>Trials</h2>")
    assert "of &lt;/script&gt;&lt;b&gt;.</p><p>Above 0.3 it is unstable.</p>" in html
    assert "<code>learning_rate: 0.1</code>" in html
    assert "Findings" not in html.split("<script", 1)[0]
    assert html.count("</script") == 3


def test_its_trials_are_listed_with_what_the_procedure_varied_and_they_open(tmp_path):
    html = page_html(procedure_page(StudyFolder(tmp_path), content()))
    data = json.loads(present(re.search(r'id="data">(.*?)</script>', html, re.DOTALL))[1])
    (table,) = [table for table in data["tables"] if table["ofTrials"]]
    assert [column["name"] for column in table["columns"]][:3] == ["trial", "best_value", "learning_rate"]
    assert ["optimizer", "sgd"] in table["constants"]
    assert [detail["trial"] for detail in data["trials"]] == [0, 1, 2, 3]
    assert [curve[0] for curve in data["trials"][0]["curves"]] == ["valid/error_rate"]


def test_a_procedure_without_trials_or_figures_has_a_page(tmp_path):
    empty = ProcedureContent("clip-sweep", study(), "Nothing to clip.", "", Table((), []), [], [], [], [])
    assert "Nothing to clip." in page_html(procedure_page(StudyFolder(tmp_path), empty))
