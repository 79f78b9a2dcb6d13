"""The paths of the files in a study folder and in a trial folder: the contract between runner and worker.

The folder of a trial is in one of three places of the study folder, and the place says who may write into it:
`trials/00007` and `offered/00007.new` the runner, `offered/00007` nothing, `claimed/00007.<claim>` the worker that has
claimed the trial.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_STEP = re.compile(r"step-([0-9]{1,18})")
_TRIAL = re.compile(r"([0-9]{1,18})(?:\..*)?", re.DOTALL)

SET_ASIDE = ".earlier-"
"""A folder in that of a trial: what there was of it when it started over as its only checkpoint seemed damaged (see
programs.resumed_checkpoint). Behind it is the length of the log when the last attempt with that checkpoint began.
"""

SHUT_OUT = (".lost", ".whole", ".gone")
"""What the name of a claim has behind it while its trial is taken back from its worker, and afterwards."""


def step_of_files(name: str) -> int | None:
    """The step of a folder of files by its name, `step-00000100`; None for another name."""
    match = _STEP.fullmatch(name)
    return None if match is None else int(match[1])


def trial_of_folder(name: str) -> int | None:
    """The trial of a folder by its name, `00007`, or `00007.<claim>` where a worker has it; None for another name."""
    match = _TRIAL.fullmatch(name)
    return None if match is None else int(match[1])


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """The files of one trial, `trials/00007`; of one that a worker has, `claimed/00007.<claim>`."""

    path: Path

    @property
    def study(self) -> Path:
        """The study folder that it belongs to. Below that, no part of a path may be a link."""
        return self.path.parent.parent

    @property
    def trial(self) -> int | None:
        """The trial's id by the name of the folder; None where that is no such name."""
        return trial_of_folder(self.path.name)

    def at_home(self, text: str) -> str:
        """A text in which paths of this folder are those that it has when no worker has the trial any more."""
        if self.trial is None or self.path.parent.name != "claimed":
            return text
        return text.replace(f"claimed/{self.path.name}", f"trials/{self.trial:05d}")

    @property
    def request(self) -> Path:
        """What to train: written by the runner before the trial is launched."""
        return self.path / "request.json"

    @property
    def measurements(self) -> Path:
        """One JSON line for each evaluation, appended by the worker."""
        return self.path / "measurements.jsonl"

    @property
    def steps(self) -> Path:
        """Losses and gradient norms of every update, in blocks; appended by the worker."""
        return self.path / "steps.jsonl"

    @property
    def predictions(self) -> Path:
        """What the model predicted for chosen examples, a JSON line for each evaluation; appended by the worker."""
        return self.path / "predictions.jsonl"

    @property
    def recoveries(self) -> Path:
        """One JSON line for each time the trial went back to an earlier state, with the lines that this removed."""
        return self.path / "recoveries.jsonl"

    @property
    def log(self) -> Path:
        """What the trial wrote to stdout and stderr, over all attempts."""
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """The folder of the N best checkpoints."""
        return self.path / "checkpoints"

    @property
    def files(self) -> Path:
        """The folder that the user's command, function or workload may write to."""
        return self.path / "files"

    def files_of(self, step: int) -> Path:
        """The folder of the files that were written at the evaluation after `step` updates."""
        return self.files / f"step-{step:08d}"

    def unfinished_files(self, step: int) -> Path:
        """The same folder while it is written."""
        return self.files / f".step-{step:08d}"

    @property
    def resume(self) -> Path:
        """The checkpoint from which an interrupted trial resumes."""
        return self.path / "resume.pt"

    @property
    def previous_resume(self) -> Path:
        """The `resume.pt` before the last one, used if that is damaged; there only until the trial ends."""
        return self.path / "resume.previous.pt"

    @property
    def data_report(self) -> Path:
        """What `check --probe` found in the data; never in a study's own folder."""
        return self.path / "data_checks.json"

    @property
    def trace(self) -> Path:
        """The trace of a few updates, by torch.profiler; of a trial of `profile`."""
        return self.path / "trace.json.gz"

    @property
    def result(self) -> Path:
        """Written last, by rename: it exists exactly when the trial ended by itself."""
        return self.path / "result.json"

    @property
    def attempts(self) -> Path:
        """One JSON line for each attempt that did not end by itself, appended by the runner."""
        return self.path / "attempts.jsonl"

    @property
    def earlier(self) -> Path:
        """The folder with the trial's files as they were before a changed study read its output again."""
        return self.path / "earlier"

    @property
    def data(self) -> Path:
        """The sizes of the workload's splits; only in the trial of a last training that counts them."""
        return self.path / "data.json"

    @property
    def offer(self) -> Path:
        """What the runner offers to workers; there only while the trial is offered, claimed or just ended."""
        return self.path / "offer.json"

    @property
    def claimant(self) -> Path:
        """Which worker has claimed the trial; written by it."""
        return self.path / "claim.json"

    @property
    def beat(self) -> Path:
        """A number that the worker raises while it has the trial."""
        return self.path / "beat"

    @property
    def stop_request(self) -> Path:
        """Asks the worker to stop the trial; written by the runner."""
        return self.path / "stop.json"

    @property
    def ending(self) -> Path:
        """How the trial's process ended; written by the worker, after the process has ended."""
        return self.path / "ended.json"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint after `step` updates."""
        return self.checkpoints / f"step-{step:08d}.pt"


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The files of one study, `runs/<study>`."""

    path: Path

    @property
    def study(self) -> Path:
        """The study file, as the user wrote it."""
        return self.path / "study.yaml"

    @property
    def points(self) -> Path:
        """The CSV file that the study file's `search.points` names, if it names one."""
        return self.path / "points.csv"

    @property
    def earlier_trials(self) -> Path:
        """The trials of an earlier study from which points are proposed; only under the sampler bayesian."""
        return self.path / "earlier_trials.json"

    @property
    def plan(self) -> Path:
        """One JSON line for each planned trial; lines are only appended."""
        return self.path / "plan.jsonl"

    @property
    def index(self) -> Path:
        """The SQLite index of the trial folders; it can be rebuilt from them."""
        return self.path / "study.db"

    @property
    def provenance(self) -> Path:
        """Commands, versions, git commits and hashes: one entry for each run that trained something."""
        return self.path / "provenance.json"

    @property
    def events(self) -> Path:
        """A JSON line for everything that happened in the runs, for programs that follow them."""
        return self.path / "events.jsonl"

    @property
    def uncommitted(self) -> Path:
        """The uncommitted changes of the workload's git repository at the last run."""
        return self.path / "uncommitted.diff"

    @property
    def lock(self) -> Path:
        """Held (flock) by the runner, its server and its workers."""
        return self.path / "lock"

    @property
    def claim(self) -> Path:
        """Replaces the lock on a file system without locks: there while a runner works, or after it was killed."""
        return self.path / "lock.claim"

    @property
    def procedure(self) -> Path:
        """The options of a procedure; only in the folder of a procedure."""
        return self.path / "procedure.json"

    @property
    def conclusion(self) -> Path:
        """The result of a procedure."""
        return self.path / "conclusion.json"

    @property
    def looks(self) -> Path:
        """A JSON line for each time that the `test` split was, or was about to be, evaluated for this study."""
        return self.path / "test_looks.jsonl"

    @property
    def model(self) -> Path:
        """The weights of the last training, a state_dict; only in its folder, as the three files that follow."""
        return self.path / "model.pt"

    @property
    def configuration(self) -> Path:
        """All that the model of a last training is built with, and what was measured of it."""
        return self.path / "configuration.json"

    @property
    def loader(self) -> Path:
        """A Python file that loads the model of a last training."""
        return self.path / "load_model.py"

    @property
    def card(self) -> Path:
        """What the model of a last training is, in words."""
        return self.path / "MODEL_CARD.md"

    @property
    def written(self) -> Path:
        """The files that trials wrote in the folder where they run: a JSON line for each change."""
        return self.path / "written.jsonl"

    @property
    def rereading(self) -> Path:
        """There while the output of ended trials is read again, because the study now reads it differently."""
        return self.path / "rereading"

    @property
    def requests(self) -> Path:
        """The folder of the requests to the run that is at work, and of their answers; there only while it has some."""
        return self.path / "requests"

    @property
    def added(self) -> Path:
        """The number of trials that `tunectl add` has raised `search.trials` to; only where it did."""
        return self.path / "added.json"

    @property
    def earlier(self) -> Path:
        """The folder with earlier states of the study, numbered from 1, from before it was changed completely."""
        return self.path / "earlier"

    @property
    def faults(self) -> Path:
        """Tracebacks of the parts that failed in the last report; there only after an internal error of tunectl."""
        return self.path / "faults.txt"

    @property
    def trials(self) -> Path:
        """The folder of trial folders."""
        return self.path / "trials"

    @property
    def workers(self) -> Path:
        """The folder of what an engine keeps of the workers that it starts, with their logs."""
        return self.path / "workers"

    @property
    def offered(self) -> Path:
        """The folder of the trials that any worker may claim; there only while a run offers its trials."""
        return self.path / "offered"

    @property
    def claimed(self) -> Path:
        """The folder of the trials that workers have; there only while a run offers its trials."""
        return self.path / "claimed"

    @property
    def run_state(self) -> Path:
        """What workers need to know of the run that offers trials; there only while one does."""
        return self.path / "run.json"

    @property
    def run_beat(self) -> Path:
        """A number that the run raises while it is at work."""
        return self.path / "run.beat"

    @property
    def tables(self) -> Path:
        """The folder of tables."""
        return self.path / "tables"

    @property
    def plots(self) -> Path:
        """The folder of pictures."""
        return self.path / "plots"

    @property
    def exports(self) -> Path:
        """The folder of exports to other tools."""
        return self.path / "exports"

    def home(self, trial: int) -> TrialFolder:
        """The folder of the trial with this id while no worker is concerned with it, as the tables name it."""
        return TrialFolder(self.trials / f"{trial:05d}")

    def trial(self, trial: int) -> TrialFolder:
        """The folder of the trial with this id where it is now: at home, offered to workers, or with one of them."""
        home = self.home(trial)
        if home.path.exists():
            return home
        name = home.path.name
        if (self.offered / name).exists():
            return TrialFolder(self.offered / name)
        try:
            claims = {entry for entry in os.listdir(self.claimed) if entry.startswith(f"{name}.")}  # noqa: PTH208
        except OSError:
            claims = set()
        found = sorted(entry for entry in claims if not _is_remnant(entry, claims))
        if found:
            return TrialFolder(self.claimed / found[0])
        desk = self.offered / f"{name}.new"
        return TrialFolder(desk) if desk.exists() else home


def _is_remnant(name: str, claims: Collection[str]) -> bool:
    """Whether a folder among the claims is none of a trial, by the steps of store.lost_claims."""
    return name.endswith((".new", ".gone")) or any(
        f"{name}{suffix}" in claims for suffix in (".lost", ".whole", ".gone")
    )
