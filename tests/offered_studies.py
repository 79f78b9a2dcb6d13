"""Study folders whose trials are offered to workers."""

from __future__ import annotations

from pathlib import Path

from tunectl.core.folders import StudyFolder
from tunectl.store import offered_trials
from tunectl.store.offered_trials import Offer


def offered_study(path: Path, trials: int) -> StudyFolder:
    """A study folder with this number of offered trials, each with a small request."""
    study = StudyFolder(path)
    study.trials.mkdir(parents=True)
    offered_trials.make_places(study)
    for trial in range(trials):
        home = offered_trials.home_folder(study, trial)
        home.path.mkdir()
        home.request.write_text('{"kind": "workload"}')
        offered_trials.offer_trial(study, Offer(trial, 1))
    return study
