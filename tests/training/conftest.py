"""What every test of training starts from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tunectl.core.folders import TrialFolder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    path = tmp_path / "trials" / "00003"
    path.mkdir(parents=True)
    return TrialFolder(path)
