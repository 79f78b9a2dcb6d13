"""A study to write, and a call of the command and what it gives back."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunectl.cli.main import main

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


def call_in_process(folder: Path, environment: Mapping[str, str], *words: object) -> Called:
    """Call the command in this process, in this folder and environment, which saves the time of its imports."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as here:
        here.chdir(folder)
        for name in os.environ.keys() - environment.keys():
            here.delenv(name)
        for name, value in environment.items():
            here.setenv(name, value)
        here.setattr(sys, "argv", ["tunectl", *[str(word) for word in words]])
        here.setattr(sys, "stdout", out)
        here.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as ended:
            main()
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Called(int(ended.value.code or 0), *texts)
