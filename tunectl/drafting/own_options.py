"""The options that take what is the trial's own: its seed, its length, and a folder for what it writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from tunectl.core.scalars import scalar
from tunectl.drafting.command_words import Given, Piece
from tunectl.drafting.options import Help, Option

_NOT_OF_TRAINING = re.compile(
    "data|split|sched|warm|decay|lr|eval|val|test|model|net|diffus|sampl|log|ema|early|check|callback|save"
)
"""What a dotted name may say before `seed` or `steps`: that it is another seed, or the length of something else."""

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
"""What names a checkpoint to go on from where the program begins without one; else it may be a file to write."""

_NONE = ("", "none", "null")
_OF_A_RUN = re.compile(r"(?:train\w*|run|args|experiment|exp|config|cfg|checkpoint\w*|ckpt)")
_OUTPUTS = (*_FOLDERS, *_VAGUE_OUTPUTS, "output_path", "save_path", "save_to")


def last_part(name: str) -> str:
    """The last part of a dotted name, `max_steps` of `--trainer.max_steps`; what has no dots is its own last part."""
    return re.sub(r"\W", "_", name.lstrip("-").rpartition(".")[2])


def is_seed(name: str) -> bool:
    """Whether an option, or a key of a file, of this name is the seed of training."""
    return last_part(name).lower() in _SEEDS and _is_of_training(name)


def is_folder(name: str) -> bool:
    """Whether an option, or a key of a file, of this name is a folder that the program writes to."""
    return _output(name, "") in _FOLDERS


def goes_on(option: Option) -> bool:
    """Whether an option names, by its name, the checkpoint from which the program goes on."""
    if option.takes != 1 or option.many or {choice.lower() for choice in option.choices} - set(_NONE):
        return False
    before, _, last = option.name.lstrip("-").lower().rpartition(".")
    name = re.sub(r"\W", "_", f"{before}_{last}" if before and not _OF_A_RUN.fullmatch(before) else last)
    begins_without = option.default is None or option.default.lower() in _NONE
    return bool(_GOES_ON.fullmatch(name) or (begins_without and _CHECKPOINT.fullmatch(name)))


def _is_of_training(name: str) -> bool:
    return not _NOT_OF_TRAINING.search(name.lstrip("-").rpartition(".")[0].lower())


def _output(name: str, value: str) -> str:
    """The name by which an option is known as one for the program's output, "" where it is none.

    The name is its last part, or of `hydra.run.dir` the last two. A dotted `decoder.output` must hold a path.
    """
    last = last_part(name).lower()
    if last in _OUTPUTS:
        is_path = "/" in value or PurePath(value).suffix
        return last if "." not in name or last not in _VAGUE_OUTPUTS or is_path else ""
    two = "_".join(name.lower().lstrip("-").split(".")[-2:])
    return two if two in _FOLDERS else ""


def own_text(piece: Given, steps: Given | None) -> str | None:
    """The placeholder for the trial's own value that an option takes, None where it takes none."""
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
        return "{trial.dir}/" + escaped(PurePath(value).name) if ending else "{trial.dir}"
    return None


def takes_own(option: Option, steps: Given | None) -> bool:
    """Whether an option that the line does not give takes a value of the trial's own.

    An output whose name is vague, `--out`, must hold a default; a value that the program derives from another,
    `${hydra:runtime.output_dir}`, follows that one.
    """
    if option.takes != 1 or option.many or "${" in (option.default or ""):
        return False
    if (steps is not None and option.name == steps.option.name) or is_seed(option.name):
        return True
    return is_folder(option.name) or (option.default is not None and own_text(by_default(option), steps) is not None)


def by_default(option: Option) -> Given:
    """The option as it would be given at its default."""
    return Given(option, option.name, () if option.default is None else (option.default,), joined=option.joined)


def steps_option(segments: Sequence[tuple[Sequence[Piece], Help]]) -> Given | None:
    """The option that says how long to train: one that the line gives, else one whose default does, else one at all."""
    found: list[tuple[int, int, Given]] = []
    for pieces, text in segments:
        stands = [piece for piece in pieces if isinstance(piece, Given)]
        by_line = {piece.option.name for piece in stands}
        rest = [
            by_default(option)
            for option in text.options
            if option.name not in by_line and not text.rivals(option) & by_line
        ]
        for rank, items in ((0, stands), (1, rest)):
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
    """A whole number of at least 1 as a text says it, None where it says another thing."""
    value = scalar(text)
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 2**53
    return int(value) if whole and value == int(value) else None  # type: ignore[arg-type]


def escaped(text: str) -> str:
    """The text with its braces doubled, so that none opens a placeholder."""
    return text.replace("{", "{{").replace("}", "}}")
