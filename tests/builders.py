"""Small studies for tests: a text with what differs from the plainest study, and the spec of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tunectl.core.errors import Problem, StudyError
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec

STUDY_FILE = Path("/studies/a_study.yaml")

_SECTIONS = {
    "study": None,
    "goal": None,
    "workload": "tunectl.workloads.digits:mlp",
    "objective": "{metric: valid/error_rate, direction: minimize}",
    "training": "{max_train_steps: 2000, eval_every: 100}",
    "hyperparameters": None,
    "search": None,
    "resources": None,
    "notes": None,
}
_HYPERPARAMETERS = {"optimizer": "sgd", "learning_rate": "0.1"}
NUISANCE_RATE = "{role: nuisance, range: [1e-3, 1], scale: log}"


def study_text(hyperparameters: Mapping[str, Any] | None = None, /, **sections: Any) -> str:
    """A study file: sgd at 0.1, with these hyperparameters and sections, each as its YAML; None leaves one out."""
    lines = []
    for section, content in {**_SECTIONS, **sections}.items():
        if section == "hyperparameters" and content is None:
            lines.append("hyperparameters:")
            entries = {**_HYPERPARAMETERS, **(hyperparameters or {})}
            lines += [f"  {name}: {entry}" for name, entry in entries.items() if entry is not None]
        elif content is not None:
            lines.append(f"{section}: {content}")
    return "\n".join(lines) + "\n"


def study(hyperparameters: Mapping[str, Any] | None = None, /, **sections: Any) -> StudySpec:
    """The spec of `study_text`."""
    return parse_study(study_text(hyperparameters, **sections), STUDY_FILE)


def problems_in(text: str) -> tuple[Problem, ...]:
    """The problems for which a study text is refused; fails if it is accepted."""
    with pytest.raises(StudyError) as caught:
        parse_study(text, STUDY_FILE)
    return caught.value.problems


def problems_of(hyperparameters: Mapping[str, Any] | None = None, /, **sections: Any) -> list[str]:
    """What is wrong with `study_text`, each as `path: message`."""
    return [f"{problem.path}: {problem.message}" for problem in problems_in(study_text(hyperparameters, **sections))]
