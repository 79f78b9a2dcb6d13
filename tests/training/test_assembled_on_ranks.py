"""What the ranks of a trial agree on while it is assembled. Tests assembled_trial.py and rank_agreement.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from thread_ranks import on_threads

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.training import assembled_trial


def _trial_on_gpu(ranks: Any) -> Any:
    """What the tests below need of a trial that has one GPU for each rank."""
    request = SimpleNamespace(curvature=CurvatureSettings(every=15), curvature_needed=False)
    device = torch.device("cuda", ranks.rank)
    return SimpleNamespace(ranks=ranks, device=device, notes={}, request=request, workload=None)


@pytest.mark.parametrize(
    ("types", "expected"), [(("A100", "H100", "A100"), ["A100, H100"]), (("A100", "A100", "A100"), [])]
)
def test_a_trial_on_gpus_of_different_types_has_a_note(types: tuple[str, ...], expected: list[str]) -> None:
    def noted(ranks: Any) -> list[str]:
        trial = _trial_on_gpu(ranks)
        assembled_trial._note_unlike_gpus(trial)
        return list(trial.notes.values())

    with patch("torch.cuda.get_device_name", lambda device: types[device.index]):
        assert on_threads(3, noted) == [expected] * 3


def test_rank_0_decides_for_all_that_curvature_cannot_be_measured() -> None:
    def noted(ranks: Any) -> list[str]:
        trial = _trial_on_gpu(ranks)
        assert assembled_trial._curvature(trial) is None
        return list(trial.notes.values())

    def why(_workload: Any, _settings: Any, device: torch.device) -> str:
        return "" if device.index else "the memory is too small"

    with patch.object(assembled_trial, "why_unmeasurable", why):
        assert on_threads(2, noted) == [["the memory is too small"]] * 2
