"""Metrics from TensorBoard's event files, as torch's own writer leaves them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tunectl.core.own_code_request import MetricSource

pytestmark = pytest.mark.frameworks


@pytest.mark.filterwarnings("ignore")
def test_scalars_are_read_as_they_come_by_their_tags(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    from tunectl.programs.metric_files import file_source
    from tunectl.programs.output_reader import StepMetrics

    source = file_source(MetricSource("tensorboard", "", names={"Loss/val": "valid/loss"}), str(tmp_path / "logs"))
    assert list(source.read(to_the_end=False)) == []
    writer = SummaryWriter(str(tmp_path / "logs" / "run"))
    writer.add_scalar("Loss/val", 0.5, 10)
    writer.add_text("note", "no number", 10)
    writer.add_scalar("Loss/train", math.nan, 10)
    writer.add_scalars("both/losses", {"train": 1.0, "valid": 2.0}, 20)
    writer.flush()
    first = list(source.read(to_the_end=False))
    assert StepMetrics(10, {"valid/loss": 0.5}) in first
    assert any(item.step == 10 and math.isnan(item.metrics.get("Loss/train", 0.0)) for item in first)
    assert StepMetrics(20, {"both/losses/train": 1.0}) in first, "one tag in a folder for each"
    assert StepMetrics(20, {"both/losses/valid": 2.0}) in first
    writer.add_scalar("Loss/val", 0.25, 30)
    writer.close()
    assert list(source.read(to_the_end=True)) == [StepMetrics(30, {"valid/loss": 0.25})]
