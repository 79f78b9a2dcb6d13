"""Tests findings/findings.py and findings/study_findings.py: repeated advice, and the command that follows it."""

from __future__ import annotations

from dataclasses import replace

from planted_curves import planted_evidence

from tunectl.analysis.findings.findings import Change, Finding, with_advice_once
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.report.finding_cards import findings_html

LONGER = (Change(("training", "max_train_steps"), 10, "they still improve"),)


def of(name: str, action: str = "train longer", changes: tuple[Change, ...] = LONGER) -> Finding:
    return Finding(name, "warning", f"It is {name}.", action, command="tunectl next runs/a", changes=changes)


def test_the_same_advice_is_given_once_and_then_by_the_name_of_the_finding_that_gave_it():
    first, again, other = of("still-improving"), of("best-step-late"), of("plateau", "take a larger rate")
    shown = with_advice_once([first, again, other])
    assert shown[0] == first
    assert (shown[1].action, shown[1].command, shown[1].changes) == ("see the advice for still-improving above", "", ())
    assert shown[1].sentence == again.sentence
    assert shown[2] == other
    page = findings_html([first, again])
    assert page.count("train longer") == 1
    assert page.count("max_train_steps") == 1


def test_advice_with_other_numbers_and_missing_advice_are_not_repeated_advice():
    more = (Change(("training", "max_train_steps"), 20, "they still improve"),)
    different = [of("still-improving"), of("best-step-late", changes=more), of("a", "", ()), of("b", "", ())]
    assert with_advice_once(different) == different


def test_findings_that_propose_another_study_name_the_command_that_writes_it():
    evidence = replace(planted_evidence("still-improving", 4, trials=16), folder="runs/my study")
    late = {item.id: item for item in study_findings(evidence)}["still-improving"]
    assert late.command == "tunectl next 'runs/my study'"
    assert "`tunectl next`" in late.action
