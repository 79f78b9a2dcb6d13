"""A user's function run as one trial."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import FunctionRequest, request_of
from tunectl.core.records import TrialResult, WorkloadReference
from tunectl.store.trial_files import read_trial
from tunectl.training.function_trial import run_function


class Functions:
    """Runs functions as one trial, attempt after attempt."""

    def __init__(self, root: Path) -> None:
        self.folder = TrialFolder(root / "00007")
        self.folder.path.mkdir()
        self.stopped = False

    def run(self, function: Callable[..., Any], **changes: Any) -> TrialResult | None:
        reference = WorkloadReference("mine:train", "train", module="mine", workload_kind="function")
        values = {"learning_rate": 0.1, "width": 8}
        content = {"max_train_steps": 20, "keep_checkpoints": 1, **changes}
        request = FunctionRequest("study", 7, 5, reference, values, Objective("valid/loss", "minimize"), **content)
        read = request_of(json.loads(json.dumps(request.to_json())))
        assert read == request
        return run_function(
            request, self.folder, function, device="cpu", stop=lambda: self.stopped, seconds=TrialSeconds()
        )

    def measured(self) -> list[tuple[int, dict[str, float]]]:
        return [(item.step, dict(item.metrics)) for item in read_trial(self.folder).measurements]
