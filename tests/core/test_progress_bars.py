"""Progress bars in printed lines. In a trial they are tested by programs/test_bars_beside_objects.py."""

from __future__ import annotations

import pytest

from tunectl.core.progress_bars import behind_bar, behind_bars, is_bar, without_bars

TQDM = "Epoch 1:  45%|####5     | 180/400 [00:01<00:02, 90.1it/s, loss=0.2]"
KERAS = "12/40 ━━━━━━━━━━━━━━━━━━━━ 0s 5ms/step - loss: 0.5"
RICH = "Training ━━━━━━━━━╸━━━━━━━━━━ 45% 0:00:02"


@pytest.mark.parametrize("line", [TQDM, KERAS, RICH, "180it [00:01, 90.1it/s]", "[####----] 50% ETA 0:10"])
def test_bars_of_many_libraries_are_recognised(line: str) -> None:
    assert is_bar(line)


@pytest.mark.parametrize(
    "line", ["", "step 10 loss 0.5", "accuracy 45%", "ValueError: 3/4 of [data] is bad", "a | b | c"]
)
def test_other_lines_are_not_bars(line: str) -> None:
    assert not is_bar(line)
    assert without_bars(line) == line
    assert behind_bar(line) == line
    assert behind_bars(line) == ""


def test_the_text_after_a_bar_is_another_stream_s() -> None:
    assert behind_bars(f"{TQDM}step 10 loss 0.5") == "step 10 loss 0.5"
    assert behind_bars(TQDM) == ""


def test_a_line_without_its_bar_keeps_the_positions_of_all_other_characters() -> None:
    line = without_bars(TQDM)
    assert len(line) == len(TQDM)
    assert line.startswith("Epoch 1:")
    assert line.index("loss=0.2") == TQDM.index("loss=0.2")
    assert "45%" not in line
    assert behind_bar(TQDM) == TQDM[TQDM.index(", loss") :]
