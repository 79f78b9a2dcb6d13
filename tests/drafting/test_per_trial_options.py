"""Tests drafting/per_trial_options.py: which options get a value for each trial, by name and default."""

from __future__ import annotations

import pytest

from tunectl.drafting.help_text import read_help
from tunectl.drafting.per_trial_options import names_resume_checkpoint


def is_taken(option: str) -> bool:
    """Whether a checkpoint to go on from is what this option of a help text takes."""
    found = read_help(f"usage: train.py\n\noptions:\n  --lr LR  (default: 0.1)\n  {option}\n")
    return names_resume_checkpoint(next(item for item in found.options if item.name == option.split()[0]))


@pytest.mark.parametrize(
    "option",
    [
        "--resume PATH  latest checkpoint (default: none)", "--ckpt_path CKPT_PATH", "--restore-from X  (default: )",
        "--checkpoint {None}|PATH  (default: None)", "--load-from PATH", "--train.checkpoint-path {None}|STR",
        "--init_from X  (default: None)", "--continue-from-ckpt FILE", "--checkpoint.resume-from PATH",
        "--load.checkpoint FILE", "--auto-resume-from DIR",
    ],
)  # fmt: skip
def test_a_checkpoint_to_go_on_from_is_known_by_its_name_and_by_no_default(option: str) -> None:
    assert is_taken(option)


@pytest.mark.parametrize(
    "option",
    [
        "--resume-epoch N  (default: 0)", "--resume {allow,never}  (default: never)", "--init_from X  (default: scratch)",
        "--checkpoint FILE  (default: out/ckpt.pt)", "--save-checkpoint FILE", "--teacher.checkpoint FILE",
        "--pretrained FILE", "--checkpoint-every N", "--checkpoint", "--load-in-8bit X",
    ],
)  # fmt: skip
def test_what_is_written_or_is_of_another_model_is_no_checkpoint_to_go_on_from(option: str) -> None:
    assert not is_taken(option)
