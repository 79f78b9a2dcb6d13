"""A study of built-in optimizers that was trained for a few steps, in this process."""

from __future__ import annotations

import pytest
from builders import study_text
from made_up_folders import NOW

from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest
from tunectl.session.checked_study import check_study
from tunectl.session.outcome_index import refresh_index
from tunectl.session.trial_requests import trial_request
from tunectl.space.trial_plan import plan_trials
from tunectl.store.index import Index
from tunectl.store.plan_file import append_plan
from tunectl.store.provenance import append_provenance, describe_run
from tunectl.store.study_folder import create
from tunectl.store.trial_files import write_request, write_result
from tunectl.training.trial import run_trial
from tunectl.workloads.workload_import import load_factory

TEXT = study_text(
    {
        "optimizer": "{role: scientific, values: [nesterov, adam]}",
        "learning_rate": "\n    - {role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 3], scale: log}"
        "\n    - {role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}",
        "momentum": "{value: 0.9, when: {optimizer: nesterov}}",
        "num_layers": "1",
        "width": "4",
        "batch_size": "32",
    },
    study="optimizer-comparison",
    goal="Which is better?",
    training="{max_train_steps: 20, eval_every: 5, keep_checkpoints: 1}",
    search="{trials: 2}",
)


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """Four trials, all completed; no test may write to it."""
    home = tmp_path_factory.mktemp("trained")
    file = home / "study.yaml"
    file.write_text(TEXT)
    known = check_study(file, home)
    folder = create(home / "runs" / "optimizer-comparison", TEXT)
    folder.lock.touch()
    trials = plan_trials(known.spec)
    append_plan(folder.plan, trials)
    for trial in trials:
        request, own = trial_request(known.spec, known.reference, known.signature, trial), folder.trial(trial.trial)
        own.path.mkdir(parents=True)
        write_request(own, request)
        assert isinstance(request, TrialRequest)
        factory, seconds = load_factory(known.reference), TrialSeconds()
        result = run_trial(request, own, factory, device="cpu", stop=lambda: False, seconds=seconds)
        assert result is not None
        write_result(own, result)
    command = ("/usr/bin/tunectl", "run", file.name)
    run = describe_run(command, workload_file=None, study_file=file, study_folder=folder.path, now=NOW)
    append_provenance(folder, run)
    with Index.open_for_writing(folder.index) as index:
        refresh_index(folder, trials, known.spec.objective, index, lambda _line: None)
    return folder
