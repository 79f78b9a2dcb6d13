"""The waves of the sampler bayesian: the same after a kill at any moment, with an engine that is made up."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from builders import study_text
from made_up_engine import answered
from made_up_folders import made_up_folder, write_trial
from watchers import Silent

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialResult
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session import suggested_trials as waves
from tunectl.session.earlier_trials import earlier_trials
from tunectl.session.open_study import open_study, with_trials
from tunectl.suggestions.engine_files import EngineAnswer, EngineRequest
from tunectl.suggestions.engine_process import EngineError

TRAINING = "{max_train_steps: 100, eval_every: 50}"
SPACE = {
    "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    "width": "{role: nuisance, values: [32, 64]}",
}
DISCRETE = {"learning_rate": "{role: nuisance, values: [0.01, 0.03, 0.1, 0.3]}", "width": SPACE["width"]}
METRIC = "valid/error_rate"


def value(trial: PlannedTrial) -> float | None:
    rate = float(trial.hyperparameters["learning_rate"])
    return None if rate > 0.5 else 0.1 + 0.05 * math.log10(rate / 0.03) ** 2


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished exploration of SPACE, to be copied."""
    home = tmp_path_factory.mktemp("explored")
    made_up_folder(home / "explored", study_text(SPACE, training=TRAINING, search="{trials: 24}"), value)
    return home / "explored"


class Bayesian:
    """A study that is opened, asked for a wave and trained by a formula, as runs do that may be killed."""

    def __init__(self, home: Path, space: dict[str, str] = SPACE):
        self.home = home
        search = "{sampler: bayesian, after: explored, trials: 7}"
        self.text = study_text(space, training=TRAINING, search=search)
        self.folder = StudyFolder(home / "bayesian")
        self.requests: list[EngineRequest] = []
        self.said: list[str] = []
        self.engine_dies = False

    @property
    def spec(self) -> StudySpec:
        return parse_study(self.text, self.home / "bayesian.yaml")

    def engine(self, request: EngineRequest) -> EngineAnswer:
        if self.engine_dies:
            raise EngineError("was ended by signal 9")
        self.requests.append(request)
        return answered(request)

    def wave(self, slots: int = 3) -> list[PlannedTrial]:
        """Open the study, let it plan a wave where all trials have ended; the trials that are left are returned."""
        with open_study(self.spec, self.folder.path, Silent()) as study:
            if study.left():
                return study.left()
            earlier = earlier_trials(self.spec, self.home, self.folder.path)
            added = waves.suggested_trials(study, earlier, slots, self.said.append)
            return with_trials(study, added).left()

    def train(self, trials: Sequence[PlannedTrial], outcome: Callable[[PlannedTrial], float | None] = value) -> None:
        for trial in trials:
            write_trial(self.folder, trial, METRIC, outcome(trial))

    def run(self) -> list[dict[str, object]]:
        while left := self.wave():
            self.train(left)
        return self.plan

    @property
    def plan(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.folder.plan.read_text().splitlines()]


@pytest.fixture
def make(tmp_path: Path, explored: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bayesian]:
    def made(name: str = "undisturbed", space: dict[str, str] = SPACE) -> Bayesian:
        made = Bayesian(tmp_path / name, space)
        shutil.copytree(explored, made.home / "explored")
        monkeypatch.setattr(waves, "suggested", lambda request: made.engine(request))
        return made

    return made


def test_every_trial_says_in_the_plan_how_it_was_proposed(make: Callable[..., Bayesian]) -> None:
    study = make()
    plan = study.run()
    assert [request.points for request in study.requests] == [3, 3, 1]
    assert [len(request.finished) for request in study.requests] == [24, 27, 30]
    assert [line["point"] for line in plan] == list(range(7))
    expected = [(request, number) for request in study.requests for number in range(request.points)]
    for line, (request, number) in zip(plan, expected, strict=True):
        assert line["suggestion"] == {
            "engine": "made-up 1.0",
            "seed": request.seed,
            "data": request.data,
            "pending": number,
            "at_once": request.points,
        }
    assert len({str(line["hyperparameters"]) for line in plan}) == 7


def test_infeasible_trials_are_data_without_a_cost(make: Callable[..., Bayesian]) -> None:
    study = make()
    study.run()
    finished = study.requests[-1].finished
    lost = [item.coordinates[0] for item in finished if item.cost is None]
    kept = [item.coordinates[0] for item in finished if item.cost is not None]
    assert lost
    assert min(lost) > max(kept)


def before_the_engine(study: Bayesian) -> None:
    with open_study(study.spec, study.folder.path, Silent()):
        pass  # killed here: the folder is there, and nothing is planned


def during_the_engine(study: Bayesian) -> None:
    study.engine_dies = True
    with pytest.raises(EngineError):
        study.wave()
    study.engine_dies = False


def within_the_plan(study: Bayesian) -> None:
    """Two of three lines are on the disk, and the third is torn."""
    study.wave()
    lines = study.folder.plan.read_bytes().splitlines(keepends=True)
    study.folder.plan.write_bytes(b"".join(lines[:2]) + lines[2][:40])


def after_the_plan(study: Bayesian) -> None:
    study.wave()


def during_a_trial(study: Bayesian) -> None:
    left = study.wave()
    study.train(left[1:2])  # the others have not ended


def after_the_trials(study: Bayesian) -> None:
    study.train(study.wave()[::-1])  # and they ended in another order


@pytest.mark.parametrize(
    "killed",
    [before_the_engine, during_the_engine, within_the_plan, after_the_plan, during_a_trial, after_the_trials],
)
def test_a_run_that_was_killed_proposes_the_same_points(
    make: Callable[..., Bayesian], killed: Callable[[Bayesian], None]
) -> None:
    undisturbed = make("undisturbed").run()
    study = make("killed")
    killed(study)
    assert study.run() == undisturbed


def test_raising_trials_asks_for_more_and_keeps_the_first(make: Callable[..., Bayesian]) -> None:
    study = make()
    before = study.run()
    study.text = study.text.replace("trials: 7", "trials: 9")
    after = study.run()
    assert after[:7] == before
    assert len(after) == 9


def test_another_search_seed_asks_with_other_seeds(make: Callable[..., Bayesian]) -> None:
    seeds = []
    for name, search in (("first", "trials: 7"), ("second", "trials: 7, seed: 5")):
        study = make(name)
        study.text = study.text.replace("trials: 7", search)
        study.run()
        seeds.append({request.seed for request in study.requests})
    assert [len(own) for own in seeds] == [3, 3]
    assert seeds[0].isdisjoint(seeds[1])


def test_a_failed_trial_is_no_data_and_three_in_a_row_stop_the_study(make: Callable[..., Bayesian]) -> None:
    study = make()
    left = study.wave(slots=1)
    fail(study, left)
    left = study.wave(slots=1)
    assert len(study.requests[1].finished) == 24
    assert len(study.requests[1].pending) == 1  # its point is not proposed again
    fail(study, left)
    fail(study, study.wave(slots=1))
    with pytest.raises(FolderError, match=r"trials 0 to 2 have failed one after another \(a bug\).*--retry-failed"):
        study.wave(slots=1)


def fail(study: Bayesian, trials: Sequence[PlannedTrial]) -> None:
    for trial in trials:
        write_trial(study.folder, trial, METRIC, 0.5)
        result = TrialResult(trial.trial, "failed", "error", message="a bug", final_step=0)
        study.folder.trial(trial.trial).result.write_text(json.dumps(result.to_json()))


def test_a_space_that_was_tried_whole_ends_the_study(make: Callable[..., Bayesian]) -> None:
    """Of the 2 times 4 configurations, 24 Halton points have tried all."""
    study = make(space=DISCRETE)
    shutil.rmtree(study.home / "explored")
    text = study_text(DISCRETE, training=TRAINING, search="{trials: 24}")
    made_up_folder(study.home / "explored", text, value)
    assert study.wave() == []
    assert study.requests == []
    assert study.said == ["all 8 configurations of the space have been tried: there is no further point to propose"]
