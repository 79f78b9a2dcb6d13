"""What every test of training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.core.folders import TrialFolder


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    path = tmp_path / "trials" / "00003"
    path.mkdir(parents=True)
    return TrialFolder(path)
