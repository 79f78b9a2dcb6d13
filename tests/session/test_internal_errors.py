"""A fault of tunectl in a finding, a plot or a table: a warning, its traceback is kept, and the rest is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder

from tunectl.analysis.findings import study_findings as findings_module
from tunectl.commands.next_round import next_round
from tunectl.commands.report import report_study
from tunectl.core.errors import UsageError
from tunectl.core.folders import StudyFolder
from tunectl.report import layers, page, page_data
from tunectl.report import study_page as page_module
from tunectl.session.internal_errors import RAISE, Faults, no_faults
from tunectl.session.study_evidence import ObjectiveChoice

TEXT = study_text(
    {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    },
    search="{trials: 6}",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A finished study, where faults are passed over as for a user."""
    monkeypatch.delenv(RAISE)
    return made_up_folder(tmp_path / "study", TEXT, lambda plan: 0.5 - plan.trial / 20)


def broken(*_arguments, **_named):
    raise IndexError("too many indices")


def break_finding(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(findings_module, "FINDINGS", {**findings_module.FINDINGS, **dict.fromkeys(names, broken)})


def test_a_finding_that_fails_is_a_warning_that_names_it_and_costs_no_other(folder, monkeypatch):
    whole = report_study(folder.path, ObjectiveChoice(), draw=False)
    break_finding(monkeypatch, "insensitive", "sampled-enough")
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    fault, *others = [finding for finding in report.findings if finding.id == "fault"]
    assert others == []
    assert fault.level == "warning"
    assert "insensitive" in fault.sentence
    assert "sampled-enough" in fault.sentence
    assert "IndexError: too many indices" in fault.sentence
    rest = [finding for finding in report.findings if finding.id != "fault"]
    assert rest == [finding for finding in whole.findings if finding.id not in ("insensitive", "sampled-enough")]
    levels = [finding.level for finding in report.findings]
    assert levels == sorted(levels, reverse=True)  # warnings first
    listed = json.loads((folder.path / "findings.json").read_text())["findings"]
    assert [item["id"] for item in listed] == [item.id for item in report.findings]
    assert "too many indices" in report.page.read_text()
    assert set(whole.paths) == set(report.paths)


def test_the_traceback_is_kept_for_a_bug_report_until_a_report_without_fault(folder, monkeypatch):
    with monkeypatch.context() as patched:
        break_finding(patched, "insensitive")
        report = report_study(folder.path, ObjectiveChoice(), draw=False)
    (fault,) = [finding for finding in report.findings if finding.id == "fault"]
    kept = folder.path / "faults.txt"
    assert str(kept) in fault.action
    assert "Traceback" in kept.read_text()
    assert "in broken" in kept.read_text()
    report_study(folder.path, ObjectiveChoice(), draw=False)
    assert not kept.exists()


@pytest.mark.parametrize(
    "name", ["isolation_figures", "axis_figures", "best_trials_table", "trial_detail", "budget_figure"]
)
def test_a_part_of_the_page_that_fails_costs_no_other_part(folder, monkeypatch, name):
    whole = report_study(folder.path, ObjectiveChoice(), draw=False)
    monkeypatch.setattr(page_module, name, broken)
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    assert [finding for finding in report.findings if finding.id != "fault"] == list(whole.findings)
    assert [finding.id for finding in report.findings].count("fault") == 1
    text = report.page.read_text()
    assert text.count('class="plot"') + text.count('class="table"') >= 5


def test_a_plot_that_cannot_be_laid_out_is_left_out_of_page_and_files(folder, monkeypatch):
    drawn = layers.boxes
    monkeypatch.setattr(layers, "boxes", broken)
    report = report_study(folder.path, ObjectiveChoice())
    monkeypatch.setattr(layers, "boxes", drawn)
    (fault,) = [finding for finding in report.findings if finding.id == "fault"]
    assert fault.numbers["failed"] == ["the plot budget"]
    names = {path.name for path in report.paths}
    assert {"isolation-optimizer.svg", "axis-learning_rate.png"} <= names
    assert "budget.svg" not in names
    assert "What the best of k trials" not in report.page.read_text()
    assert "Isolation" in report.page.read_text()


def test_a_page_that_cannot_be_laid_out_at_all_still_has_its_findings(folder, monkeypatch):
    laid_out = page_data.page_data
    monkeypatch.setattr(
        page, "page_data", lambda sections, trials: laid_out(sections, trials) if not sections else broken()
    )
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    text = report.page.read_text()
    assert "sampled-enough" in text
    assert "too many indices" in text


def test_next_says_which_finding_could_not_be_asked(folder, monkeypatch):
    monkeypatch.chdir(folder.path.parent)  # where the next round's file is written
    break_finding(monkeypatch, "search-boundary")
    found = next_round(folder.path, folder.path.parent / "next.yaml")
    (said,) = [line for line in found.by_hand if "search-boundary" in line]
    assert "IndexError" in said
    assert not (folder.path / "faults.txt").exists()


def test_errors_that_a_user_can_mend_are_raised_and_so_is_a_fault_in_the_tests():
    def mendable():
        raise UsageError("give --direction")

    with pytest.raises(UsageError):
        Faults().attempt("it", mendable, None)
    with pytest.raises(IndexError):
        no_faults({RAISE: "1"}).attempt("it", broken, None)
    assert no_faults({}).attempt("it", broken, 7) == 7


def test_equal_faults_are_one_warning_and_different_ones_are_several():
    faults = Faults()
    for name in "abcde":
        faults.attempt(name, broken, None)
    faults.attempt("f", lambda: 1 / 0, None)
    first, second = faults.findings("send it")
    assert "a, b, c and 2 more (IndexError: too many indices)" in first.sentence
    assert "f (ZeroDivisionError" in second.sentence
    assert first.action == "send it"
