"""The stages of a study: what is refused and doubted, and the schedule of a longer trial.

Tests language/stage_lengths.py and language/stage_checks.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from builders import NUISANCE_RATE, problems_of, study

from tunectl.core.errors import Problem
from tunectl.core.records import Scalar
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.identity import differences
from tunectl.language.review import review
from tunectl.language.stage_checks import check_own_length
from tunectl.language.stage_lengths import carried_over, planned_training, spec_of, stage_words
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.space.search_space import Stage
from tunectl.training.schedules import learning_rate


def promoting(promote: str, **sections: str) -> dict[str, str]:
    return {"search": f"{{trials: 8, promote: {promote}}}", **sections}


def test_stages_are_longer_and_keep_fewer_each() -> None:
    spec = study(
        {"learning_rate": NUISANCE_RATE},
        **promoting("[{keep: 4, max_train_steps: 4000}, {keep: 4, max_train_steps: 8000, eval_every: 400}]"),
    )
    assert spec.search.promote == (Stage(4, 4000), Stage(4, 8000, 400))
    assert [stage_words(spec, stage) for stage in range(3)] == [
        "stage 0 (2,000 steps)",
        "stage 1 (4,000 steps)",
        "stage 2 (8,000 steps)",
    ]
    assert [spec_of(spec, stage).training.eval_every for stage in range(3)] == [100, 100, 400]


REFUSED = {
    "[{keep: 4, max_train_steps: 2000}]": "search.promote[0].max_train_steps: expected more than 2,000 "
    "(training.max_train_steps), got 2,000: each stage trains longer than the one before it",
    "[{keep: 9, max_train_steps: 3000}]": "search.promote[0].keep: expected at most 8 (search.trials), got 9: a stage "
    "keeps the best of those",
    "[{keep: 2, max_train_steps: 3000}, {keep: 3, max_train_steps: 4000}]": "search.promote[1].keep: expected at most "
    "2 (search.promote[0].keep), got 3: a stage keeps the best of those",
    "[{keep: 2, max_train_steps: 3000}, {keep: 2, max_train_steps: 2500}]": "search.promote[1].max_train_steps: "
    "expected more than 3,000 (search.promote[0].max_train_steps), got 2,500: each stage trains longer than the one "
    "before it",
    "[{keep: 2}]": "search.promote[0].max_train_steps: the key is missing; write the number of updates of a trial of "
    "this stage",
    "[{keap: 2, max_train_steps: 3000}]": "search.promote[0].keap: no such key; did you mean keep?",
    "{keep: 2, max_train_steps: 3000}": "search.promote: expected a list of stages, such as [{keep: 4, "
    "max_train_steps: 20000}], got a mapping",
    "[{keep: 0, max_train_steps: 3000}]": "search.promote[0].keep: expected at least 1, got 0",
}


@pytest.mark.parametrize("promote", REFUSED)
def test_a_stage_that_makes_no_sense_is_refused_with_its_place(promote: str) -> None:
    assert problems_of({"learning_rate": NUISANCE_RATE}, **promoting(promote)) == [REFUSED[promote]]


def rates(values: dict[str, object], steps: int, carried: dict[str, int | str]) -> list[float]:
    configuration = TrainingConfiguration.from_hyperparameters(
        {"optimizer": "sgd", "learning_rate": 1.0, **values, **carried}
    )
    return [learning_rate(configuration, steps, update) for update in range(configuration.total_steps(steps))]


def long_rates(values: dict[str, object], short: int = 100, long: int = 300) -> tuple[list[float], list[float]]:
    """The rates of a trial of `short` steps, and those of one of `long` steps with the schedule carried over."""
    configuration = TrainingConfiguration.from_hyperparameters({"optimizer": "sgd", "learning_rate": 1.0, **values})
    return rates(values, short, {}), rates(values, long, carried_over(configuration, short, long))


LENGTHENED: dict[str, dict[str, object]] = {
    "linear": {"schedule": "linear"},
    "linear with a warmup before": {"schedule": "linear", "warmup_steps": 20},
    "linear with a warmup within": {"schedule": "linear", "warmup_steps": 20, "warmup": "within"},
    "linear after a constant rate": {"schedule": "linear", "warmup_steps": 5, "post_warmup_steps": 30},
    "linear that ends early": {"schedule": "linear", "decay_steps": 60, "end_learning_rate_factor": 0.1},
    "linear that is cut": {"schedule": "linear", "decay_steps": 400},
    "inverse_sqrt": {"schedule": "inverse_sqrt", "warmup_steps": 10},
    "inverse_sqrt with its own length": {"schedule": "inverse_sqrt", "decay_steps": 7},
    "constant": {"schedule": "constant", "warmup_steps": 10},
}


@pytest.mark.parametrize("name", LENGTHENED)
def test_a_decay_keeps_its_length_and_the_added_steps_are_at_the_base_rate_before_it(name: str) -> None:
    short, long = long_rates(LENGTHENED[name])
    warmup = int(LENGTHENED[name].get("warmup_steps", 0))  # type: ignore[call-overload]
    assert len(long) == len(short) + 200
    assert long[:warmup] == short[:warmup]
    assert long[warmup : warmup + 200] == [1.0] * 200
    assert long[warmup + 200 :] == pytest.approx(short[warmup:])


STRETCHED: dict[str, dict[str, object]] = {
    "cosine": {"schedule": "cosine"},
    "cosine with a length": {"schedule": "cosine", "decay_steps": 100},
    "cosine that ends early": {"schedule": "cosine", "decay_steps": 50},
    "step": {"schedule": "step", "decay_factor": 0.5, "decay_steps": 25},
}


@pytest.mark.parametrize("name", STRETCHED)
def test_cosine_and_step_keep_the_base_rate_and_are_stretched(name: str) -> None:
    short, long = long_rates(STRETCHED[name])
    assert long[::3] == pytest.approx(short)


def test_a_cosine_after_a_warmup_within_is_stretched_over_what_is_left() -> None:
    values: dict[str, object] = {"schedule": "cosine", "decay_steps": 80, "warmup_steps": 20, "warmup": "within"}
    short, long = long_rates(values)
    assert long[:20] == short[:20]
    assert [short[-1], long[-1]] == pytest.approx([0, 0], abs=1e-3)
    configuration = TrainingConfiguration.from_hyperparameters({"optimizer": "sgd", "learning_rate": 1.0, **values})
    assert carried_over(configuration, 100, 300) == {"decay_steps": 280}


def test_the_plan_of_a_promoted_trial_says_what_differs() -> None:
    spec = study(
        {"learning_rate": NUISANCE_RATE, "schedule": "linear"},
        **promoting("[{keep: 2, max_train_steps: 5000, eval_every: 250}]"),
    )
    values: dict[str, Scalar] = {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "linear"}
    assert planned_training(spec, values, 1) == {
        "max_train_steps": 5000,
        "eval_every": 250,
        "post_warmup_steps": 3000,
        "decay_steps": 2000,
    }


def about(problem: Problem) -> bool:
    return "stage" in problem.message or problem.path.startswith("search.promote")


def warnings_of(names: dict[str, str], promote: str = "[{keep: 2, max_train_steps: 20000}]") -> list[str]:
    spec = study({"learning_rate": NUISANCE_RATE, **names}, **promoting(promote))
    return [str(problem.message) for problem in review(spec, ({},), (8,)) if about(problem)]


def test_check_warns_where_the_added_steps_would_be_at_a_tiny_rate() -> None:
    (said,) = warnings_of({"schedule": "cosine", "decay_steps": "1200"})
    assert said.startswith("with these values the schedule has ended before max_train_steps: 40% of the steps")
    assert warnings_of({"schedule": "step", "decay_steps": "200"})
    for clean in (
        {"schedule": "cosine"},
        {"schedule": "cosine", "decay_steps": "2000"},
        {"schedule": "cosine", "decay_steps": "1200", "end_learning_rate_factor": "0.1"},
        {"schedule": "linear", "decay_steps": "500"},  # what is added comes before the decay
        {"schedule": "step"},
        {},
    ):
        assert warnings_of(clean) == []
    assert warnings_of({"schedule": "cosine", "decay_steps": "1200"}, "[]") == []


def test_check_warns_where_a_stage_is_rarely_evaluated() -> None:
    (said,) = warnings_of({}, "[{keep: 2, max_train_steps: 4000, eval_every: 1000}]")
    assert said.startswith("eval_every (1,000) gives 4 evaluations in max_train_steps (4,000): too few")
    assert warnings_of({}, "[{keep: 2, max_train_steps: 4000, eval_every: 400}]") == []


PROGRAM = """\
workload: {command: [python, train.py, "--lr={learning_rate}"%s], metrics: [{regex: "(?P<step>1) (?P<loss>2)"}]%s}
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 10}
hyperparameters:
  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log}
  %s
search: {trials: 4, promote: [{keep: 2, max_train_steps: 30}]}
"""


def program(option: str = "", more: str = "", hyperparameter: str = "") -> StudySpec:
    return parse_study(PROGRAM % (option, more, hyperparameter), Path("/studies/program.yaml"))


def test_a_program_that_decides_its_length_itself_is_refused_with_the_remedy() -> None:
    (problem,) = check_own_length(program(), "epochs = 3")
    assert problem.path == "search.promote"
    assert "pass {max_train_steps} to the option for its length, or read TUNECTL_MAX_TRAIN_STEPS" in problem.message
    assert check_own_length(program(), None) != []
    assert check_own_length(program(), "int(os.environ['TUNECTL_MAX_TRAIN_STEPS'])") == []
    assert check_own_length(program(', "--steps={max_train_steps}"'), "epochs = 3") == []
    assert check_own_length(program(more=', environment: {STEPS: "{max_train_steps}"}'), "epochs = 3") == []


def test_a_function_has_to_ask_for_the_length_or_pass_its_trial_on() -> None:
    spec = replace(program(), program=None, workload_kind="function", workload="f:train")
    assert check_own_length(spec, "def train(trial):\n  for step in range(trial.max_train_steps): pass") == []
    assert check_own_length(spec, "def train(trial):\n  fit(trial)") == []
    (problem,) = check_own_length(spec, "def train(trial):\n  for step in range(9): trial.record(step, {})")
    assert "train for trial.max_train_steps steps" in problem.message


def test_own_code_that_gets_the_length_of_its_decay_is_doubted() -> None:
    spec = program(', "--steps={max_train_steps}", "--decay={decay_steps}"', hyperparameter="decay_steps: 5")
    (said,) = [item.message for item in review(spec, ({},), (4,)) if "stage" in item.message]
    assert said.startswith("decay_steps has the same value in every stage")


BEFORE = "[{keep: 2, max_train_steps: 3000}]"
CHANGES = {
    "[{keep: 3, max_train_steps: 3000}]": (),
    "[{keep: 2, max_train_steps: 3000}, {keep: 1, max_train_steps: 9000}]": (),
    "[{keep: 2, max_train_steps: 3000, despite_boundary: true}]": (),
    "[{keep: 1, max_train_steps: 3000}]": ("search.promote[0].keep: was 2, is 1; it may only be raised",),
    "[{keep: 2, max_train_steps: 4000}]": ("search.promote[0].max_train_steps: was 3000, is 4000",),
    "[{keep: 2, max_train_steps: 3000, eval_every: 7}]": ("search.promote[0].eval_every: was not there, is 7",),
    "[]": ("search.promote[0]: was there, is not there; stages may only be added",),
}


@pytest.mark.parametrize("promote", CHANGES)
def test_stages_may_be_added_and_keep_more_between_two_runs(promote: str) -> None:
    old, new = (study({"learning_rate": NUISANCE_RATE}, **promoting(text)) for text in (BEFORE, promote))
    assert differences(old, new).results == CHANGES[promote]
    assert differences(study({"learning_rate": NUISANCE_RATE}, search="{trials: 8}"), new).results == ()


def test_a_wsd_schedule_keeps_its_share_and_points_of_a_piecewise_one_are_stretched() -> None:
    short, long = long_rates({"schedule": "wsd", "cooldown_share": 0.2, "cooldown_shape": "linear"})
    assert short == pytest.approx([1.0] * 80 + [1 - n / 20 for n in range(20)])
    assert long == pytest.approx([1.0] * 240 + [1 - n / 60 for n in range(60)])
    for points in ("50: 0.1, 80: 0.01", "50%: 0.1, 80%: 0.01"):
        _, long = long_rates({"schedule": "piecewise", "piecewise_points": points})
        assert long == pytest.approx([1.0] * 150 + [0.1] * 90 + [0.01] * 60)
    within = {"schedule": "piecewise", "piecewise_points": "40: 0.5", "warmup_steps": 20, "warmup": "within"}
    _, long = long_rates(within)
    assert long[20:] == pytest.approx([1.0] * 140 + [0.5] * 140)
