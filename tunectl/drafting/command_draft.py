"""The command of a study, with a placeholder for each option, made from a command line and its help."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunectl.core.own_code_request import variable_of
from tunectl.core.records import Scalar
from tunectl.core.scalars import scalar
from tunectl.core.table_columns import RESERVED_NAMES
from tunectl.core.wording import escaped_braces, printable
from tunectl.drafting.command_words import GivenOption, Piece, Word
from tunectl.drafting.options import Help, Option
from tunectl.drafting.per_trial_options import (
    count,
    last_part,
    names_resume_checkpoint,
    per_trial_value,
    steps_option,
    takes_per_trial_value,
)
from tunectl.drafting.proposals import proposal
from tunectl.language.hyperparameter_names import TRIAL_VARIABLES
from tunectl.language.study_edit import in_flow

MARK = "# FILL IN"
"""Marks each line that the user has to complete."""

_FIELD_NAMES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "eps": "epsilon",
    "beta_1": "beta1",
    "beta_2": "beta2",
}
"""Common short names, and the full names that the design checks and the procedures know."""

_KNOWN = {*_FIELD_NAMES.values(), "momentum", "warmup_steps", "grad_clip_norm"}
"""Names that they know, also as the last part of a dotted name: `optimizer.momentum`."""

_NOT_PASSED = (
    "help", "h", "?", "version", "install_completion", "show_completion", "helpfull", "helpshort", "helpxml",
    "print_config",
)  # fmt: skip
_SAVES = re.compile(r"--?save(?![a-z])", re.IGNORECASE)
_PLAIN = re.compile(r"--?[A-Za-z][\w.-]*")


@dataclass(frozen=True, slots=True)
class Segment:
    """The arguments of a program or of a subcommand, up to the next subcommand `command`, and its help.

    The defaults in the help are those that hold for this line, after the program has read its configuration files.
    """

    pieces: Sequence[Piece]
    help: Help
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A hyperparameter in the study file: its value, None where the user fills it in, and a proposed search space.

    `source` is the file that sets the value, "" for a value of the line or a default of the program.
    """

    name: str
    value: str | None
    proposed: str = ""
    source: str = ""


@dataclass(slots=True)
class DraftedCommand:
    """A command line with placeholders: the lines of `command:` and of `hyperparameters:`.

    `offered` are hyperparameters that are not in the line: their entries, and their lines in `items`, are comments.
    `not_offered` are options whose value is not known. `steps` is the number of steps in the line or in the help, with
    the option that sets it. `unknown` are names that the user wants to place and that are not options.
    """

    items: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    offered: list[Entry] = field(default_factory=list)
    not_offered: list[str] = field(default_factory=list)
    steps: tuple[str, int | None] | None = None
    unknown: list[str] = field(default_factory=list)
    _variables: set[str] = field(default_factory=set)

    def entry(self, name: str, text: str | None, option: Option) -> Entry:
        """The entry of a fixed hyperparameter with this value, under a name that no other has."""
        name = self._free(name)
        if text is None:
            return Entry(name, None)
        value = scalar(text)
        plain = isinstance(value, (bool, int, float)) and _reads_back(value, text)
        known: Scalar = value if plain and value is not None else text
        return Entry(name, text if plain else in_flow(text), proposal(name, known, option.choices), option.source)

    def _free(self, name: str) -> str:
        legal = re.sub(r"\W", "_", name)
        legal = legal if legal.isidentifier() else f"option_{legal}"
        if legal in RESERVED_NAMES or variable_of(legal) in TRIAL_VARIABLES:
            legal += "_option"
        # Two names that differ only in case would have the same environment variable.
        numbered = (legal if n == 1 else f"{legal}_{n}" for n in range(1, 10_000))
        free = next(other for other in numbered if variable_of(other) not in self._variables)
        self._variables.add(variable_of(free))
        return free


def _reads_back(value: bool | int | float, text: str) -> bool:
    """Whether the study passes the value to the program with the same spelling; for 007 and True it does not."""
    if isinstance(value, float):
        return abs(value) < float("inf")
    return str(value).lower() == text and (isinstance(value, bool) or abs(value) <= 2**53)


def draft_command(program: Sequence[str], segments: Sequence[Segment], place: Sequence[str] = ()) -> DraftedCommand:
    """The command with a placeholder for every option in the line and for those that the user names.

    Args:
        program: the words that start the program.
        segments: the arguments of the program and of its subcommands.
        place: options that are not in the line and become hyperparameters, each by one of its names.

    Seeds, output folders and the length of training get a value for each trial, even where the line does not set them.
    Every other option is offered in a comment: without a placeholder it keeps the program's own default.
    """
    draft = DraftedCommand(items=[_item(escaped_braces(word)) for word in program])
    steps = steps_option([(segment.pieces, segment.help) for segment in segments])
    taken = _names(segments)
    wanted = _wanted(segments, place, taken, draft)
    for segment in segments:
        marks = [index for index, piece in enumerate(segment.pieces) if piece == Word("--")]
        cut = marks[0] if marks else len(segment.pieces)
        for piece in segment.pieces[:cut]:
            _place(draft, piece, steps, taken)
        rest = _not_given(segment, steps)
        placed = [option for option in rest if option.name in wanted or takes_per_trial_value(option, steps)]
        for option in placed:
            _place(draft, _as_placed(option), steps, taken)
        _offer(draft, [option for option in rest if option not in placed], taken)
        for piece in segment.pieces[cut:]:
            _place(draft, piece, steps, taken)
        _place_required(draft, segment, {option.name for option in placed})
        if segment.command is not None:
            draft.items.append(_item(escaped_braces(segment.command)))
        if segment.help.framework == "hydra" and not any(_is_chdir(piece) for piece in segment.pieces):
            draft.items.append("# - hydra.job.chdir=true    # uncomment it if the program writes to relative paths")
    if steps is not None:
        draft.steps = (steps.option.name, count(steps.values[0]) if steps.values else None)
    return draft


def _is_chdir(piece: Piece) -> bool:
    return isinstance(piece, GivenOption) and piece.option.name == "hydra.job.chdir"


def _name(option: Option) -> str:
    return re.sub(r"\W", "_", option.name.lstrip("-"))


def _names(segments: Sequence[Segment]) -> Mapping[str, int]:
    """For each name, how many options have it as their name or as its last part."""
    options = {option.name: option for segment in segments for option in segment.help.options}
    given = (piece.option for segment in segments for piece in segment.pieces if isinstance(piece, GivenOption))
    options |= {option.name: option for option in given}
    names: Counter[str] = Counter()
    for option in options.values():
        last = _full(last_part(option.name))
        names.update({_name(option), last} if "." in option.name else {_name(option)})
    return names


def _full(name: str) -> str:
    return _FIELD_NAMES.get(name.lower(), name)


def _short(option: Option, taken: Mapping[str, int]) -> str:
    """The name of an option's hyperparameter: the one that the checks know, unless another option would get it too."""
    name, full = _name(option), _full(last_part(option.name))
    if "." in option.name:
        return full if full in _KNOWN and taken[full] == 1 else name
    return name if taken[full] else full


def _wanted(
    segments: Sequence[Segment], place: Sequence[str], taken: Mapping[str, int], draft: DraftedCommand
) -> set[str]:
    """The options that the user names: by spelling, by name in the study, or by the last part of a dotted name."""
    options = [option for segment in segments for option in segment.help.options]
    options += [piece.option for segment in segments for piece in segment.pieces if isinstance(piece, GivenOption)]
    wanted: set[str] = set()
    for name in place:
        plain = _plain(name)
        exact = {o.name for o in options if plain in (*map(_plain, o.names), _short(o, taken))}
        near = {o.name for o in options if last_part(o.name) == plain}
        found = exact or (near if len(near) == 1 else set())
        if not found:
            draft.unknown.append(name)
        wanted |= found
    return wanted


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name.lstrip("-"))


def _not_given(segment: Segment, steps: GivenOption | None) -> list[Option]:
    """The options in the help that are not in the line and could be."""
    by_line = {piece.option.name for piece in segment.pieces if isinstance(piece, GivenOption)}
    found = []
    for option in segment.help.options:
        if option.name in by_line or _name(option).lower() in _NOT_PASSED or option.name.endswith(".help"):
            continue
        # Of options that exclude each other, only the one in the line or the one that sets the steps is used.
        rivals = segment.help.rivals(option)
        is_steps = steps is not None and option.name == steps.option.name
        if not rivals & by_line and (is_steps or steps is None or steps.option.name not in rivals):
            found.append(option)
    return found


def _as_placed(option: Option) -> GivenOption:
    """An option as it would be in the line at its default; a flag without a default is off."""
    if option.takes == 0 and not option.many:
        on = option.default == "true"
        return GivenOption(option, option.name if on or option.off is None else option.off, switched=on)
    one = replace(option, takes=max(option.takes, 1))
    return GivenOption(one, option.name, _default_values(option) or (), joined=option.joined)


def _offer(draft: DraftedCommand, options: Sequence[Option], taken: Mapping[str, int]) -> None:
    """Write the options as comments, each as it would be placed; options without a known value are only listed."""
    offers = DraftedCommand(_variables=draft._variables)
    for option in options:
        is_flag = option.takes == 0 and not option.many
        if names_resume_checkpoint(option):
            draft.not_offered.append(option.shown + _why_not_offered(option))
        elif is_flag and option.off is None and option.default == "true":
            draft.not_offered.append(f"{option.shown} ({option.source} turns it on; there is no option to turn it off)")
        elif (is_flag and (option.off is None or option.default is not None)) or _default_values(option) is not None:
            _place(offers, _as_placed(option), None, taken)
        elif not option.required:
            draft.not_offered.append(option.shown + _why_not_offered(option))
    if not offers.items:
        return
    if not draft.offered:
        draft.items += [
            "# These are not in the line, so the program's own defaults are used. To study one, uncomment it here and",
            "# under hyperparameters:",
        ]
    draft.items += [f"# {item}" for item in offers.items]
    draft.offered += offers.entries


def _why_not_offered(option: Option) -> str:
    if names_resume_checkpoint(option):
        words = f'"{option.name}={{trial.resume}}"' if option.joined else f'{option.name}, "{{trial.resume}}"'
        return f" (to resume stopped trials: [{words}], if `checkpoints` is set)"
    if option.takes == 1 and not option.many and option.default is not None:
        if _is_list(option.default):
            return f" (its default, {option.default}, is not a single value)"
        if option.repeats:
            return f" (it can be given several times; its default is {option.default})"
    return ""


def _is_list(default: str) -> bool:
    """Whether a default is printed as a Python list or dict, which cannot be passed as the text of one value."""
    ends = default[:1] + default[-1:]
    if ends != "{}":
        return ends in ("[]", "()")
    try:
        return isinstance(ast.literal_eval(default), (dict, set))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False


def _place_required(draft: DraftedCommand, segment: Segment, placed: Collection[str]) -> None:
    """Add lines to fill in for arguments that the program requires and only the user knows."""
    there = {piece.option.name for piece in segment.pieces if isinstance(piece, GivenOption)} | set(placed)
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
    missing = [word for word in segment.help.positionals if f"--{word.lower()}" not in there]  # Fire takes both
    for word in missing[len(words) :]:
        draft.items.append(f"-    {MARK}: the script requires {printable(word)}, an argument without an option name")


def _is_positional(piece: Piece) -> bool:
    return not (piece.text if isinstance(piece, Word) else piece.spelled).startswith("-")


def _default_values(option: Option) -> tuple[str, ...] | None:
    if option.default is None or option.many or option.repeats or "${" in option.default:
        return None
    if option.takes == 1:
        if _is_list(option.default) and not option.joined:
            return None
        # Many programs read any text as true, even "False".
        is_switch = option.default.lower() in ("true", "false") and option.default not in option.choices
        return None if is_switch and not option.joined else (option.default,)
    values = tuple(part.strip("'\",") for part in option.default.strip("()[]").split())
    return values if len(values) == option.takes else None


def _place(draft: DraftedCommand, piece: Piece, steps: GivenOption | None, taken: Mapping[str, int]) -> None:
    if isinstance(piece, Word):
        draft.items.append(_item(escaped_braces(piece.text)))
        return
    name = _short(piece.option, taken)
    if not piece.once or not all(value.isprintable() for value in piece.values):
        draft.items += [_item(escaped_braces(word)) for word in _spelled(piece, piece.values)]
    elif piece.option.takes == 0 and not piece.option.many:
        _place_switch(draft, piece, name)
    elif (own := per_trial_value(piece, steps)) is not None:
        draft.items.append(_list(_spelled(piece, [own])))
    elif not piece.values and piece.option.takes:
        entry = draft.entry(name, None, piece.option)
        draft.entries.append(entry)
        draft.items.append(_list(_spelled(piece, ["{" + entry.name + "}"])))
    elif not piece.values:
        draft.items.append(_item(escaped_braces(piece.spelled)))
    else:
        single = len(piece.values) == 1 and piece.option.takes <= 1
        names = [name] if single else [f"{name}_{index}" for index in range(1, len(piece.values) + 1)]
        entries = [draft.entry(each, value, piece.option) for each, value in zip(names, piece.values, strict=True)]
        draft.entries += entries
        draft.items.append(_list(_spelled(piece, ["{" + entry.name + "}" for entry in entries])))


def _place_switch(draft: DraftedCommand, piece: GivenOption, name: str) -> None:
    on = piece.spelled if piece.switched else piece.option.name
    if piece.switched and _SAVES.match(on):  # it changes no result, so it is not a hyperparameter
        draft.items.append(_item(escaped_braces(on)))
        return
    entry = draft.entry(name, "true" if piece.switched else "false", piece.option)
    draft.entries.append(entry)
    draft.items.append(f"- {{when: {{{entry.name}: true}}, arguments: [{_flow(on)}]}}")
    if piece.option.off is not None:
        draft.items.append(f"- {{when: {{{entry.name}: false}}, arguments: [{_flow(piece.option.off)}]}}")


def _spelled(piece: GivenOption, values: Iterable[str]) -> list[str]:
    texts = list(values)
    # As a word of its own, a value that begins with a dash would be read as an option.
    dashed = any(re.match("-.", value) and not isinstance(scalar(value), (int, float)) for value in piece.values)
    if len(texts) == 1 and (piece.joined or (dashed and piece.spelled.startswith("--"))):
        equals = "" if piece.spelled.endswith("=") or re.fullmatch("-[^-]", piece.spelled) else "="
        return [piece.spelled + equals + texts[0]]
    return [piece.spelled, *texts]


def _flow(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else in_flow(text)


def _item(text: str) -> str:
    return f"- {_flow(text)}"


def _list(texts: Iterable[str]) -> str:
    return f"- [{', '.join(_flow(text) for text in texts)}]"
