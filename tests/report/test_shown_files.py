"""The pictures and files of evaluations in the page: which are shown, and how a browser shows them.

Also tests shown_steps.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from headless_browser import browser, found_browser
from made_up_page import NASTY
from narrowing import present
from simulated_studies import simulated_evidence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.core.folders import StudyFolder
from tunectl.report import shown_files as module
from tunectl.report.page import page_html
from tunectl.report.page_model import Section, ShownFile, ShownFiles, ShownStepFiles, StudyPage
from tunectl.report.shown_files import shown_files
from tunectl.report.shown_steps import FEWEST_STEPS, MOST_STEPS
from tunectl.store.trial_pictures import read_evaluation_files
from tunectl.training.png import png

PROGRAM = found_browser()
PICTURE = png(np.random.default_rng(0).integers(0, 255, (20, 30, 1)).astype(np.uint8))


def evidence_of(study: Path, trials: int, steps: range) -> StudyEvidence:
    """A study of one setting whose best trials wrote a picture and a text at these steps."""
    evidence = simulated_evidence(0, settings=1, trials=trials, edge=2.0, scattered=0.0)
    best = [run.plan.trial for run in evidence.ranked(evidence.searched)][:trials]
    for trial in best:
        for step in steps:
            folder = StudyFolder(study).trial(trial).files_of(step)
            folder.mkdir(parents=True)
            (folder / "a b#?.png").write_bytes(PICTURE)
            (folder / "words.txt").write_text("words")
    files = {trial: read_evaluation_files(StudyFolder(study).trial(trial)) for trial in best}
    return replace(evidence, folder=str(study), files=files)


def test_pictures_are_in_the_page_and_other_files_are_linked(tmp_path: Path):
    shown = shown_files(evidence_of(tmp_path, 2, range(0, 20, 10)))
    assert len(shown.trials) == 2
    first = shown.trials[0]
    assert [step.step for step in first.steps] == [0, 10]
    image, words = first.steps[1].files
    place = f"trials/{first.trial:05d}/files/step-00000010/"
    assert (image.place, image.picture[:22]) == (f"{place}a b#?.png", "data:image/png;base64,")
    assert words == ShownFile("words.txt", f"{place}words.txt", 5)


def test_of_many_steps_some_are_shown_and_the_text_says_so(tmp_path: Path):
    shown = shown_files(evidence_of(tmp_path, 1, range(100)))
    steps = [step.step for step in shown.trials[0].steps]
    assert (steps[0], steps[-1]) == (0, 99)
    assert len(steps) <= MOST_STEPS
    assert f"{len(steps)} steps are shown; its folder `files` has all" in shown.text


def test_pictures_that_do_not_fit_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    evidence = evidence_of(tmp_path, 2, range(8))
    monkeypatch.setattr(module, "MOST_BYTES", 4 * len(PICTURE))
    trials = shown_files(evidence).trials
    assert all(2 <= len(trial.steps) <= FEWEST_STEPS for trial in trials)
    pictures = [step.files[0].picture for trial in trials for step in trial.steps]
    assert 0 < sum(map(bool, pictures)) < len(pictures)
    assert sum(map(len, pictures)) < 4.5 * len(PICTURE)


def test_a_study_without_such_files_has_no_such_section():
    assert shown_files(simulated_evidence(0, settings=1, trials=3, edge=2.0, scattered=0.0)).trials == ()


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome here")
def test_a_browser_shows_the_pictures_of_the_chosen_trial_and_step(tmp_path: Path):
    shown = list(shown_files(evidence_of(tmp_path, 2, range(0, 30, 10))).trials)
    nasty = [ShownStepFiles(0, [ShownFile(NASTY, f"trials/{NASTY}", 1_234_567)], 3)]
    shown.append(ShownFiles(9, NASTY, None, nasty))
    path = tmp_path / "report.html"
    page = StudyPage("s", "", [], [], [Section("Pictures and files", "", files=shown)], [])
    path.write_text(page_html(page), encoding="utf-8")
    with browser(present(PROGRAM)) as tab:
        tab.open(path)
        tab.wait("document.documentElement.dataset.ready === 'true'")
        tab.wait("document.querySelector('.picture img').naturalWidth === 30")
        assert tab.run("document.querySelector('.files .others').textContent") == "words.txt 5 bytes"
        links = "[...document.querySelectorAll('.files a')].map((a) => decodeURIComponent(new URL(a.href).pathname))"
        assert all(Path(link).is_file() for link in tab.run(links))
        tab.run(
            "(() => { const chooser = document.querySelector('#files-trial'); chooser.value = '2';"
            " chooser.dispatchEvent(new Event('change')); })()"
        )
        assert tab.run("document.querySelector('.files .others').textContent") == f"{NASTY} 1.23 MBand 3 more"
        assert tab.run("document.querySelectorAll('.picture, [onerror]').length") == 0
        assert tab.console == []
        assert {url.split(":")[0] for url in tab.requests} == {"file", "data"}
