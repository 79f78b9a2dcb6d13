"""A program given by its text, run as one trial."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import CommandRequest, MetricSource, Optional, Program
from tunectl.core.records import TrialResult
from tunectl.programs import command_trial
from tunectl.store.trial_files import read_trial

STEPS = MetricSource("regex", r"step (?P<step>\d+) loss (?P<loss>\S+)")


class Programs:
    """Runs Python programs, given by their text, as trials."""

    def __init__(self, root: Path) -> None:
        self.folder = TrialFolder(root / "a b" / "00007")
        self.folder.path.mkdir(parents=True)
        self.stopped = False
        self.seconds = TrialSeconds()

    def request(self, text: str, *arguments: str | Optional, **changes: Any) -> CommandRequest:
        script = self.folder.path.parent / "program.py"
        script.write_text(text)
        program = Program((sys.executable, "-S", str(script), *arguments), str(script.parent), (STEPS,))
        own = {name: changes.pop(name) for name in list(changes) if name in Program.__dataclass_fields__}
        request = CommandRequest(
            "study",
            7,
            5,
            replace(program, **own),
            {"learning_rate": 1e-05, "nesterov": True, "name": "a b"},
            Objective("loss", "minimize"),
            max_train_steps=20,
            keep_checkpoints=1,
        )
        return replace(request, **changes)

    def run(self, request: CommandRequest, stop: Callable[[], bool] | None = None) -> TrialResult | None:
        request = CommandRequest.from_json(json.loads(json.dumps(request.to_json())))
        log = os.open(self.folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            return command_trial.run_command(
                request, self.folder, stop=stop or (lambda: self.stopped), seconds=self.seconds, log=log
            )
        finally:
            os.close(log)

    def measured(self) -> list[tuple[int, dict[str, float]]]:
        return [(item.step, dict(item.metrics)) for item in read_trial(self.folder).measurements]
