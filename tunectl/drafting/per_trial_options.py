"""The options with a different value in each trial: the seed, the length of training, and the output folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from tunectl.core.scalars import scalar
from tunectl.core.wording import escaped_braces
from tunectl.drafting.command_words import GivenOption, Piece
from tunectl.drafting.options import Help, Option

_NOT_OF_TRAINING = re.compile(
    "data|split|sched|warm|decay|lr|eval|val|test|model|net|diffus|sampl|log|ema|early|check|callback|save"
)
"""Parts of a dotted name before `seed` or `steps` that show it is not the seed or the length of training."""

_STEPS = (
    "max_train_steps", "max_steps", "train_steps", "training_steps", "num_train_steps", "num_training_steps",
    "total_steps", "num_steps", "n_steps", "steps", "max_iterations", "num_iterations", "iterations", "max_iters",
    "num_iters", "n_iters", "iters", "updates", "num_updates", "num_train_epochs", "max_epochs", "num_epochs",
    "n_epochs", "train_epochs", "epochs",
)  # fmt: skip
_SEEDS = (
    "seed", "random_seed", "manual_seed", "rng_seed", "global_seed", "torch_seed", "random_state", "seed_everything",
)  # fmt: skip
_FOLDERS = (
    "output_dir", "out_dir", "outdir", "output_folder", "save_dir", "savedir", "save_folder", "log_dir", "logdir",
    "logging_dir", "checkpoint_dir", "checkpoints_dir", "ckpt_dir", "results_dir", "result_dir", "run_dir", "work_dir",
    "workdir", "exp_dir", "experiment_dir", "default_root_dir", "sweep_dir", "dirpath", "save_root", "log_root",
)  # fmt: skip
_VAGUE_OUTPUTS = ("out", "output", "save")
_GOES_ON = re.compile(r"(?:auto_?)?(?:resume|restore)(?!\w*(?:epoch|step|iter))\w*|ckpt_path")
_CHECKPOINT = re.compile(
    r"(?:(?:load|init|start|continue|begin|from)_(?:from_)?)?(?:checkpoint|ckpt)(?:_(?:path|file|name))?"
    r"|(?:load|init|start|continue)_(?:from|path|file)"
)
"""Names of a checkpoint to resume from, if the default is none; else it may be a file to write."""

_NONE = ("", "none", "null")
_OF_A_RUN = re.compile(r"(?:train\w*|run|args|experiment|exp|config|cfg|checkpoint\w*|ckpt)")
_OUTPUTS = (*_FOLDERS, *_VAGUE_OUTPUTS, "output_path", "save_path", "save_to")


def last_part(name: str) -> str:
    """The last part of a dotted name, `max_steps` of `--trainer.max_steps`; the whole name if it has no dots."""
    return re.sub(r"\W", "_", name.lstrip("-").rpartition(".")[2])


def is_seed(name: str) -> bool:
    """Whether an option, or a key of a file, of this name is the seed of training."""
    return last_part(name).lower() in _SEEDS and _is_of_training(name)


def is_folder(name: str) -> bool:
    """Whether an option, or a key of a file, of this name is a folder that the program writes to."""
    return _output(name, "") in _FOLDERS


def names_resume_checkpoint(option: Option) -> bool:
    """Whether an option takes, judged by its name, the checkpoint from which the program resumes."""
    if option.takes != 1 or option.many or {choice.lower() for choice in option.choices} - set(_NONE):
        return False
    before, _, last = option.name.lstrip("-").lower().rpartition(".")
    name = re.sub(r"\W", "_", f"{before}_{last}" if before and not _OF_A_RUN.fullmatch(before) else last)
    begins_without = option.default is None or option.default.lower() in _NONE
    return bool(_GOES_ON.fullmatch(name) or (begins_without and _CHECKPOINT.fullmatch(name)))


def _is_of_training(name: str) -> bool:
    return not _NOT_OF_TRAINING.search(name.lstrip("-").rpartition(".")[0].lower())


def _output(name: str, value: str) -> str:
    """The name that marks an option as one for the program's output, "" if it is not.

    The name is its last part, or for `hydra.run.dir` the last two. A dotted `decoder.output` must have a path as value.
    """
    last = last_part(name).lower()
    if last in _OUTPUTS:
        is_path = "/" in value or PurePath(value).suffix
        return last if "." not in name or last not in _VAGUE_OUTPUTS or is_path else ""
    two = "_".join(name.lower().lstrip("-").split(".")[-2:])
    return two if two in _FOLDERS else ""


def per_trial_value(piece: GivenOption, steps: GivenOption | None) -> str | None:
    """The placeholder for an option with a value for each trial, None for other options."""
    value = piece.values[0] if piece.values else ""
    if piece.option.takes != 1 or len(piece.values) > 1:
        return None
    if steps is not None and piece.option.name == steps.option.name:
        return "{max_train_steps}"
    if is_seed(piece.option.name):
        return "{trial.seed}"
    name = _output(piece.option.name, value)
    if name and not isinstance(scalar(value), (int, float)):
        ending = PurePath(value).suffix and name not in _FOLDERS
        return "{trial.dir}/" + escaped_braces(PurePath(value).name) if ending else "{trial.dir}"
    return None


def takes_per_trial_value(option: Option, steps: GivenOption | None) -> bool:
    """Whether an option that is not in the line gets a value for each trial.

    An output option with a vague name, `--out`, needs a default; a default that refers to another value,
    `${hydra:runtime.output_dir}`, follows that one.
    """
    if option.takes != 1 or option.many or "${" in (option.default or ""):
        return False
    if (steps is not None and option.name == steps.option.name) or is_seed(option.name):
        return True
    has_value = option.default is not None and per_trial_value(by_default(option), steps) is not None
    return has_value or is_folder(option.name)


def by_default(option: Option) -> GivenOption:
    """The option as it would be written with its default."""
    return GivenOption(option, option.name, () if option.default is None else (option.default,), joined=option.joined)


def steps_option(segments: Sequence[tuple[Sequence[Piece], Help]]) -> GivenOption | None:
    """The option for the length of training: one in the line, else one with a default, else any."""
    found: list[tuple[int, int, GivenOption]] = []
    for pieces, text in segments:
        in_line = [piece for piece in pieces if isinstance(piece, GivenOption)]
        by_line = {piece.option.name for piece in in_line}
        rest = [
            by_default(option)
            for option in text.options
            if option.name not in by_line and not text.rivals(option) & by_line
        ]
        for rank, items in ((0, in_line), (1, rest)):
            for item in items:
                name = last_part(item.option.name).lower()
                if name not in _STEPS or item.option.takes != 1 or item.option.many or not item.once:
                    continue
                if not _is_of_training(item.option.name):
                    continue
                if not item.values or count(item.values[0]) is not None:
                    found.append((rank if item.values else 2, _STEPS.index(name), item))
    return min(found, key=lambda item: item[:2])[2] if found else None


def count(text: str) -> int | None:
    """The whole number of at least 1 in a text, None for other text."""
    value = scalar(text)
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 2**53
    return int(value) if whole and value == int(value) else None  # type: ignore[arg-type]
