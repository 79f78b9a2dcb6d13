"""README.md, "Everyday questions": the step of each is read from there and taken in a scratch folder, as a user would.

A row without a test fails, and so does one whose step is not what README promises any more. Two small studies are
trained for all of them, at the same time; the steps for a run at work are taken while they train.
"""

from __future__ import annotations

import ast
import os
import pty
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pytest
import yaml
from headless_browser import browser, found_browser
from narrowing import of_type, present
from study_calls import Called, call_in_process
from toy_trials import wait_until
from warm_server import ForkedProcess, WarmServers

import tunectl
from tunectl.execution.devices import find_devices
from tunectl.execution.nvml import Gpu
from tunectl.language.study_reader import load_study

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.split("\n## Everyday questions\n")[1].split("\n## ")[0]
ROWS = re.findall(r"^\| (.+?) \| (.+) \|$", SECTION, re.MULTILINE)[2:]  # without the head of the table
STEPS: Mapping[str, list[str]] = {question: re.findall(r"`([^`]+)`", step) for question, step in ROWS}
"""What the step of each question has as code."""

CORES = len(os.sched_getaffinity(0))
TRIALS = max(12, 4 * CORES)
PATIENCE_SECONDS = 90
MINE = """
from pathlib import Path

import torch


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        Path(__file__).with_name("my_lion_was_here").touch()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad.sign(), alpha=-group["lr"])


def decay(step, total_steps):
    return 1 - step / total_steps
"""
TASK = """
import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

import tunectl

HERE = Path(__file__).parent
x = torch.linspace(-1, 1, 96)[torch.randperm(96, generator=torch.Generator().manual_seed(0)), None]
examples = TensorDataset(x, 2 * x + 0.1 * torch.sin(40 * x))


def distance(model, batch):
    return (model(batch["x"]) - batch["y"]).abs().squeeze(1)


def loss(model, batch):
    if model.training:
        with (HERE / "times.txt").open("a") as file:
            file.write(f"{{os.getpid()}} {{time.monotonic_ns()}}\\n")
        if (HERE / "hold").exists():
            time.sleep(0.05)  # a trial takes two seconds, so that others wait for its core
    return distance(model, batch) ** 2


def my_collate_fn(examples):
    return {{"x": torch.stack([x for x, _ in examples]), "y": torch.stack([y for _, y in examples])}}


def my_metrics(model, dataset, device):
    return {{"far": float(max(distance(model, my_collate_fn(list(dataset)))))}}


def my_picture(trial):
    trial.save_image("line", trial.model(torch.linspace(-1, 1, 64)[:, None]).reshape(8, 8))


def factory():
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)  # so that the largest rate is the best: the range is too low
    own = dict(
        model=model,
        data={{"train": torch.utils.data.Subset(examples, range(64)), "valid": torch.utils.data.Subset(examples, range(64, 96))}},
        loss=loss,
        metrics=lambda model, batch: {{"distance": distance(model, batch)}},
    )
    return {call}
"""
STUDY = """
study: {name}
goal: Which learning rate is good?
workload: ./task.py:factory
objective: {{metric: valid/distance, direction: minimize}}
training: {{max_train_steps: 40, eval_every: 20, keep_checkpoints: 2}}
hyperparameters:
  {optimizer}
  learning_rate: {{role: nuisance, range: [1e-4, 1e-2], scale: log}}
  batch_size: 16
search: {{trials: {trials}}}
"""

Test = TypeVar("Test", bound=Callable[..., None])
ANSWERED: list[str] = []


def answers(*questions: str) -> Callable[[Test], Test]:
    """Marks a test as that of these questions."""
    ANSWERED.extend(questions)
    return lambda test: test


def with_arguments(*calls: str) -> str:
    """The calls of README, each with `...` for what else it gets, as one call with all of their arguments."""
    parsed = [of_type(ast.Call, ast.parse(call, mode="eval").body) for call in calls]
    assert [[ast.unparse(one) for one in call.args] for call in parsed] == [["..."]] * len(calls)
    names = {ast.unparse(call.func) for call in parsed}
    arguments = [ast.unparse(one) for call in parsed for one in call.keywords]
    assert len(names) == 1, names
    return f"{names.pop()}(**own, {', '.join(arguments)})"


def write_files(folder: Path) -> None:
    """The studies x and y, with the code of their user: what README proposes is in it as it is there."""
    calls = ("a `collate_fn`", "F1, AUC or BLEU of a whole split", "a picture at every evaluation")
    (folder / "task.py").write_text(TASK.format(call=with_arguments(*(STEPS[question][0] for question in calls))))
    (folder / "mine.py").write_text(MINE)
    (folder / "x.yaml").write_text(STUDY.format(name="x", optimizer="optimizer: adam", trials=TRIALS))
    built_in, own = STEPS["Lion, or any other optimizer"]
    values = [yaml.safe_load(built_in)["optimizer"], own]
    lines = f"optimizer: {{role: scientific, values: {values}}}\n  {STEPS['a schedule of your own'][0]}"
    (folder / "y.yaml").write_text(STUDY.format(name="y", optimizer=lines, trials=1))


def call(folder: Path, line: str) -> Called:
    """A command line of README, called in this process as a shell in this folder would."""
    program, *words = shlex.split(line)
    assert program == "tunectl", line
    called = call_in_process(folder, {**os.environ, "COLUMNS": "80"}, *words)
    assert called.code == 0, called.err
    return called


def flat(text: str) -> str:
    """A printed text without its line breaks."""
    return " ".join(text.split())


@dataclass(frozen=True)
class Work:
    """A process of a command, and the files of what it prints."""

    process: ForkedProcess
    out: Path
    err: Path

    def finished(self) -> str:
        """What it prints, once it has ended well."""
        assert self.process.wait(PATIENCE_SECONDS) == 0, self.err.read_text()
        return self.out.read_text()


@contextmanager
def at_work(servers: WarmServers, folder: Path, *commands: str) -> Iterator[list[Work]]:
    """Processes of these command lines, started together; what is left of them is killed."""
    started: list[Work] = []
    try:
        for number, command in enumerate(commands):
            out, err = folder / f"{number}.out", folder / f"{number}.err"
            with chdir(folder), out.open("w") as printed, err.open("w") as said:
                program = servers.start_program(shlex.split(command)[1:], os.environ, printed, said)
            started.append(Work(program, out, err))
        yield started
    finally:
        for work in started:
            work.process.kill()
            work.process.wait()


@dataclass(frozen=True)
class Trained:
    """The folder with runs/x and runs/y, which have ended, and what was printed meanwhile.

    `paused_while_y_ended`: the run of x was still at work, without a trial, when that of y had ended.
    """

    folder: Path
    printed: Mapping[str, str]
    ended: Mapping[str, str]
    paused_while_y_ended: bool

    def study(self, name: str) -> tunectl.Study:
        return tunectl.open_study(self.folder / "runs" / name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, fast_machine: WarmServers, own_runtime_folder: None) -> Trained:
    folder = tmp_path_factory.mktemp("scratch")
    write_files(folder)
    (folder / "hold").touch()
    (stop,), (pause, resume) = STEPS["stop one trial, not the run"], STEPS["free the GPUs for a while"]
    (add,) = STEPS["ten more trials for each setting"]
    printed: dict[str, str] = {}
    # The last trials first: the first ones wait until the steps about them are taken.
    with at_work(fast_machine, folder, *(f"tunectl run {name}.yaml --order reversed" for name in "xy")) as (x, y):
        wait_until(lambda: all(has_begun(folder, name) for name in "xy"), "both runs train")
        printed[pause] = call(folder, pause).out
        (folder / "hold").unlink()
        ended = {"y": y.finished()}
        running = call(folder, "tunectl status runs/x --json").json()["states"].get("running", 0)
        paused = x.process.poll() is None and running == 0
        for step in (stop, add, resume):
            printed[step] = call(folder, step).out
        ended["x"] = x.finished()
    return Trained(folder, printed, ended, paused)


def has_begun(folder: Path, name: str) -> bool:
    """Whether a trial of the run is at work or was."""
    events = folder / "runs" / name / "events.jsonl"
    return events.exists() and '"trial_started"' in events.read_text()


def test_every_question_has_a_test_here() -> None:
    assert len(STEPS) == len(ROWS) > 15
    assert sorted(ANSWERED) == sorted(STEPS)


@answers("a data frame of all trials")
def test_all_trials_are_a_data_frame(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.folder)
    frame = eval(STEPS["a data frame of all trials"][0], {"tunectl": tunectl})
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["trial"]) == list(range(TRIALS + 10))
    assert {"state", "learning_rate", "best_value", "best_checkpoint"} <= set(frame.columns)


@answers("the command that trains trial 7")
def test_the_printed_command_is_about_a_study_with_the_values_of_trial_7(trained: Trained) -> None:
    (line,) = call(trained.folder, STEPS["the command that trains trial 7"][0]).out.splitlines()
    freeze, run = line.split(" && ")
    call(trained.folder, freeze)
    study = trained.folder / shlex.split(run)[2]
    call(trained.folder, f"tunectl check {study}")
    frozen, trial = load_study(study), trained.study("x").trial(7)
    assert {item.key: item.domain.listed for item in frozen.hyperparameters} == {
        name: (value,) for name, value in trial.hyperparameters.items()
    }
    assert frozen.training.trial_seed == trial.seed
    study.unlink()  # the command is called once


@pytest.mark.slow
def test_the_printed_command_trains_trial_7_again_with_the_same_numbers(trained: Trained) -> None:
    (line,) = call(trained.folder, STEPS["the command that trains trial 7"][0]).out.splitlines()
    for command in line.split(" && "):
        call(trained.folder, command)
    again, before = trained.study("x-trial-7").trial(0), trained.study("x").trial(7)
    assert (again.value, again.step, again.metrics) == (before.value, before.step, before.metrics)


@answers("stop one trial, not the run")
def test_a_stopped_trial_is_cancelled_and_all_others_are_trained(trained: Trained) -> None:
    states = trained.study("x").trials().set_index("trial")["state"]
    assert dict(states[states != "completed"]) == {3: "cancelled"}
    assert "trial 3 is cancelled" in trained.printed[STEPS["stop one trial, not the run"][0]]


@answers("free the GPUs for a while")
def test_while_a_run_is_paused_another_one_has_its_places_and_then_it_goes_on(trained: Trained) -> None:
    pause, resume = STEPS["free the GPUs for a while"]
    assert trained.paused_while_y_ended
    assert "pause" in trained.printed[pause]
    assert resume in trained.printed[pause]
    assert trained.printed[resume]


@answers("ten more trials for each setting")
def test_ten_more_trials_are_trained(trained: Trained) -> None:
    (add,) = STEPS["ten more trials for each setting"]
    assert f"10 more trials (search.trials: {TRIALS}, now {TRIALS + 10})" in trained.printed[add]
    assert Counter(trained.study("x").trials()["state"])["completed"] == TRIALS + 10 - 1


@answers("two runs on one machine")
def test_two_runs_never_train_more_trials_at_once_than_there_are_cores(trained: Trained) -> None:
    spans: dict[str, list[int]] = {}
    for line in (trained.folder / "times.txt").read_text().splitlines():
        process, at = line.split()
        first, _ = spans.setdefault(process, [int(at), int(at)])
        spans[process] = [first, int(at)]
    changes = [change for first, last in spans.values() for change in ((first, 1), (last, -1))]
    running = np.cumsum([change for _, change in sorted(changes)])
    assert len(spans) > TRIALS
    assert max(running) <= CORES


@answers("trials on other hosts")
def test_a_worker_trains_the_trials_that_a_run_offers(
    trained: Trained, fast_machine: WarmServers, tmp_path: Path
) -> None:
    write_files(tmp_path)
    (tmp_path / "x.yaml").write_text(STUDY.format(name="x", optimizer="optimizer: adam", trials=2))
    run, work = STEPS["trials on other hosts"]
    with at_work(fast_machine, tmp_path, run.replace("STUDY", "x.yaml")) as (runner,):
        wait_until(lambda: (tmp_path / "runs" / "x" / "run.json").exists(), "the run offers its trials")
        assert "trials: 2 ended here" in call(tmp_path, work).out
        runner.finished()
    frames = [tunectl.open_study(folder / "runs" / "x").trials() for folder in (tmp_path, trained.folder)]
    elsewhere, here = (frame.set_index("trial")["best_value"].loc[[0, 1]] for frame in frames)
    assert dict(elsewhere) == dict(here)


@answers("GPU 1 alone")
def test_one_gpu_is_chosen_by_its_index(trained: Trained) -> None:
    study = trained.folder / "on-one-gpu.yaml"
    study.write_text((trained.folder / "x.yaml").read_text() + STEPS["GPU 1 alone"][0] + "\n")
    gpus = tuple(Gpu(f"GPU-{letter * 8}-0000-4106-c12f-20bd9faed9f6", "H100") for letter in "abc")
    (chosen,) = find_devices(load_study(study).resources.devices, {}, lambda: gpus)
    assert chosen.visible == gpus[1].uuid


@answers("Lion, or any other optimizer")
def test_lion_is_there_and_a_class_of_ones_own_is_as_good(trained: Trained) -> None:
    trials = trained.study("y").trials()
    assert list(trials["optimizer"]) == ["lion", "./mine.py:Lion"]
    assert list(trials["state"]) == ["completed"] * 2
    assert (trained.folder / "my_lion_was_here").exists()


@answers("a schedule of your own")
def test_the_learning_rate_follows_ones_own_schedule(trained: Trained) -> None:
    study = trained.study("y")
    for number in (0, 1):
        rates = study.steps(number)["learning_rate"].to_numpy()
        base = study.trial(number).hyperparameters["learning_rate"]
        assert isinstance(base, float)
        np.testing.assert_allclose(rates, base * (1 - np.arange(40) / 40), rtol=1e-6)


@answers("a `collate_fn`", "F1, AUC or BLEU of a whole split")
def test_batches_are_made_by_the_collate_fn_and_a_metric_of_the_whole_split_is_in_the_tables(trained: Trained) -> None:
    # `loss` and `metrics` of the workload read batches that only my_collate_fn makes.
    trials = trained.study("x").trials()
    completed = trials[trials["state"] == "completed"]
    assert (completed["valid/far"] >= completed["valid/distance"]).all()


@answers("a picture at every evaluation")
def test_every_evaluation_has_its_picture_and_the_page_shows_it(trained: Trained) -> None:
    study = trained.study("y")
    evaluated = study.measurements().groupby("trial")["step"].unique()
    assert {step for steps in evaluated for step in steps} == {0, 20, 40}
    for number, steps in evaluated.items():
        files = study.folder / "trials" / f"{number:05}" / "files"
        assert sorted(path.name for path in files.glob("*/line.png")) == ["line.png"] * len(steps)
    assert "line.png" in (study.folder / "report.html").read_text()


@answers("the answer in one sentence")
def test_the_answer_is_at_the_end_of_the_run_on_the_page_and_in_show(trained: Trained) -> None:
    run, show = STEPS["the answer in one sentence"]
    sentence = call(trained.folder, f"{show} --json").json()["answer"]["sentence"]
    assert sentence.startswith("The best of ")
    assert run == "run"
    answer = f"answer: {sentence}"
    assert answer in flat(trained.ended["x"])[-1500:]
    assert flat(call(trained.folder, show).out).startswith(answer)
    page = (trained.folder / "runs" / "x" / "report.html").read_text()
    assert 0 < page.index(sentence) < page.index("<table")


@answers("the next study, without writing it")
def test_the_next_study_is_printed_and_no_file_changes(trained: Trained) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")}

    before = files()
    printed = call(trained.folder, STEPS["the next study, without writing it"][0]).out
    assert files() == before
    assert "learning_rate" in printed


@answers("two studies on one page")
def test_two_studies_are_on_one_page(trained: Trained) -> None:
    call(trained.folder, STEPS["two studies on one page"][0])
    page = (trained.folder / "runs" / "studies.html").read_text()
    assert "<h1>x · y</h1>" in page


@answers("a table in LaTeX")
@pytest.mark.skipif(found_browser() is None, reason="no Chromium or Chrome here")
def test_the_menu_beside_a_table_saves_it_in_latex(trained: Trained) -> None:
    (button,) = STEPS["a table in LaTeX"]
    with browser(present(found_browser())) as page:
        page.open(trained.folder / "runs" / "x" / "report.html")
        page.wait("document.querySelector('[data-table] .choices')")
        menus = page.run(
            "[...document.querySelector('[data-table]').querySelectorAll('summary')].map(m => m.textContent)"
        )
        latex = page.run(SAVED_LATEX)
    assert button in menus
    assert latex.count("\\\\\n") > 1
    assert "\\toprule" in latex


SAVED_LATEX = """
new Promise((done) => {
    const made = URL.createObjectURL;
    URL.createObjectURL = (blob) => { blob.text().then(done); return made.call(URL, blob); };
    const buttons = [...document.querySelector('[data-table]').querySelectorAll('.choices button')];
    buttons.find((item) => item.textContent === 'LaTeX').click();
})
"""


@answers("free the disk")
def test_the_disk_is_freed_after_a_yes(trained: Trained) -> None:
    folder, line = trained.folder, STEPS["free the disk"][0]

    def kept() -> dict[Any, int]:
        return Counter(path.parent.parent.name for path in folder.glob("runs/x/trials/*/checkpoints/*.pt"))

    before = kept()
    assert "may go" in call(folder, line).out
    assert kept() == before, "there was no terminal to answer at"
    ours, theirs = pty.openpty()
    os.write(ours, b"y\n")
    program = [sys.executable, "-m", *shlex.split(line)]
    asked = subprocess.run(program, cwd=folder, stdin=theirs, capture_output=True, text=True, check=True)
    os.close(ours)
    os.close(theirs)
    assert "remove it?" in asked.stderr
    assert max(before.values()) == 2
    assert set(kept().values()) == {1}
    best = trained.study("x").best()
    assert present(best.checkpoint).exists()
