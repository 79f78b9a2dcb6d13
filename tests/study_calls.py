"""A study to write, and what a call of the command gives back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STUDY = """\
study: {name}
workload: ./misbehaving.py:{factory}
objective: {{metric: {metric}, direction: minimize}}
training: {{max_train_steps: {steps}, eval_every: 10, keep_checkpoints: 2}}
hyperparameters:
  optimizer: momentum
  batch_size: 16
  {learning_rate}
{more}
search: {{trials: {trials}}}
resources: {{retries: {retries}, grace_seconds: 20}}
"""


@dataclass(frozen=True)
class Called:
    """How a call of the command ended."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> str:
        """The messages on stderr, each in one line again where it was wrapped."""
        return re.sub(r"\n {2}(?=\S)", " ", self.err)

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.out))
