"""Which backend is started for a study file, before the study itself is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tunectl.core.errors import StudyError, UsageError
from tunectl.execution import backends
from tunectl.execution.backends.local import LocalBackend
from tunectl.language.study_spec import ResourcesSection
from tunectl.session import backend_start
from tunectl.session.backend_start import started_backend
from tunectl.session.checked_study import check_study
from tunectl.session.probed_study import study_slots

STUDY = """\
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 10, eval_every: 5}
hyperparameters: {optimizer: sgd, learning_rate: 0.1}
"""


class Noted:
    """A backend that notes how it was started and closed."""

    def __init__(self, name: str, calls: list[tuple[str, ...]]) -> None:
        self.name, self.calls = name, calls

    def start(self, *, own_code: bool = False) -> None:
        self.calls.append((self.name, "own code" if own_code else "workload"))

    def close(self) -> None:
        self.calls.append((self.name, "closed"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    made = {"local": lambda: Noted("local", found), "cluster": lambda: Noted("cluster", found)}
    monkeypatch.setattr(backend_start, "BACKENDS", made)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STUDY, ("local", "workload")),
        (STUDY + "resources: {backend: cluster}\n", ("cluster", "workload")),
        (STUDY + 'resources:\n  # where\n  backend: "cluster"\n', ("cluster", "workload")),
        (STUDY + "notes: 'backend: cluster'\n", ("local", "workload")),
        (STUDY + "resources: {backend: unknown}\n", ("local", "workload")),
        (STUDY + "resources: {backend: [cluster]}\n", ("local", "workload")),
        ("resources: {backend: cluster\n", ("local", "workload")),
        ("workload: {command: [python, train.py]}\nresources: {backend: cluster}\n", ("cluster", "own code")),
    ],
)
def test_the_backend_is_the_one_that_the_study_names(
    tmp_path: Path, calls, text: str, expected: tuple[str, str]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(text)
    with started_backend(study) as backend:
        assert calls == [expected]
        assert backend.name == expected[0]
    assert calls[1:] == [(expected[0], "closed")]


def test_a_study_file_that_is_not_there_starts_the_local_backend(tmp_path: Path, calls) -> None:
    with started_backend(tmp_path / "missing.yaml"):
        assert calls == [("local", "workload")]


def test_an_unknown_backend_is_an_error_with_its_place_and_the_known_names(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY + "resources:\n  backend: pbs\n")
    with pytest.raises(StudyError) as caught:
        check_study(study, tmp_path)
    (problem,) = caught.value.problems
    assert str(problem).endswith(
        "study.yaml:6:12: resources.backend: expected the name of a backend, got 'pbs'; known here: local, external, "
        "slurm, ray"
    )


def test_an_unknown_backend_is_reported_beside_the_other_errors(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY + "resources: {backend: loca, retries: -1}\n")
    with pytest.raises(StudyError) as caught:
        check_study(study, tmp_path)
    assert sorted(problem.path for problem in caught.value.problems) == ["resources.backend", "resources.retries"]
    assert any("did you mean local?" in str(problem) for problem in caught.value.problems)


def test_the_backend_of_a_study_is_local_where_it_names_none(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY)
    assert check_study(study, tmp_path).spec.resources.backend == ResourcesSection().backend == backends.DEFAULT


def test_a_study_does_not_run_on_another_backend_than_it_names(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY + "resources: {devices: cpu}\n")
    spec = check_study(study, tmp_path).spec
    other = replace(spec, resources=replace(spec.resources, backend="cluster"))
    assert study_slots(spec, 2, LocalBackend())
    with pytest.raises(StudyError, match=r"resources\.backend: expected local, .* got cluster"):
        study_slots(other, 2, LocalBackend())


@pytest.mark.parametrize(("name", "text"), [("local", STUDY), (None, STUDY)])
def test_nothing_is_started_where_there_is_nothing_to_detach(
    tmp_path: Path, calls: list[tuple[str, ...]], name: str | None, text: str
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with (
        pytest.raises(UsageError, match="add --backend external"),
        started_backend(tmp_path / "a.yaml", name, detach=True),
    ):
        pass
    assert calls == []
    with started_backend(tmp_path / "a.yaml", "cluster", detach=True):
        pass
    assert calls == [("cluster", "workload"), ("cluster", "closed")]
