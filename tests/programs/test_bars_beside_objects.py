"""Objects beside a progress bar on the same line are read. Tests core/progress_bars.py, core/printed_objects.py and
programs/object_lines.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from printed_trials import JSON, Case, read_of

from tunectl.core.own_code_request import OUTPUT, MetricSource

OBJECT = '{"step": 3, "valid_loss": 0.01}'
PRINTED = "{'step': 3, 'valid_loss': 0.01}"
TQDM = "\r 50%|##  | 2/4 [00:01<00:01]"
RIGHT = {3: 0.01}
BARS = {
    "tqdm": TQDM,
    "tqdm with a name and blocks": "\rTraining:  50%|█████     | 2/4 [00:01<00:01,  1.99it/s]",
    "tqdm with metrics": "\rEpoch 0:  50%|██▌  | 2/4 [00:00<00:00, 30.1it/s, v_num=0, train_loss=0.5]",
    "tqdm without a total": "\r15it [00:01, 10.52it/s]",
    "tqdm at its beginning": "\r  0%|          | 0/4 [00:00<?, ?it/s]",
    "tqdm in files": "\rMap: 100%|████████| 400/400 [00:00<00:00, 5123.00 examples/s]",
    "Keras 2": "2/4 [==============>...............] - ETA: 0s - loss: 0.5000\b\b\b\b\b\b",
    "Keras 3": "\r2/4 ━━━━━━━━━━━━━━━━━━━━ 1s 5ms/step - loss: 0.5000",
    "rich": "\rWorking... ━━━━━━━━━━╸━━━━━━━━━  50% 0:00:01",
    "alive-progress": "\ron 2: |████████            | 2/4 [50%] in 1s (2.0/s)",
    "progressbar2": "\r 50% (2 of 4) |######      | Elapsed Time: 0:00:01 ETA:   0:00:01",
    "click": "\r  [##################------------------]   50%  00:00:01",
    "fastprogress": "\r |█████-----| 50.00% [2/4 00:01<00:01 0.512]",
    "an accelerate bar of a process": "\r[Rank 0]:  50%|##  | 2/4 [00:01<00:01,  2.0s/it]",
}
CASES = [
    *(Case(f"{name} before it", f"{bar}{OBJECT}\n", RIGHT) for name, bar in BARS.items()),
    Case("another stream's", "", RIGHT, streams=((2, TQDM), (1, OBJECT + "\n"))),
    Case("a dict of Python after it", f"{TQDM}{PRINTED}\n", RIGHT),
    Case("a bar behind it", f"{OBJECT} 75%|###  | 3/4 [00:02<00:01]\n", RIGHT),
    Case("a bar before and behind", f"{TQDM} {OBJECT}{TQDM.strip()}\n", RIGHT),
    Case("two objects on one line", '{"step": 2, "valid_loss": 0.5}' + OBJECT + "\n", {2: 0.5, 3: 0.01}),
    Case("no end of line", TQDM + OBJECT, RIGHT),
    Case("a byte at a time", f"{TQDM}{OBJECT}\n{TQDM}", RIGHT, bytewise=True),
    Case("CRLF", f"{TQDM}{OBJECT}\r\n", RIGHT),
    Case("two bars, moved by the cursor", f"{TQDM}\n\r 10%|#  | 1/9 [00:01<00:08]\x1b[A{OBJECT}\n", RIGHT),
    Case("an erased bar", f"{TQDM}\x1b[2K\x1b[1G{OBJECT}\n", RIGHT),
    Case("blocks of another code page", b"\r 50%|\xdb\xdb\xdb   | 2/4 [00:01<00:01]" + OBJECT.encode() + b"\n", RIGHT),
    Case("coloured", f"\r\x1b[32m 50%\x1b[0m|\x1b[34m██\x1b[0m  | 2/4 [00:01<00:01]{OBJECT}\n", RIGHT),
    Case("an object in the bar's own part", f"\r 50%|##  | 2/4 [00:01<00:01, {{'lr': 0.1}}]{OBJECT}\n", RIGHT),
    Case("a log's head before it", f"2026-01-01 12:00:00,123 - INFO - train - {OBJECT}\n", RIGHT),
    Case("loguru's head", f"2026-01-01 12:00:00.123 | INFO     | __main__:train:42 - {OBJECT}\n", RIGHT),
    Case("logging's plain head", f"INFO:root:{PRINTED}\n", RIGHT),
    Case("absl's head", f"I0101 12:00:00.123456 140 train.py:42] {OBJECT}\n", RIGHT),
    Case(
        "a line whose beginning is looked for",
        f"{TQDM}step 3: loss 0.01\n",
        RIGHT,
        sources=(MetricSource("regex", r"^step (?P<step>\d+): loss (?P<valid_loss>\S+)"),),
    ),
    Case(
        "what the bar itself says",
        "\r 75%|###  | 3/4 [00:01<00:01, loss=0.01]\n",
        RIGHT,
        sources=(MetricSource("regex", r"(?P<step>\d+)/\d+ \[.*loss=(?P<valid_loss>[\d.]+)"),),
    ),
    Case("the bar is no object", f"{TQDM}\n{OBJECT}\n\r100%|####| 4/4 [00:02<00:00]\n", RIGHT),
    Case(
        "words before an object are no bar",
        f'{OBJECT}\nbest so far: {{"valid_loss": 0.005}}\nwritten to {{"step": 4}}\n',
        RIGHT,
    ),
    Case(
        "a counted object",
        f'{TQDM}{{"valid_loss": 0.01}}\n',
        {1: 0.01},
        sources=(MetricSource(*("json_lines", OUTPUT), every=1),),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_objects_beside_a_progress_bar_are_read(case: Case, tmp_path: Path) -> None:
    assert JSON
    read = read_of(case, tmp_path)
    assert read.values == case.want, read.words
    assert read.state == case.ends, read.words
