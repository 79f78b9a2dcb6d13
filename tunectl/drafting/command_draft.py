"""A command line and what its help says, to a command with placeholders and the values that they stand for."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunectl.core.own_code_request import variable_of
from tunectl.core.records import Scalar
from tunectl.core.scalars import scalar
from tunectl.core.table_columns import TABLE_COLUMNS
from tunectl.core.wording import printable
from tunectl.drafting.command_words import Given, Piece, Word
from tunectl.drafting.options import Help, Option
from tunectl.drafting.own_options import count, escaped, goes_on, last_part, own_text, steps_option, takes_own
from tunectl.drafting.proposals import proposal
from tunectl.language.hyperparameter_names import TRIAL_VARIABLES
from tunectl.language.study_edit import in_flow

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

_NOT_PASSED = (
    "help", "h", "?", "version", "install_completion", "show_completion", "helpfull", "helpshort", "helpxml",
    "print_config",
)  # fmt: skip
_SAVES = re.compile(r"--?save(?![a-z])", re.IGNORECASE)
_PLAIN = re.compile(r"--?[A-Za-z][\w.-]*")


@dataclass(frozen=True, slots=True)
class Segment:
    """The words of a program, or of its subcommand `command`, and what its help says.

    The defaults in the help are those that the program has with this line, after it has read its files.
    """

    pieces: Sequence[Piece]
    help: Help
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A hyperparameter as the study's file holds it: its value, None where it is to be filled in, and a proposal.

    `source` is the file that the value comes from, "" where it is the line or the program's default.
    """

    name: str
    value: str | None
    proposed: str = ""
    source: str = ""


@dataclass(slots=True)
class DraftedCommand:
    """A command line with placeholders: the lines of `command:` and of `hyperparameters:`.

    `offered` are the hyperparameters that the line does not give: their entries, and their lines in `items`, are
    comments. `left` are options that are not offered, since no value of theirs is known. `steps` is the number of steps
    that the line or the help gives, with the option that takes it. `unknown` are names that were to be placed and are
    none of an option.
    """

    items: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    offered: list[Entry] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    steps: tuple[str, int | None] | None = None
    unknown: list[str] = field(default_factory=list)
    _variables: set[str] = field(default_factory=set)

    def entry(self, name: str, text: str | None, option: Option) -> Entry:
        """The entry of a fixed hyperparameter of this value, under a name that no other has."""
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
        if legal in TABLE_COLUMNS or variable_of(legal) in TRIAL_VARIABLES:
            legal += "_option"
        # Two that differ in capitals alone would have one environment variable.
        numbered = (legal if n == 1 else f"{legal}_{n}" for n in range(1, 10_000))
        free = next(other for other in numbered if variable_of(other) not in self._variables)
        self._variables.add(variable_of(free))
        return free


def _reads_back(value: bool | int | float, text: str) -> bool:
    """Whether a program reads the value as what the line says, once it went through the study: 007 and True do not."""
    if isinstance(value, float):
        return abs(value) < float("inf")
    return str(value).lower() == text and (isinstance(value, bool) or abs(value) <= 2**53)


def drafted(program: Sequence[str], segments: Sequence[Segment], place: Sequence[str] = ()) -> DraftedCommand:
    """The command with a placeholder for every option that the line gives, and for those that the user names.

    Args:
        program: the words that start the program.
        segments: what the line gives to the program and to its subcommands.
        place: options that the line does not give and that are to be hyperparameters, each by one of its names.

    Seeds, output folders and the length of training become the trial's own, also where the line does not give them.
    Every other option is offered in a comment: what is not placed keeps the value that the program gives it.
    """
    draft = DraftedCommand(items=[_item(escaped(word)) for word in program])
    steps = steps_option([(segment.pieces, segment.help) for segment in segments])
    taken = _names(segments)
    wanted = _wanted(segments, place, taken, draft)
    for segment in segments:
        marks = [index for index, piece in enumerate(segment.pieces) if piece == Word("--")]
        cut = marks[0] if marks else len(segment.pieces)
        for piece in segment.pieces[:cut]:
            _place(draft, piece, steps, taken)
        rest = _not_given(segment, steps)
        placed = [option for option in rest if option.name in wanted or takes_own(option, steps)]
        for option in placed:
            _place(draft, _as_placed(option), steps, taken)
        _offer(draft, [option for option in rest if option not in placed], taken)
        for piece in segment.pieces[cut:]:
            _place(draft, piece, steps, taken)
        _place_required(draft, segment, {option.name for option in placed})
        if segment.command is not None:
            draft.items.append(_item(escaped(segment.command)))
        if segment.help.framework == "hydra" and not any(_is_chdir(piece) for piece in segment.pieces):
            draft.items.append("# - hydra.job.chdir=true    # uncomment it where the program writes to relative paths")
    if steps is not None:
        draft.steps = (steps.option.name, count(steps.values[0]) if steps.values else None)
    return draft


def _is_chdir(piece: Piece) -> bool:
    return isinstance(piece, Given) and piece.option.name == "hydra.job.chdir"


def _name(option: Option) -> str:
    return re.sub(r"\W", "_", option.name.lstrip("-"))


def _names(segments: Sequence[Segment]) -> Mapping[str, int]:
    """How many options go by a name, or would by the last part of theirs."""
    options = {option.name: option for segment in segments for option in segment.help.options}
    given = (piece.option for segment in segments for piece in segment.pieces if isinstance(piece, Given))
    options |= {option.name: option for option in given}
    names: Counter[str] = Counter()
    for option in options.values():
        last = _full(last_part(option.name))
        names.update({_name(option), last} if "." in option.name else {_name(option)})
    return names


def _full(name: str) -> str:
    return _FIELD_NAMES.get(name.lower(), name)


def _short(option: Option, taken: Mapping[str, int]) -> str:
    """The name of an option's hyperparameter: one that the checks know, where no other option would have it."""
    name, full = _name(option), _full(last_part(option.name))
    if "." in option.name:
        return full if full in _KNOWN and taken[full] == 1 else name
    return name if taken[full] else full


def _wanted(
    segments: Sequence[Segment], place: Sequence[str], taken: Mapping[str, int], draft: DraftedCommand
) -> set[str]:
    """The options that the user names, by their spelling, their name in the study, or the last part of a dotted one."""
    options = [option for segment in segments for option in segment.help.options]
    options += [piece.option for segment in segments for piece in segment.pieces if isinstance(piece, Given)]
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


def _not_given(segment: Segment, steps: Given | None) -> list[Option]:
    """The options of the help that the line does not give and could."""
    by_line = {piece.option.name for piece in segment.pieces if isinstance(piece, Given)}
    found = []
    for option in segment.help.options:
        if option.name in by_line or _name(option).lower() in _NOT_PASSED or option.name.endswith(".help"):
            continue
        # Of options that exclude each other the one in the line stays, or the one that gives the steps.
        rivals = segment.help.rivals(option)
        is_steps = steps is not None and option.name == steps.option.name
        if not rivals & by_line and (is_steps or steps is None or steps.option.name not in rivals):
            found.append(option)
    return found


def _as_placed(option: Option) -> Given:
    """An option as the line would give it at its default; a flag without one is off."""
    if option.takes == 0 and not option.many:
        on = option.default == "true"
        return Given(option, option.name if on or option.off is None else option.off, switched=on)
    one = replace(option, takes=max(option.takes, 1))
    return Given(one, option.name, _default_values(option) or (), joined=option.joined)


def _offer(draft: DraftedCommand, options: Sequence[Option], taken: Mapping[str, int]) -> None:
    """Write the options as comments, each as it would be placed; those without a value are named."""
    offers = DraftedCommand(_variables=draft._variables)
    for option in options:
        is_flag = option.takes == 0 and not option.many
        if goes_on(option):
            draft.left.append(option.shown + _why_left(option))
        elif is_flag and option.off is None and option.default == "true":
            draft.left.append(f"{option.shown} ({option.source} turns it on, and no option turns it off)")
        elif (is_flag and (option.off is None or option.default is not None)) or _default_values(option) is not None:
            _place(offers, _as_placed(option), None, taken)
        elif not option.required:
            draft.left.append(option.shown + _why_left(option))
    if not offers.items:
        return
    if not draft.offered:
        draft.items += [
            "# Not in the line, so that the program keeps its own value of these. To study one, uncomment it here and",
            "# under hyperparameters:",
        ]
    draft.items += [f"# {item}" for item in offers.items]
    draft.offered += offers.entries


def _why_left(option: Option) -> str:
    if goes_on(option):
        words = f'"{option.name}={{trial.resume}}"' if option.joined else f'{option.name}, "{{trial.resume}}"'
        return f" (as [{words}], where `checkpoints` says which files they are)"
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


def _place_required(draft: DraftedCommand, segment: Segment, placed: Collection[str]) -> None:
    """The words without which the program does not start, and which only the user knows."""
    there = {piece.option.name for piece in segment.pieces if isinstance(piece, Given)} | set(placed)
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
        draft.items.append(f"-    {MARK}: the script requires {printable(word)}, a word without an option")


def _is_positional(piece: Piece) -> bool:
    return not (piece.text if isinstance(piece, Word) else piece.spelled).startswith("-")


def _default_values(option: Option) -> tuple[str, ...] | None:
    if option.default is None or option.many or option.repeats or "${" in option.default:
        return None
    if option.takes == 1:
        if _is_list(option.default) and not option.joined:
            return None
        # Many programs read any text as true, also "False".
        is_switch = option.default.lower() in ("true", "false") and option.default not in option.choices
        return None if is_switch and not option.joined else (option.default,)
    values = tuple(part.strip("'\",") for part in option.default.strip("()[]").split())
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
    elif (own := own_text(piece, steps)) is not None:
        draft.items.append(_list(_spelled(piece, [own])))
    elif not piece.values and piece.option.takes:
        entry = draft.entry(name, None, piece.option)
        draft.entries.append(entry)
        draft.items.append(_list(_spelled(piece, ["{" + entry.name + "}"])))
    elif not piece.values:
        draft.items.append(_item(escaped(piece.spelled)))
    else:
        single = len(piece.values) == 1 and piece.option.takes <= 1
        names = [name] if single else [f"{name}_{index}" for index in range(1, len(piece.values) + 1)]
        entries = [draft.entry(each, value, piece.option) for each, value in zip(names, piece.values, strict=True)]
        draft.entries += entries
        draft.items.append(_list(_spelled(piece, ["{" + entry.name + "}" for entry in entries])))


def _place_switch(draft: DraftedCommand, piece: Given, name: str) -> None:
    on = piece.spelled if piece.switched else piece.option.name
    if piece.switched and _SAVES.match(on):  # it changes no result: no study asks about it
        draft.items.append(_item(escaped(on)))
        return
    entry = draft.entry(name, "true" if piece.switched else "false", piece.option)
    draft.entries.append(entry)
    draft.items.append(f"- {{when: {{{entry.name}: true}}, arguments: [{_flow(on)}]}}")
    if piece.option.off is not None:
        draft.items.append(f"- {{when: {{{entry.name}: false}}, arguments: [{_flow(piece.option.off)}]}}")


def _spelled(piece: Given, values: Iterable[str]) -> list[str]:
    texts = list(values)
    # A value that begins as an option does is taken for one where it stands alone.
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
