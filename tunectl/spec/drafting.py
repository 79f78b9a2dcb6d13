"""A command line and what its help says, to a command with placeholders and the values that they stand for."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from tunectl.core.records import Scalar
from tunectl.spec.command_words import Given, Piece, Word
from tunectl.spec.document import printable, scalar
from tunectl.spec.editing import in_flow
from tunectl.spec.help_text import Help, Option
from tunectl.spec.names import TABLE_COLUMNS
from tunectl.spec.proposals import proposal

MARK = "# FILL IN"
"""Stands in every line that the user is to complete."""

_FIELD_NAMES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "eps": "epsilon",
    "beta_1": "beta1",
    "beta_2": "beta2",
}
"""Names by which the checks of a study's design and the procedures know what others shorten."""

_KNOWN = {*_FIELD_NAMES.values(), "momentum", "warmup_steps", "grad_clip_norm"}
"""Names that they know an option by, whatever stands before it: `optimizer.momentum`."""

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
_SEEDS = ("seed", "random_seed", "manual_seed", "rng_seed", "global_seed", "torch_seed", "random_state")
_FOLDERS = (
    "output_dir", "out_dir", "outdir", "output_folder", "save_dir", "savedir", "save_folder", "log_dir", "logdir",
    "logging_dir", "checkpoint_dir", "checkpoints_dir", "ckpt_dir", "results_dir", "result_dir", "run_dir", "work_dir",
    "workdir", "exp_dir", "experiment_dir", "default_root_dir", "sweep_dir", "dirpath",
)  # fmt: skip
_VAGUE_OUTPUTS = ("out", "output", "save")
_OUTPUTS = (*_FOLDERS, *_VAGUE_OUTPUTS, "output_path", "save_path", "save_to")
_NOT_PASSED = ("help", "h", "?", "version", "install_completion", "show_completion", "helpfull", "helpshort")
_PLAIN = re.compile(r"--?[A-Za-z][\w.-]*")


@dataclass(frozen=True, slots=True)
class Segment:
    """The words of a program, or of its subcommand `command`, and what its help says."""

    pieces: Sequence[Piece]
    help: Help
    command: str | None = None


@dataclass(slots=True)
class DraftedCommand:
    """A command line with placeholders: the lines of `command:` and of `hyperparameters:`.

    `steps` is the number of steps that the line or the help gives, with the option that takes it.
    """

    items: list[str] = field(default_factory=list)
    entries: list[tuple[str, str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    steps: tuple[str, int | None] | None = None
    _names: set[str] = field(default_factory=set)

    def fixed(self, name: str, text: str, choices: Sequence[str] = ()) -> str:
        """Note a fixed hyperparameter of this value; gives the name under which it goes."""
        name = self._free(name)
        value = scalar(text)
        plain = isinstance(value, (bool, int, float)) and _reads_back(value, text)
        shown = text if plain else in_flow(text)
        known: Scalar = value if plain and value is not None else text
        self.entries.append((name, shown, proposal(name, known, choices)))
        return name

    def _free(self, name: str) -> str:
        legal = re.sub(r"\W", "_", name)
        legal = legal if legal.isidentifier() else f"option_{legal}"
        if legal in TABLE_COLUMNS or legal == "max_train_steps":
            legal += "_option"
        free = next(
            other for n in range(1, 10_000) if (other := legal if n == 1 else f"{legal}_{n}") not in self._names
        )
        self._names.add(free)
        return free


def _reads_back(value: bool | int | float, text: str) -> bool:
    """Whether a program reads the value as what the line says, once it went through the study: 007 and True do not."""
    if isinstance(value, float):
        return abs(value) < float("inf")
    return str(value).lower() == text and (isinstance(value, bool) or abs(value) <= 2**53)


def drafted(program: Sequence[str], segments: Sequence[Segment]) -> DraftedCommand:
    """The command with a placeholder for every option that has a value, given or by default."""
    draft = DraftedCommand(items=[_item(escaped(word)) for word in program])
    steps = _steps_option(segments)
    taken = _names(segments)
    for segment in segments:
        passed = _by_default(segment, steps, draft)
        marks = [index for index, piece in enumerate(segment.pieces) if piece == Word("--")]
        cut = marks[0] if marks else len(segment.pieces)
        for piece in [*segment.pieces[:cut], *passed, *segment.pieces[cut:]]:
            _place(draft, piece, steps, taken)
        _place_required(draft, segment, passed)
        if segment.command is not None:
            draft.items.append(_item(escaped(segment.command)))
    if steps is not None:
        draft.steps = (steps.option.name, _count(steps.values[0]) if steps.values else None)
    return draft


def _name(option: Option) -> str:
    return re.sub(r"\W", "_", option.name.lstrip("-"))


def _names(segments: Sequence[Segment]) -> Mapping[str, int]:
    """How many options go by a name, or would by the last part of theirs."""
    options = {option.name: option for segment in segments for option in segment.help.options}
    given = (piece.option for segment in segments for piece in segment.pieces if isinstance(piece, Given))
    options |= {option.name: option for option in given}
    names: Counter[str] = Counter()
    for option in options.values():
        names.update({_name(option), _full(_last(option))} if "." in option.name else {_name(option)})
    return names


def _last(option: Option) -> str:
    """The last part of a dotted name, `max_steps` of `trainer.max_steps`; what has no dots is its own last part."""
    return re.sub(r"\W", "_", option.name.lstrip("-").rpartition(".")[2])


def _full(name: str) -> str:
    return _FIELD_NAMES.get(name.lower(), name)


def _is_of_training(option: Option) -> bool:
    head = option.name.lstrip("-").rpartition(".")[0]
    return not _NOT_OF_TRAINING.search(head.lower())


def _is_seed(option: Option) -> bool:
    return _last(option).lower() in _SEEDS and _is_of_training(option)


def _output(option: Option, value: str) -> str:
    """The name by which an option is known as one for the program's output, "" where it is none.

    The name is its last part, or of `hydra.run.dir` the last two. A dotted `decoder.output` must hold a path.
    """
    last = _last(option).lower()
    if last in _OUTPUTS:
        is_path = "/" in value or PurePath(value).suffix
        return last if "." not in option.name or last not in _VAGUE_OUTPUTS or is_path else ""
    two = "_".join(option.name.lower().lstrip("-").split(".")[-2:])
    return two if two in _FOLDERS else ""


def _steps_option(segments: Sequence[Segment]) -> Given | None:
    """The option that says how long to train: one that the line gives, else one whose default does, else one at all."""
    found: list[tuple[int, int, Given]] = []
    for segment in segments:
        stands = [piece for piece in segment.pieces if isinstance(piece, Given)]
        by_line = {piece.option.name for piece in stands}
        rest = [
            _given_by_default(option)
            for option in segment.help.options
            if option.name not in by_line and not segment.help.rivals(option) & by_line
        ]
        for rank, items in ((0, stands), (1, rest)):
            for item in items:
                name = _last(item.option).lower()
                if name not in _STEPS or item.option.takes != 1 or item.option.many or not item.once:
                    continue
                if not _is_of_training(item.option):
                    continue
                if not item.values or _count(item.values[0]) is not None:
                    found.append((rank if item.values else 2, _STEPS.index(name), item))
    return min(found, key=lambda item: item[:2])[2] if found else None


def _given_by_default(option: Option) -> Given:
    return Given(option, option.name, () if option.default is None else (option.default,))


def _count(text: str) -> int | None:
    value = scalar(text)
    whole = isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 2**53
    return int(value) if whole and value == int(value) else None  # type: ignore[arg-type]


def _by_default(segment: Segment, steps: Given | None, draft: DraftedCommand) -> list[Given]:
    """The options that the line does not give, at their defaults; those without one are noted."""
    by_line = {piece.option.name for piece in segment.pieces if isinstance(piece, Given)}
    passed: list[Given] = []
    for option in segment.help.options:
        name = _name(option).lower()
        if option.name in by_line or name in _NOT_PASSED:
            continue
        is_steps = steps is not None and option == steps.option
        if (option.takes > 0 or option.many) and not is_steps and (rivals := segment.help.rivals(option)):
            # Of options that exclude each other the one in the line stays, or the one that gives the steps.
            draft.left += [] if rivals & by_line else [option.shown]
            continue
        if option.takes == 0 and not option.many:
            if option.off is None:
                passed.append(Given(option, option.name, switched=False))
            elif option.default is not None:
                on = option.default == "true"
                passed.append(Given(option, option.name if on else option.off, switched=on))
            else:
                draft.left.append(option.shown)
            continue
        values = _default_values(option)
        own = _is_seed(option) or _output(option, "") in _FOLDERS or is_steps
        if values is not None or (own and option.takes == 1):
            passed.append(Given(option, option.name, values or ()))
        elif not option.required:
            draft.left.append(option.shown + _why_left(option))
    return passed


def _why_left(option: Option) -> str:
    if _name(option).lower().startswith("resume"):
        return f' (as [{option.name}, "{{trial.resume}}"], where `checkpoints` says which files they are)'
    if option.takes == 1 and not option.many and option.default is not None:
        if _is_list(option.default):
            return f" (its default, {option.default}, is no single value)"
        if option.repeats:
            return f" (it may be given several times; its default is {option.default})"
    return ""


def _is_list(default: str) -> bool:
    """Whether a default is shown as Python shows a list, which no program takes as the text of one value."""
    ends = default[:1] + default[-1:]
    if ends != "{}":
        return ends in ("[]", "()")
    try:
        return isinstance(ast.literal_eval(default), (dict, set))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False


def _place_required(draft: DraftedCommand, segment: Segment, passed: Sequence[Given]) -> None:
    """The words without which the program does not start, and which only the user knows."""
    there = {piece.option.name for piece in [*segment.pieces, *passed] if isinstance(piece, Given)}
    for option in segment.help.options:
        if option.required and option.name not in there and option.takes + option.many:
            shown = option.shown if option.name in option.shown else option.name
            draft.items.append(
                f"-    {MARK}: a list such as [{option.name}, VALUE]; the script requires {printable(shown)}"
            )
    for names in segment.help.one_of:
        options = {found.name for name in names if (found := segment.help.option(name))}
        if not options & there:
            draft.items.append(f"-    {MARK}: the script requires one of {printable(', '.join(names))}")
    words = [piece for piece in segment.pieces if _is_positional(piece)]
    for word in segment.help.positionals[len(words) :]:
        draft.items.append(f"-    {MARK}: the script requires {printable(word)}, a word without an option")


def _is_positional(piece: Piece) -> bool:
    return not (piece.text if isinstance(piece, Word) else piece.spelled).startswith("-")


def _default_values(option: Option) -> tuple[str, ...] | None:
    if option.default is None or option.many or option.repeats:
        return None
    if option.takes == 1:
        if _is_list(option.default):
            return None
        # Many programs read any text as true, also "False".
        is_switch = option.default.lower() in ("true", "false") and option.default not in option.choices
        return None if is_switch else (option.default,)
    values = tuple(part.strip().strip("'\"") for part in option.default.strip("()[]").split(","))
    return values if len(values) == option.takes else None


def _place(draft: DraftedCommand, piece: Piece, steps: Given | None, taken: Mapping[str, int]) -> None:
    if isinstance(piece, Word):
        draft.items.append(_item(escaped(piece.text)))
        return
    name = _short(piece.option, taken)
    if not piece.once or not all(value.isprintable() for value in piece.values):
        draft.items += [_item(escaped(word)) for word in _spelled(piece, piece.values)]
    elif piece.option.takes == 0 and not piece.option.many:
        _place_switch(draft, piece, name)
    elif (own := _own(piece, steps)) is not None:
        draft.items.append(_list(_spelled(piece, [own])))
    elif not piece.values:
        draft.items.append(_item(escaped(piece.spelled)))
    else:
        single = len(piece.values) == 1 and piece.option.takes <= 1
        names = [name] if single else [f"{name}_{index}" for index in range(1, len(piece.values) + 1)]
        placed = [
            "{" + draft.fixed(each, value, piece.option.choices) + "}"
            for each, value in zip(names, piece.values, strict=True)
        ]
        draft.items.append(_list(_spelled(piece, placed)))


def _short(option: Option, taken: Mapping[str, int]) -> str:
    """The name of an option's hyperparameter: one that the checks know, where no other option would have it."""
    name, full = _name(option), _full(_last(option))
    if "." in option.name:
        return full if full in _KNOWN and taken[full] == 1 else name
    return name if taken[full] else full


def _own(piece: Given, steps: Given | None) -> str | None:
    """The trial's own value that an option takes: its length, its seed, a place of its own."""
    value = piece.values[0] if piece.values else ""
    if piece.option.takes != 1 or len(piece.values) > 1:
        return None
    if steps is not None and piece.option == steps.option:
        return "{max_train_steps}"
    if _is_seed(piece.option):
        return "{trial.seed}"
    name = _output(piece.option, value)
    if name and not isinstance(scalar(value), (int, float)):
        ending = PurePath(value).suffix and name not in _FOLDERS
        return "{trial.dir}/" + escaped(PurePath(value).name) if ending else "{trial.dir}"
    return None


def _place_switch(draft: DraftedCommand, piece: Given, name: str) -> None:
    on = piece.spelled if piece.switched else piece.option.name
    name = draft.fixed(name, "true" if piece.switched else "false")
    draft.items.append(f"- {{when: {{{name}: true}}, arguments: [{_flow(on)}]}}")
    if piece.option.off is not None:
        draft.items.append(f"- {{when: {{{name}: false}}, arguments: [{_flow(piece.option.off)}]}}")


def _spelled(piece: Given, values: Iterable[str]) -> list[str]:
    texts = list(values)
    # A value that begins as an option does is taken for one where it stands alone.
    dashed = any(re.match("-.", value) and not isinstance(scalar(value), (int, float)) for value in piece.values)
    if len(texts) == 1 and (piece.joined or (dashed and piece.spelled.startswith("--"))):
        return [piece.spelled + ("=" if piece.spelled.startswith("--") else "") + texts[0]]
    return [piece.spelled, *texts]


def escaped(text: str) -> str:
    """The text with its braces doubled, so that none opens a placeholder."""
    return text.replace("{", "{{").replace("}", "}}")


def _flow(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else in_flow(text)


def _item(text: str) -> str:
    return f"- {_flow(text)}"


def _list(texts: Iterable[str]) -> str:
    return f"- [{', '.join(_flow(text) for text in texts)}]"
