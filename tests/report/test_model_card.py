"""The loader that `train-final` writes beside a model."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tunectl.core.errors import WorkloadError
from tunectl.report.model_card import LOADER
from tunectl.training import final_model


class NoSplit:
    """A final model whose workload has only train and valid."""

    def evaluate(self, split: str) -> dict[str, float]:
        raise WorkloadError(f"expected a split of the workload (train, valid), got {split!r}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: python load_model.py SPLIT"),
        (["tset"], "expected a split of the workload (train, valid), got 'tset'"),
    ],
    ids=["none", "misspelt"],
)
def test_a_wrong_split_ends_the_loader_with_a_message(tmp_path: Path, monkeypatch, arguments, message):
    file = tmp_path / "load_model.py"
    file.write_text(LOADER)
    monkeypatch.setattr(final_model, "load_final", lambda folder, device: NoSplit())
    monkeypatch.setattr("sys.argv", ["load_model.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    assert ended.value.code == message
