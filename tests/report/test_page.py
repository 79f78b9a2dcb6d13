"""Tests report/page.py, page_data.py and page_files.

The model of the page, page_model.py, has no behaviour of its own; study_page.py, which makes it, is tested by
tests/session/test_internal_errors.py and tests/commands/test_fuzz_reports.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html import escape

import vl_convert
from made_up_page import LONG, NASTY, QUOTES, empty_page, made_up_page
from narrowing import present

from tunectl.analysis.figures.figures import Axis, Point, PointsFigure
from tunectl.core.records import Scalar
from tunectl.core.table_columns import Column
from tunectl.report.page import page_html
from tunectl.report.page_data import page_data, rounded, script_text
from tunectl.report.page_files import VEGA, vega_versions
from tunectl.report.page_model import PageTable, Section, StudyPage, TrialDetail
from tunectl.report.table import Table

METRICS = ("valid/loss", "train/loss", "valid/error_rate", "train/error_rate")


def embedded(html):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(present(found)[1])


def without_scripts(html):
    return re.sub(r"<(script|style)[ >].*?</\1>", "", html, flags=re.DOTALL)


def test_the_shipped_vega_is_the_one_that_draws_the_files():
    first = VEGA.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"/*! {vega_versions()}", "run scripts/bundle_vega.py"


def test_vega_s_licences_are_in_every_page():
    html = page_html(empty_page())
    for text in ("University of Washington Interactive Data Lab", "Redistributions in binary form", "Mike Bostock"):
        assert text in html


def test_the_page_asks_nothing_of_a_network_and_runs_only_its_own_scripts():
    html = page_html(made_up_page())
    policy = present(re.search(r'Content-Security-Policy" content="([^"]*)"', html))[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts}
    assert set(re.findall(r"'sha256-([^']*)'", policy)) == hashes
    assert len(hashes) == 2
    assert not re.search(r"\b(src|srcset|action|data|poster)=", without_scripts(html).replace(escape(NASTY), ""))
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', without_scripts(html)))


def test_what_a_user_wrote_is_text_everywhere():
    html = page_html(made_up_page())
    assert "<img" not in html.replace(VEGA.read_text(encoding="utf-8"), "")
    assert html.count("<script") == html.count("</script") == 3
    assert "<!--" not in without_scripts(html)
    assert embedded(html)["trials"][0]["message"] == NASTY


def test_data_in_the_page_ends_no_element_and_is_ascii():
    text = script_text({"a": f"{NASTY}{QUOTES}<!--]]>\ud800"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert text.isascii()
    assert json.loads(text)["a"].startswith(NASTY)


def expressions(spec, key=""):
    """Every text of a Vega specification that Vega parses as code."""
    if isinstance(spec, dict):
        for name, value in spec.items():
            yield from expressions(value, name)
    elif isinstance(spec, list):
        for value in spec:
            yield from expressions(value, key)
    elif isinstance(spec, str) and key in {"signal", "expr", "update", "test", "init"}:
        yield spec


def test_no_expression_of_vega_s_holds_what_a_user_wrote(every_figure):
    odd = "datum['odd']"
    own = PointsFigure(odd, odd, Axis(odd), Axis(odd), [Point(1, 1, odd, odd), Point(2, 2, odd * 2)], legend=odd)
    data = page_data([Section("s", "", [*every_figure, own])], [])
    for plot in data["plots"]:
        spec = plot["spec"] | {"width": 300}
        for part in spec["layer"]:
            columns = data["datasets"][part["data"]]["columns"]
            part["data"] = {"values": [dict.fromkeys(columns, 1)]}
        found = list(expressions(vl_convert.vegalite_to_vega(spec)))
        assert found
        for text in found:
            assert not any(user in text for user in (NASTY, QUOTES[:8], LONG[:20], odd, "nesterov", "tanh")), text


def test_rows_are_embedded_once_and_repeats_counted():
    points = [Point(float(place), 1 / (place + 1), "same", trial=place) for place in range(50)]
    figure = PointsFigure("p", "P", Axis("x"), Axis("y"), points)
    data = page_data([Section("s", "", [figure, figure])], [])
    first, second = (plot["spec"]["layer"][0]["data"] for plot in data["plots"])
    assert first == second
    columns = data["datasets"][first]["columns"]
    assert columns["series"] == {"runs": [("same", 50)]}
    assert columns["y"][2] == 0.333333
    assert columns["x"] == list(range(50))


def test_numbers_are_rounded_and_whole_ones_stay():
    assert [rounded(x) for x in (1 / 3, 1234567.0, 123456.789, 1e300, True, "a")] == [
        *(0.333333, 1234567, 123457.0, 1e300, True, "a"),
    ]
    assert [rounded(x) for x in (math.nan, math.inf, None)] == [None] * 3


def test_cells_keep_what_javascript_has_no_number_for():
    columns = (Column("n", "whole"), Column("x", "real"), Column("mixed", "scalar"), Column("numbers", "scalar"))
    rows: list[tuple[Scalar | None, ...]] = [
        (2**63, math.nan, "a", 1),
        (1, -math.inf, 2, 0.5),
        (None, None, None, None),
        (3, 1 / 3, True, 2),
    ]
    table = PageTable("t", Table(columns, rows))
    found = page_data([Section("s", "", (), [table])], [])["tables"][0]["columns"]
    assert found[0]["cells"] == [str(2**63), 1, None, 3]
    assert found[1]["cells"] == ["nan", "-inf", None, 0.333333]
    assert found[2]["cells"] == ["a", 2, None, "true"]
    assert [column["numeric"] for column in found] == [True, True, False, True]


def test_texts_that_repeat_are_once_in_a_table():
    table = PageTable("t", Table((Column("state", "text"),), [("done",), ("done",), ("gone",), ("done",), (None,)] * 3))
    (column,) = page_data([Section("s", "", (), [table])], [])["tables"][0]["columns"]
    assert (column["texts"], column["codes"]) == (["done", "gone", None], [0, 0, 1, 0, 2] * 3)


def test_curves_of_a_trial_share_their_steps_and_have_gaps():
    steps, values = [0, 10, 20], [1.0, math.nan, 0.5]
    details = [TrialDetail(n, "completed", curves={"a/b": (steps, values), "c/b": (steps, values)}) for n in range(2)]
    data = page_data([], details)
    assert data["steps"] == [[0, 10, 20]]
    assert data["trials"][1]["curves"] == [["a/b", 0, [1, None, 0.5]], ["c/b", 0, [1, None, 0.5]]]


def test_sections_are_in_their_order_with_a_contents_list():
    html = page_html(made_up_page())
    titles = ["Findings", "Hyperparameter axes", "Training curves", "Was the budget enough?", "Sensitivity"]
    titles += ["Nothing here", "Trials"]
    places = [html.index(f"<h2>{title}") for title in titles]
    assert places == sorted(places)
    assert [html.index(f">{title}</a>") < places[0] for title in titles] == [True] * 7
    assert re.findall(r'data-plot="(\d+)"', html) == [str(number) for number in range(13)]
    assert re.findall(r'data-table="(\d+)"', html) == ["0", "1"]


def test_a_page_of_nothing_is_a_page():
    html = page_html(StudyPage("", "", [], [], [], []))
    assert embedded(html)["plots"] == []
    assert "nothing to report" in html


def test_pages_are_small():
    assert len(page_html(made_up_page(100, 100, METRICS)).encode()) < 2_500_000
    assert len(page_html(made_up_page(40, 20, METRICS)).encode()) < 1_300_000


def test_the_same_page_gives_the_same_bytes():
    assert page_html(made_up_page()) == page_html(made_up_page())
