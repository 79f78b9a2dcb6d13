"""The predictions in the page: which trials and steps are shown, and how a browser shows them."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from headless_browser import browser, found_browser
from made_up_page import NASTY, QUOTES
from narrowing import present
from simulated_studies import simulated_evidence

from tunectl.core.example_predictions import (
    KeptArray,
    KeptImage,
    KeptText,
    KeptValue,
    PredictedExample,
    PredictionSettings,
    StepPredictions,
)
from tunectl.report.page import page_html
from tunectl.report.page_model import Section, ShownPredictions, ShownStep, StudyPage
from tunectl.report.shown_predictions import MOST_BYTES, shown_predictions
from tunectl.report.shown_steps import MOST_STEPS
from tunectl.store.prediction_files import TrialPredictions
from tunectl.training.png import png

PROGRAM = found_browser()
IMAGE = KeptImage(3, 2, base64.b64encode(png(np.full((2, 3, 1), 200, np.uint8))).decode(), 300, 200, -1.0, 2.0)


def evidence_with(steps: list[StepPredictions], trials: int, most: int = 10):
    """A study of one setting whose best trials have these predictions."""
    evidence = simulated_evidence(0, settings=1, trials=trials, edge=2.0, scattered=0.0)
    training = replace(evidence.spec.training, predictions=PredictionSettings())
    best = [run.plan.trial for run in evidence.ranked(evidence.searched)][:most]
    spec = replace(evidence.spec, training=training)
    return replace(evidence, spec=spec, predictions={trial: TrialPredictions(tuple(steps)) for trial in best})


def step_of(step: int, **values: KeptValue) -> StepPredictions:
    own = {"input": 1.5, "target": 2} if step == 0 else {}
    return StepPredictions(step, tuple(PredictedExample(example, {**own, **values}) for example in (4, 7)))


def test_what_only_the_first_evaluation_has_is_shown_at_every_step():
    evidence = evidence_with([step_of(0, prediction=1), step_of(50, prediction=2), step_of(100, prediction=3)], 6)
    shown = shown_predictions(evidence)
    first = shown.trials[0]
    assert [item.trial for item in shown.trials] == list(evidence.predictions)
    assert first.examples == [4, 7]
    assert first.constant == [{"input": 1.5, "target": 2}] * 2
    assert [(item.step, item.values[0], item.right[0]) for item in first.steps] == [
        (0, {"prediction": 1}, False),
        (50, {"prediction": 2}, True),
        (100, {"prediction": 3}, False),
    ]
    assert "2 examples of valid" in shown.text
    assert "are shown" not in shown.text


def test_of_many_trials_and_steps_the_best_and_some_are_shown_and_the_text_says_so():
    steps = [step_of(step, prediction=1) for step in range(0, 5000, 10)]
    shown = shown_predictions(evidence_with(steps, 30))
    assert len(shown.trials) == 10
    for trial in shown.trials:
        found = [item.step for item in trial.steps]
        assert len(found) <= MOST_STEPS
        assert (found[0], found[-1]) == (0, 4990)
        assert trial.selected in found
    assert "10 of 30 trials are shown" in shown.text
    assert "24 steps of a trial" in shown.text
    assert "predictions.jsonl has all" in shown.text


def test_large_predictions_of_later_trials_are_left_out_of_the_page():
    steps = [step_of(step, words=KeptText("x" * 100_000, 200_000)) for step in range(100)]
    shown = shown_predictions(evidence_with(steps, 6))
    found = [[step.step for step in trial.steps] for trial in shown.trials]
    assert len(found) == 6
    assert {(steps[0], steps[-1]) for steps in found} == {(0, 99)}
    assert sum(map(len, found)) * 200_000 <= MOST_BYTES
    assert "5 steps of a trial" in shown.text
    huge = [step_of(step, words=KeptText("x" * 700_000, 700_000)) for step in range(100)]
    shown = shown_predictions(evidence_with(huge, 6))
    assert len(shown.trials) == 1
    assert "1 of 6 trials are shown" in shown.text


@pytest.mark.parametrize("pair", [(0.5, 0.5), ("a", "a"), (1, None), (1, 1.0)])
def test_only_classes_are_right_or_wrong(pair):
    prediction, target = pair
    values: dict[str, KeptValue] = {"prediction": prediction, **({} if target is None else {"target": target})}
    example = PredictedExample(4, values)
    shown = shown_predictions(evidence_with([StepPredictions(0, (example,)), StepPredictions(9, (example,))], 3))
    assert shown.trials[0].steps[1].right == [None]


def page_of(*trials: ShownPredictions) -> str:
    return page_html(StudyPage("s", "", [], [], [Section("Predictions", "", predictions=trials)], []))


def made_up(trial: int) -> ShownPredictions:
    constant: dict[str, KeptValue] = {
        "input": IMAGE,
        "signal": KeptArray((5,), (1, 2, float("nan"), 4, 3)),
        "target": 3,
    }
    values: dict[str, KeptValue] = {
        "prediction": 3,
        NASTY: NASTY,
        "words": KeptText(f"{QUOTES}\n{NASTY}", 5000),
        "matrix": KeptArray((2, 30), tuple(map(float, range(60)))),
        "odd": float("inf"),
        "yes": True,
    }
    steps = [ShownStep(step, [{**values, "prediction": step}] * 2, [step == 3, None]) for step in (0, 3, 9)]
    return ShownPredictions(trial, f"trial {trial} ({NASTY})", 3, [5, 8], [constant] * 2, steps)


def test_what_is_the_same_in_all_trials_is_in_the_page_once():
    html = page_of(made_up(1), made_up(2))
    assert html.count(IMAGE.png) == 1
    data = json.loads(present(re.search(r'id="data">(.*?)</script>', html))[1])
    assert [item["constant"] for item in data["predictions"]] == [[0, 0], [0, 0]]


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome here")
def test_a_browser_shows_the_examples_of_the_chosen_trial_and_step_as_text_and_images(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page_of(made_up(1), made_up(2)), encoding="utf-8")
    with browser(present(PROGRAM)) as page:
        page.open(path)
        page.wait("document.documentElement.dataset.ready === 'true'")
        shown = "[...document.querySelectorAll('.card')].map((card) => card.className.trim())"
        assert page.run("document.querySelector('.predictions output').textContent") == "3 (the selected checkpoint)"
        assert page.run(shown) == ["card right", "card"]
        page.run(
            "(() => { const slider = document.querySelector('#predictions-step'); slider.value = '2';"
            " slider.dispatchEvent(new Event('input')); })()"
        )
        assert page.run("document.querySelector('.predictions output').textContent") == "9"
        assert page.run(shown) == ["card wrong", "card"]
        page.run(
            "(() => { const chooser = document.querySelector('#predictions-trial'); chooser.value = '1';"
            " chooser.dispatchEvent(new Event('change')); })()"
        )
        # The step that was looked at stays.
        assert page.run("document.querySelector('.predictions output').textContent") == "9"
        text = page.run("document.querySelector('.card').textContent")
        for part in (NASTY, "5,000 characters", "2 × 30: 0, 1, 2", "inf", "true"):
            assert part in text
        page.wait("document.querySelector('.card img').naturalWidth === 3")
        assert page.run("document.querySelectorAll('.card polyline').length") == 2
        assert page.run("document.querySelectorAll('[onerror]').length") == 0
        assert page.console == []
        assert {url.split(":")[0] for url in page.requests} == {"file", "data"}
