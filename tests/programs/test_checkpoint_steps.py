"""Checkpoints whose names count otherwise than the metrics: matched by what is certain, else said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from program_calls import Programs

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import Checkpoints, MetricSource, Optional
from tunectl.programs.checkpoint_steps import is_other_unit, matched
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.kept_checkpoints import CheckpointPattern, KeptCheckpoints
from tunectl.store.trial_files import read_trial

LOSSES = {1: 0.9, 2: 0.31234567, 3: 0.5}


class Trainer:
    """A Trainer of Hugging Face, acted: it evaluates each epoch of `updates`, and saves then, or every `saves`."""

    def __init__(self, root: Path, updates: int = 500, *, with_state: bool = True, keep: int = 1) -> None:
        self.updates, self.with_state = updates, with_state
        self.history: list[dict[str, float]] = []
        self.folder = TrialFolder(root / "00000")
        self.home = self.folder.path / "files"
        self.home.mkdir(parents=True)
        self.collector = Collector(lambda: 0.0)
        pattern = CheckpointPattern.of(Checkpoints("{trial.dir}/checkpoint-{step}"), {"trial.dir": str(self.home)})
        self.kept = KeptCheckpoints(pattern, self.folder, Objective("loss", "minimize"), keep, length=3)

    def evaluates(self, epoch: int, loss: float, **others: float) -> None:
        self.history.append({"loss": loss + 0.1, "epoch": epoch - 0.5, "step": epoch * self.updates - 100})
        self.history.append({"eval_loss": loss, "eval_runtime": 0.5, "epoch": epoch, "step": epoch * self.updates})
        self.collector.add(epoch, {"loss": round(loss, 4), **others})

    def saves(self, update: int) -> None:
        folder = self.home / f"checkpoint-{update}"
        folder.mkdir()
        (folder / "model").write_text(str(update))
        if self.with_state:
            (folder / "trainer_state.json").write_text(json.dumps({"global_step": update, "log_history": self.history}))
        self.looks()

    def looks(self, *, ended: bool = False) -> None:
        for step, name in self.kept.update(self.collector, ended=ended).items():
            self.collector.name_checkpoint(step, name)

    def ends(self) -> tuple[dict[int, str], list[str]]:
        """What the checkpoint that each step names holds, and what is left of all."""
        self.looks(ended=True)
        names = {item.step: item.checkpoint for item in self.collector.measurements() if item.checkpoint}
        paths = {step: self.folder.checkpoints / name / "model" for step, name in names.items()}
        held = {step: path.read_text() for step, path in paths.items() if path.exists()}
        return held, sorted(path.name for path in self.home.iterdir())


def test_checkpoints_of_a_trainer_are_matched_by_what_it_writes_into_them(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path)
    for epoch, loss in LOSSES.items():
        trainer.evaluates(epoch, loss)
        trainer.saves(500 * epoch)
    assert trainer.ends() == ({2: "1000", 3: "1500"}, ["checkpoint-1000", "checkpoint-1500"])
    assert trainer.kept.note == ""


def test_one_saved_at_other_updates_than_it_evaluates_belongs_to_none(tmp_path: Path) -> None:
    """As many of both, and each number 500 times an epoch's: by their numbers they would fit."""
    trainer = Trainer(tmp_path, updates=600)
    for epoch, loss in LOSSES.items():
        trainer.saves(500 * epoch)
        trainer.evaluates(epoch, loss)
    assert trainer.ends() == ({}, ["checkpoint-1500"])
    assert "cannot be matched with its evaluations" in trainer.kept.note
    assert "checkpoint-1500" in trainer.kept.note


def test_where_nothing_says_what_they_belong_to_the_last_are_kept(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, with_state=False, keep=2)
    for epoch, loss in LOSSES.items():
        trainer.evaluates(epoch, loss)
        trainer.saves(500 * epoch)
    assert trainer.ends() == ({}, ["checkpoint-1000", "checkpoint-1500"])
    assert "checkpoints: {path: ..., every: ...}" in trainer.kept.note


@pytest.mark.parametrize("name", ["global_step", "train/global_step", "step", "iter_num"])
def test_a_metric_that_counts_as_the_names_do_matches_them(tmp_path: Path, name: str) -> None:
    trainer = Trainer(tmp_path, with_state=False)
    for epoch, loss in LOSSES.items():
        trainer.evaluates(epoch, loss, **{name: 500.0 * epoch})
        trainer.saves(500 * epoch)
    assert trainer.ends() == ({2: "1000", 3: "1500"}, ["checkpoint-1000", "checkpoint-1500"])


def test_names_in_epochs_are_matched_with_metrics_in_updates_that_print_the_epoch(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, with_state=False)
    for epoch, loss in LOSSES.items():
        trainer.collector.add(500 * epoch, {"loss": loss, "epoch": float(epoch)})
        trainer.saves(epoch)
    assert trainer.ends()[0] == {1000: "2", 1500: "3"}


def test_a_metric_that_two_steps_share_matches_neither() -> None:
    there = {2: Path("a")}
    evaluations = [(100, {"loss": 1.0, "epoch": 2.0}), (200, {"loss": 1.0, "epoch": 2.0})]
    assert matched(there, evaluations, "loss") == {}
    assert matched(there, [*evaluations[:1]], "loss") == {2: 100}
    assert matched(there, [(100, {"loss": 1.0, "accuracy": 2.0})], "loss") == {}


def test_a_history_that_says_something_else_matches_nothing(tmp_path: Path) -> None:
    for history in ([{"eval_loss": 0.7, "step": 500}], [{"eval_loss": 0.9, "step": 500}] * 4, None, ["x"]):
        folder = tmp_path / "checkpoint-500"
        folder.mkdir(exist_ok=True)
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
        assert matched({500: folder}, [(1, {"loss": 0.9}), (2, {"loss": 0.9})], "loss") == {}
    (folder / "trainer_state.json").write_text('{"log_hist')
    assert matched({500: folder}, [(1, {"loss": 0.9})], "loss") == {}


def test_numbers_far_beyond_all_steps_are_of_another_unit() -> None:
    assert is_other_unit([500, 1000], 2, 3)
    assert not is_other_unit([3, 4], 2, 3)
    assert not is_other_unit([60], 30, 20), "a program that trains longer than it is asked to"
    assert not is_other_unit([], None, 3)


@pytest.mark.parametrize(
    ("first", "offset", "held"), [(0, None, {}), (0, 1, {2: "1", 3: "2"}), (1, None, {2: "2", 3: "3"})]
)
def test_names_that_count_from_0_beside_steps_from_1_are_matched_only_where_the_study_says_so(
    tmp_path: Path, first: int, offset: int | None, held: dict[int, str]
) -> None:
    trainer = Trainer(tmp_path)
    checkpoints = Checkpoints("{trial.dir}/checkpoint-{step}", offset=offset)
    trainer.kept.pattern = CheckpointPattern.of(checkpoints, {"trial.dir": str(trainer.home)})
    for epoch, loss in LOSSES.items():
        trainer.evaluates(epoch, loss)
        trainer.saves(epoch - 1 + first)
    assert trainer.ends()[0] == held
    assert ("offset: 1" in trainer.kept.note) is (held == {})


GOES_ON = """
import os, sys
home, resume = sys.argv[1], sys.argv[2:]
first = int(open(resume[0] + "/model").read()) // 100 if resume else 0
for epoch in range(first + 1, 5):
    print(f"epoch {epoch} loss {1 / epoch} global {100 * epoch}", flush=True)
    os.mkdir(f"{home}/checkpoint-{100 * epoch}")
    open(f"{home}/checkpoint-{100 * epoch}/model", "w").write(str(100 * epoch))
    if epoch == 2 and not resume:
        print("epoch 3 loss 9 global 300"); sys.exit(9)
"""


@pytest.mark.parametrize("is_printed", [True, False])
def test_a_trial_goes_on_from_a_checkpoint_of_another_unit(tmp_path: Path, is_printed: bool) -> None:
    programs = Programs(tmp_path)
    text = r"epoch (?P<step>\d+) loss (?P<loss>\S+)" + (r" global (?P<global_step>\S+)" if is_printed else "")
    own = {"sources": (MetricSource("regex", text),), "checkpoints": Checkpoints("{trial.dir}/checkpoint-{step}")}
    request = programs.request(GOES_ON, "{trial.dir}", Optional(("{trial.resume}",)), max_train_steps=4, **own)
    programs.run(request)
    second = programs.run(replace(request, attempt=2))
    assert second is not None
    assert second.state == "completed"
    measurements = read_trial(programs.folder).measurements
    assert [(item.step, item.metrics["loss"]) for item in measurements] == [(n, 1 / n) for n in (1, 2, 3, 4)]
    assert measurements[-1].checkpoint == ("step-00000400" if is_printed else None)
    assert ("cannot be matched" in second.message) is not is_printed
