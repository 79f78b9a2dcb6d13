"""The section on curvature of a page: made-up studies, from the files that workers write."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from builders import NUISANCE_RATE, study_text
from headless_browser import browser, found_browser
from made_up_curvature import curvature_folder, lines_of
from narrowing import present
from planted_curvature import PLANTED, run_of

from tunectl.commands.report import report_study
from tunectl.session.study_evidence import ObjectiveChoice

KINDS = ("at the edge", "catapult", "sharpening", "leaves", "above until lost", "catapult")
TRAINING = "{max_train_steps: 2000, eval_every: 100, curvature: {every: 100}}"
PROGRAM = found_browser()


def written(place, text, lines, runs=None, *, draw=False):
    return report_study(curvature_folder(place, text, lines, runs).path, ObjectiveChoice(), draw=draw)


def text_of(trials, **hyperparameters):
    return study_text(
        {"learning_rate": NUISANCE_RATE, **hyperparameters}, search=f"{{trials: {trials}}}", training=TRAINING
    )


def data_of(report):
    return json.loads(report.page.read_text().split('id="data">')[1].split("</script>")[0])


def titles(report):
    """The titles of the plots in the section on curvature."""
    _, _, section = report.page.read_text().partition("Curvature</h2>")
    return [part.partition("</h3>")[0] for part in section.partition("</section>")[0].split("<h3>")[1:]]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    runs = {
        trial: run_of(PLANTED[kind][1](np.random.default_rng(trial + 3)), trial) for trial, kind in enumerate(KINDS)
    }
    lines = {trial: lines_of(run) for trial, run in runs.items()}
    return written(tmp_path_factory.mktemp("page") / "study", text_of(len(KINDS)), lines, runs, draw=True)


def test_the_section_has_the_few_plots_that_matter(report):
    assert titles(report) == [
        "Largest eigenvalue of the Hessian, λ1, with the stability bound dashed",
        "Eigenvalue as a multiple of the stability bound",
        "Loss over the measured examples",
        "Gradient norm over the measured examples",
        "Critical learning rate, with the learning rate dashed",
    ]
    assert report.warnings == ()
    assert not (report.folder.path / "faults.txt").exists()


def test_the_plots_are_files_too(report):
    names = {path.name for path in report.paths if path.name.startswith("curvature-")}
    stems = ("lambda-1", "ratio", "loss", "gradient-norm", "critical-learning-rate")
    assert names == {f"curvature-{stem}.{kind}" for stem in stems for kind in ("svg", "png")}


def test_the_table_has_the_last_measurement_of_each_trial_with_its_residual_and_products(report):
    table = pd.read_csv(report.folder.tables / "curvature.csv")
    assert list(table["trial"]) == list(range(len(KINDS)))
    measured = pd.read_parquet(report.folder.tables / "measurements.parquet").query("kind == 'curvature'")
    last = measured.sort_values("step").groupby("trial").last()
    assert list(table["step"]) == list(last["step"])
    for name in ("lambda_1", "residual", "products", "converged", "bound", "ratio"):
        assert list(table[f"curvature/{name}"]) == pytest.approx(list(last[f"curvature/{name}"])), name
    assert "The last measurement of each trial" in [item["caption"] for item in data_of(report)["tables"]]


def test_a_trial_that_opens_has_no_curves_of_how_it_was_measured(report):
    curves = {name for trial in data_of(report)["trials"] for name, _, _ in trial["curves"]}
    assert {"curvature/lambda_1", "curvature/ratio", "curvature/bound", "valid/error_rate"} <= curves
    assert not curves & {"curvature/residual", "curvature/products", "curvature/converged", "curvature/seconds"}


def test_a_study_without_curvature_has_no_such_section(tmp_path):
    report = written(tmp_path / "study", text_of(2), {})
    assert "Curvature</h2>" not in report.page.read_text()
    assert not (report.folder.tables / "curvature.csv").exists()


def test_one_line_no_line_and_absent_metrics_are_drawn_as_far_as_they_go(tmp_path):
    lines = {
        0: [(0, {"lambda_1": 3.0, "residual": 0.001, "products": 12.0, "converged": 1.0, "ratio": 0.0, "loss": 2.0})],
        1: [(0, {"loss": math.nan, "examples": 256.0}), (100, {"loss": 1.0})],
        2: [(step, {"lambda_1": 3.0 - step / 50, "critical_learning_rate": 0.1}) for step in (0, 100, 200)],
    }
    report = written(tmp_path / "study", text_of(4), lines, draw=True)
    assert titles(report)[0] == "Largest eigenvalue of the Hessian, λ1"
    assert not (report.folder.path / "faults.txt").exists()
    assert list(pd.read_csv(report.folder.tables / "curvature.csv")["trial"]) == [0, 2]


def test_lamb_has_eigenvalues_without_a_bound_and_the_section_says_why(tmp_path):
    lines = {trial: [(0, {"lambda_1": 3.0}), (100, {"lambda_1": 2.0})] for trial in range(2)}
    report = written(tmp_path / "study", text_of(2, optimizer="lamb"), lines)
    assert titles(report) == ["Largest eigenvalue of the Hessian, λ1"]
    assert "No stability bound is known for lamb" in report.page.read_text()


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome here")
def test_pointing_at_a_measurement_shows_what_belongs_to_it_and_a_click_selects_its_trial(report):
    with browser(present(PROGRAM)) as page:
        page.open(report.page)
        number = next(place for place, plot in enumerate(data_of(report)["plots"]) if "residual" in plot["more"])
        holder = f"document.querySelector('[data-plot=\"{number}\"]')"
        page.run(f"{holder}.scrollIntoView({{block: 'center'}})")
        page.wait(f"{holder}.dataset.drawn === 'true'")
        x, y = page.run(
            f"""(() => {{
                const symbols = [...{holder}.querySelectorAll('.mark-symbol.role-mark path')];
                const box = symbols.at(-1).getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        page.mouse("Moved", x - 1, y)
        page.mouse("Moved", x, y)
        page.wait("!document.getElementById('tip').hidden")
        tip = page.run("document.getElementById('tip').innerText")
        assert all(word in tip for word in ("residual", "Hessian-vector products", "converged", "stability bound"))
        page.click(x, y)
        page.wait("document.querySelectorAll('tr[aria-selected=true]').length >= 1")
        assert page.console == []
