"""Study folders whose trials are offered to workers, as a run offers them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import WorkloadReference
from tunectl.core.typed_fields import typed
from tunectl.language.study_spec import ResourcesSection
from tunectl.store import offered_trials, run_state
from tunectl.store.offered_trials import Offer
from tunectl.store.run_state import RunPhase, RunState, WorkerNeeds

COMMAND = WorkloadReference("command", workload_kind="command")


def offered_study(path: Path, trials: int) -> StudyFolder:
    """A study folder with this number of offered trials, each with a small request."""
    study = StudyFolder(path)
    study.trials.mkdir(parents=True)
    study.plan.touch()
    offered_trials.make_places(study)
    for trial in range(trials):
        home = offered_trials.home_folder(study, trial)
        home.path.mkdir()
        home.request.write_text('{"kind": "workload"}')
        offered_trials.offer_trial(study, Offer(trial, 1))
    return study


def offered_again(trained: Path, place: Path, phase: RunPhase = "left", **changes: Any) -> StudyFolder:
    """A study folder with the trials of a study that was trained, offered as if none had begun."""
    of, study = StudyFolder(trained), StudyFolder(place)
    study.trials.mkdir(parents=True)
    for path in (of.study, of.plan):
        shutil.copy(path, place / path.name)
    offered_trials.make_places(study)
    for folder in sorted(of.trials.iterdir()):
        home = TrialFolder(study.trials / folder.name)
        home.path.mkdir()
        shutil.copy(TrialFolder(folder).request, home.request)
        offered_trials.offer_trial(study, Offer(int(folder.name), 1))
    run_state.write_run_state(study, state_of(study, 0, phase, **changes))
    return study


def state_of(study: StudyFolder, trial: int, phase: RunPhase = "left", **changes: Any) -> RunState:
    """The state of a run of an offered study, whose workload is that of one of its trials."""
    request = json.loads(offered_trials.offered_folder(study, trial).request.read_text())
    reference = typed(WorkloadReference, request["workload"]) if "workload" in request else COMMAND
    needs = WorkerNeeds(reference, request.get("arguments", {}), current_folder=str(study.path.parent))
    resources = ResourcesSection(devices="cpu", grace_seconds=20.0)
    return dataclasses.replace(RunState("token", phase, needs, resources, heartbeat_seconds=1.0), **changes)


_OF_ONE_TRAINING = ("train_seconds", "eval_seconds", "startup_seconds", "elapsed_seconds", "attempt", "crc32")


def content_of(trial: Path) -> dict[str, object]:
    """The files of an ended trial, without what differs between two trainings of it; of checkpoints the tensors."""
    found: dict[str, object] = {}
    for path in sorted(trial.rglob("*")):
        name = str(path.relative_to(trial))
        if path.is_dir() or name in ("log.txt", "attempts.jsonl", "resume.pt"):
            continue
        if path.suffix in (".json", ".jsonl"):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{key: line[key] for key in line if key not in _OF_ONE_TRAINING} for line in lines]
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found[name] = [archive.read(member) for member in archive.namelist() if "/data/" in member]
        else:
            found[name] = path.read_bytes()
    return found
