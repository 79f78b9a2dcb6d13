"""The tables, the plots and the page of a campaign.

Also tests analysis/figures/campaign_figures.py and analysis/comparison/campaign_history.py.
"""

from __future__ import annotations

import math

import pytest

from tunectl.analysis.comparison.campaign_history import CampaignHistory, HistoryRound
from tunectl.analysis.figures.campaign_figures import LAUNCHED, RETRAINS, SEARCHED, campaign_figures
from tunectl.analysis.figures.figures import CurvesFigure, PointsFigure
from tunectl.analysis.results.training_cost import StudyCost
from tunectl.core.objective import Objective
from tunectl.language.campaign import Campaign, Launch, LaunchRetrains
from tunectl.language.document import Document
from tunectl.report.campaign_page import campaign_page, costs_table, launches_table, rounds_table
from tunectl.report.page import page_html
from tunectl.report.plots import vega_lite

ACCURACY = Objective("valid/accuracy", "maximize")
ROUNDS = (
    HistoryRound(
        *("first.yaml", "runs/first", "first"),
        best_trial=3,
        best_value=0.8,
        retrained_trial=3,
        retrains=(-0.7, -0.72),
        launched=(3,),
        cost=StudyCost(6, 60.0, 600),
    ),
    HistoryRound("second.yaml", problem="not run yet"),
    HistoryRound(
        *("third.yaml", "runs/third", "third"),
        best_trial=1,
        best_value=0.75,
        retrained_trial=1,
        retrains=(-0.73, math.inf),
        searches=2,
        cost=StudyCost(4, 20.0, None, 1),
    ),
)
HISTORY = CampaignHistory(ACCURACY, ROUNDS, 0.5, "baseline runs/zero/1")


def campaign(*launched: Launch) -> Campaign:
    return Campaign(Document("here/campaign.yaml", ""), "a <b>", "goal & <c>", launched=launched)


def test_the_best_so_far_never_gets_worse_and_unknown_rounds_change_nothing():
    assert HISTORY.best_values() == [0.8, 0.8, 0.8]
    assert HISTORY.best_means() == pytest.approx([0.71, 0.71, 0.71])
    # A mean without the retrain that ended without a value would be too good.
    assert [HISTORY.mean(item) for item in ROUNDS[1:]] == [None, None]
    assert HISTORY.deviation(ROUNDS[0]) == pytest.approx(0.02 / math.sqrt(2))


def test_costs_add_up_and_unknown_examples_stay_unknown():
    rows = costs_table(HISTORY).rows
    assert [row[4:] for row in rows] == [(60.0, 600, 60.0, 600), (0.0, 0, 60.0, 600), (20.0, None, 80.0, None)]
    assert [row[2] for row in rows] == [1, 1, 2]


def test_the_table_of_rounds_has_a_row_for_each_also_without_a_result():
    header, rows = rounds_table(HISTORY).header, rounds_table(HISTORY).rows
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["study"] for row in found] == ["first", "second.yaml", "third"]
    assert [row["problem"] for row in found] == [None, "not run yet", None]
    assert [row["retrains"] for row in found] == [2, None, 2]
    assert (found[0]["launched"], found[2]["launched"]) == ("3", None)


def test_the_path_is_drawn_with_searches_retrains_and_what_was_launched():
    by_round, by_cost = campaign_figures(HISTORY)
    assert isinstance(by_round, PointsFigure)
    assert isinstance(by_cost, CurvesFigure)
    found = [(point.x, point.y, point.series) for point in by_round.points]
    assert found == [
        *((1, 0.8, SEARCHED), (1, 0.7, RETRAINS), (1, 0.72, RETRAINS), (1, pytest.approx(0.71), LAUNCHED)),
        *((3, 0.75, SEARCHED), (3, 0.73, RETRAINS), (3, None, RETRAINS)),
    ]
    (line,) = by_round.lines
    assert line.x == [1, 2, 3]
    assert line.y == pytest.approx([0.71, 0.71, 0.71])
    assert [(mark.value, mark.axis) for mark in by_round.marks] == [(0.5, "y")]
    assert [curve.x for curve in by_cost.curves] == [(60.0, 60.0, 80.0), (60.0, 60.0, 80.0)]
    for figure in (by_round, by_cost):
        assert vega_lite(figure)["layer"]


def test_a_campaign_without_results_has_no_plots_but_a_page():
    for history in (CampaignHistory(None, ()), CampaignHistory(ACCURACY, (HistoryRound("a", problem="not run yet"),))):
        assert campaign_figures(history) == []
        assert "<h2>Cost</h2>" in page_html(campaign_page(campaign(), history, []))


def test_the_page_shows_history_cost_and_launches_and_text_of_users_is_no_code():
    launched = Launch("runs/first", 3, "<script>", retrains=LaunchRetrains((0.7, 0.72), 0.71), values={"on": True})
    page = campaign_page(campaign(launched), HISTORY, [])
    assert [section.title for section in page.sections] == ["History", "Cost", "Launched"]
    assert dict(page.facts)["cost"] == "10 trials, 80 device-seconds, examples not known"
    html = page_html(page)
    assert "tunectl campaign" in html
    assert "<h1>a &lt;b&gt;</h1>" in html
    assert html.count("<script") == page_html(campaign_page(campaign(), HISTORY, [])).count("<script")
    (row,) = launches_table((launched,)).rows
    assert row[1:5] == ("runs/first", 3, None, 0.71)
    assert "on=true" in row
