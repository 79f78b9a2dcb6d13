"""Tests curves/step_units.py: programs that count epochs, updates, examples, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from builders import study
from simulated_studies import findings_of

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.analysis.results.runs import Run
from tunectl.core.records import PlannedTrial
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec

STUDY = """\
workload: {{command: [python, train.py, "{{rate}}"], metrics: [{{json_lines: stdout}}]}}
objective: {{metric: valid/loss, direction: minimize}}
training: {{max_train_steps: {steps}}}
hyperparameters: {{rate: {{role: nuisance, range: [0.1, 1]}}}}
search: {{trials: 4}}
"""


def own_code(steps: int) -> StudySpec:
    return parse_study(STUDY.format(steps=steps), Path("own.yaml"))


def evidence(spec: StudySpec, printed: Iterable[Sequence[int]]) -> StudyEvidence:
    """Trials whose loss still falls at the end, at these steps."""
    runs = []
    for trial, steps in enumerate(printed):
        losses = np.linspace(1.0, 0.1 + 0.01 * trial, len(steps))
        curves = {"valid/loss": (np.array(steps, dtype=float), losses)}
        plan = PlannedTrial(trial, 0, trial, 0, (0.5,), {"rate": 0.5}, trial)
        runs.append(Run(plan, "completed", best_value=losses[-1], best_step=steps[-1], curves=curves))
    return StudyEvidence(spec, spec.objective, tuple(runs))


def found(steps: int, *printed: Sequence[int]) -> list[tuple[str, str, str]]:
    lines = printed if len(printed) > 1 else printed * 4
    findings = study_findings(evidence(own_code(steps), lines))
    return [(item.id, item.sentence, item.action) for item in findings if item.id.startswith("steps-")]


FIT = [
    ("epochs from 1", 10, range(1, 11)),
    ("epochs from 0 after one before training", 10, range(11)),
    ("updates, evaluated every 50", 1000, range(0, 1001, 50)),
    ("updates, evaluated before each 50", 1000, range(0, 1000, 50)),
    ("a cadence that does not divide the length", 100, range(0, 100, 30)),
    ("one evaluation at the end", 300, [300]),
    ("one step too many", 100, [*range(10, 100, 10), 101]),
]


@pytest.mark.parametrize(("steps", "printed"), [item[1:] for item in FIT], ids=[item[0] for item in FIT])
def test_steps_of_one_unit_are_no_finding(steps: int, printed: Sequence[int]) -> None:
    assert found(steps, printed) == []


MISFITS = [
    ("updates of 2 epochs", 2, range(40), ["step 39", "is 2:"], ["set max_train_steps to 40 and offset: 1"]),
    ("updates, evaluated after each epoch", 2, [20, 40], ["step 40"], ["write every: 1 ", "max_train_steps to 40"]),
    ("epochs of 100 updates", 100, [1, 2, 3], ["step 3 as", "is 100:"], ["set max_train_steps to 3,"]),
    ("epochs of 100 updates, as many as divide it", 100, [1, 2, 3, 4], ["step 4"], ["write every: 25 under metrics"]),
    ("epochs from 0", 100, [0, 1, 2, 3], ["step 3"], ["write every: 25", "(4 here, if step 0 comes after"]),
    ("percent", 2000, range(5, 101, 5), ["step 100", "2,000"], ["write every: 100 under metrics"]),
    ("examples", 1000, range(6400, 64001, 6400), ["step 64,000"], ["write every: 100 under metrics"]),
    ("tokens, uneven", 1000, [5000, 9000, 20000, 21000, 40000], ["step 40,000"], ["read another step (step:, every:)"]),
    ("one evaluation at the third epoch", 100, [3], ["step 3"], ["write every: 100", "(1 here)"]),
    ("a fixed length of its own", 1000, range(50, 501, 50), ["step 500", "is 1,000"], ["max_train_steps to 500"]),
    ("half a step in two", 2, [1, 2, 3], ["step 3", "is 2:"], ["max_train_steps to 3"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "printed", "said", "remedy"), [item[1:] for item in MISFITS], ids=[item[0] for item in MISFITS]
)
def test_steps_of_another_unit_are_a_warning_with_both_numbers_and_the_line_to_write(
    steps: int, printed: Sequence[int], said: list[str], remedy: list[str]
) -> None:
    ((name, sentence, action),) = found(steps, printed)
    assert name == "steps-do-not-fit"
    assert [text for text in said if text not in sentence] == [], sentence
    assert [text for text in remedy if text not in action] == [], action


def test_there_is_no_finding_about_the_length_of_training_then() -> None:
    twenty = range(5, 101, 5)

    def length_findings(steps: int) -> list[Finding]:
        study = evidence(own_code(steps), [twenty] * 4)
        return findings_of(study, "still-improving", "best-step-late", "saturated-early", "best-step-early")

    assert length_findings(100) != []
    assert length_findings(2000) == []


def test_programs_that_stop_early_by_themselves_are_an_explanation() -> None:
    ((_, sentence, action),) = found(100, range(1, 41), range(1, 52), range(1, 61), range(1, 45))
    assert "printed steps 40 to 60 as their last" in sentence
    assert "change nothing if the program stops early by itself" in action
    assert "every:" not in action.replace("(step:, every:)", "")
    assert found(100, range(1, 41), range(1, 101), range(1, 101), range(1, 101)) == [], "one in four"


def test_of_epochs_counted_from_0_the_first_is_lost() -> None:
    ((name, sentence, action),) = found(10, range(10))
    assert name == "steps-from-zero"
    assert "the steps 0 to 9 of 10" in sentence
    assert "write offset: 1" in action


def test_the_built_in_loop_has_no_finding_about_steps() -> None:
    spec = study({"learning_rate": "{role: nuisance, range: [0.1, 1]}"}, search="{trials: 4}")
    assert [item for item in study_findings(evidence(spec, [range(3)] * 4)) if item.id.startswith("steps-")] == []
