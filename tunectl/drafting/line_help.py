"""The options of a command line, from the program's help, its subcommands' help and its configuration files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from tunectl.core import regular_files
from tunectl.core.scalars import scalar
from tunectl.drafting.command_draft import Segment
from tunectl.drafting.command_words import (
    GivenOption,
    Piece,
    Word,
    module_of,
    read_words,
    script_of,
    with_source_defaults,
)
from tunectl.drafting.config_values import ENDINGS, ConfigFile, key_of, names_config, read_config, with_config
from tunectl.drafting.help_request import LONGEST_SECONDS, request_help
from tunectl.drafting.help_text import read_help
from tunectl.drafting.options import Help
from tunectl.drafting.per_trial_options import is_folder, is_seed

_DEEPEST = 5
"""The number of nested subcommands whose help is read."""

_LONGEST_CONFIG = 1_000_000
"""In bytes; a longer file is data, not a configuration file."""

_REMEDIES = {
    True: "give the program an option for its seed and place {trial.seed}",
    False: 'pass {trial.dir} to an option, or let each trial run in its own folder: folder: "{trial.dir}"',
}


@dataclass(slots=True)
class LineHelp:
    """The parts of a line, each with its help, and the configuration files that the program reads.

    `shown` are defaults that only the help of the whole line shows, not that of the program alone. `notes` are
    messages for the user about help that could not be read.
    """

    segments: list[Segment] = field(default_factory=list)
    files: list[ConfigFile] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _HelpReader:
    """How a program is called for its help: the folder, the environment, and who gets a message before."""

    folder: Path
    environment: Mapping[str, str]
    message: Callable[[str], None]

    def help_of(
        self, called: Sequence[str], given: Sequence[str] = (), option: str = "--help"
    ) -> tuple[Help | None, str]:
        """The help, None if it shows no options, and then the reason.

        `given` are words of the line; after a `--` among them, no word is an option.
        """
        cut = given.index("--") if "--" in given else len(given)
        words, after = [*called, *given[:cut]], given[cut:]
        self.message(f"calling {shlex.join([*words, option, *after])} (at most {LONGEST_SECONDS:g} seconds)")
        text, reason = request_help(words, self.folder, self.environment, option=option, after=after)
        found = read_help(text) if text is not None else None
        if found is not None and (found.options or found.commands or found.framework):
            if option == "--help" and text is not None and "Try --helpfull" in text:
                return self.help_of(called, given, "--helpfull")[0] or found, ""
            return found, ""
        return None, reason or "it printed no options"


def line_help(
    program: Sequence[str],
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    message: Callable[[str], None],
) -> LineHelp:
    """Read the help of the program and of its subcommands, and the configuration files that the line names.

    If the line names such files, the program is called a second time with the line's own words before `--help`: many
    programs then show the values from the files. A Fire program would train instead, so it is not called again.
    """
    found, reader = LineHelp(), _HelpReader(folder, environment, message)
    called, words = list(program), list(words)
    while True:
        plain, why = reader.help_of(called)
        pieces, read = read_words(words, plain)
        files = [*_config_files(pieces, plain or Help(), folder, environment if not found.segments else {})]
        found.files += files
        text = plain
        if _may_change(plain, why, found.files):
            own, failed = reader.help_of(called, words[:read])
            text, why = _joined(found, plain, own, pieces), failed or why
            if plain is not None and own is None:
                found.notes.append(f"the whole line with --help shows no options ({failed}): does it run in a shell?")
            pieces, read = read_words(words, text)
        if text is None:
            found.notes.append(
                f"{shlex.join(called)} --help shows no options ({why}): the study has only the options in the line"
            )
        command = words[read] if read < len(words) and len(found.segments) < _DEEPEST else None
        found.segments.append(Segment(pieces, text or Help(), command))
        if command is None:
            break
        called, words = [*called, *words[: read + 1]], words[read + 1 :]
    _apply_files(found, _source(program, folder))
    return found


def values_shared_by_trials(segments: Sequence[Segment], files: Sequence[ConfigFile]) -> Iterator[str]:
    """Messages about seeds and folders that a file sets and no option changes: all trials would share them."""
    options = [option for segment in segments for option in segment.help.options]
    for file in files:
        taken = {key_of(option, file, segment.command) for segment in segments for option in segment.help.options}
        own = {option.name.lstrip("-") for option in options}
        for key, value in file.values.items():
            if key in taken or value is None or key in own or key.partition(".")[2] in own:
                continue
            if is_seed(key) or is_folder(key):
                yield (
                    f"{file.name} sets {key}: {value}, and the help shows no option for it, so all trials would share "
                    "it; " + _REMEDIES[is_seed(key)]
                )


def _may_change(plain: Help | None, why: str, files: Sequence[ConfigFile]) -> bool:
    """Whether the help may differ when the line's own words come before it."""
    if plain is None:
        # A program that requires an option exits; one that begins to train on --help is not called again.
        return why.startswith("it ends with exit code 2" if not files else "it ends with exit code")
    return plain.framework == "hydra" or (plain.framework != "fire" and bool(files))


def _joined(found: LineHelp, plain: Help | None, own: Help | None, pieces: Sequence[Piece]) -> Help | None:
    """The help of the whole line; defaults that differ from the program's own go into `found.shown`."""
    if own is None or not (own.options or own.commands):
        return plain
    by_line = {piece.option.name for piece in pieces if isinstance(piece, GivenOption)}
    for option in own.options:
        before = plain.option(option.name) if plain is not None and option.name not in by_line else None
        if before is not None and option.default is not None and option.default != before.default:
            found.shown[option.name] = option.default
    return own


def _apply_files(found: LineHelp, source: str) -> None:
    """Replace the program's defaults by the values from the files, in the help of every part of the line."""
    files, under = list(found.files), None
    for index, segment in enumerate(found.segments):
        text = segment.help if _sets_defaults(source, found) else with_source_defaults(segment.help, source)
        read = [_with_words(file, text) for file in files]
        is_last = index == len(found.segments) - 1
        text = with_config(text, read, under, shows_files=bool(found.shown), is_last=is_last)
        found.segments[index] = replace(segment, help=text)
        pairs = zip(found.files, read, strict=True)
        found.files = [replace(old, values={**old.values, **new.values}) for old, new in pairs]
        under = segment.command or under


def _sets_defaults(source: str, found: LineHelp) -> bool:
    """Whether the script reads its defaults from a file that neither the line nor the help names."""
    options = [option for segment in found.segments for option in segment.help.options]
    named = bool(found.files) or any(_is_config(option.names) for option in options)
    return not named and re.search(r"\bset_defaults\(\s*\*\*", source) is not None


def _with_words(file: ConfigFile, text: Help) -> ConfigFile:
    """A file of arguments, with the values that they set."""
    if not file.words:
        return file
    pieces, _ = read_words(file.words, text)
    options = [piece for piece in pieces if isinstance(piece, GivenOption)]
    values = {
        piece.option.name.lstrip("-"): " ".join(piece.values) if piece.option.takes else str(piece.switched).lower()
        for piece in options
    }
    return replace(file, values=values)


def _config_files(
    pieces: Sequence[Piece], text: Help, folder: Path, environment: Mapping[str, str]
) -> Iterator[ConfigFile]:
    """The configuration files named by the words, by the variables before them, and by the program's defaults."""
    if text.framework == "hydra":
        return  # its help shows the values after all files were read
    by_line = {piece.option.name for piece in pieces if isinstance(piece, GivenOption)}
    for option in text.options:
        named = option.default if option.name not in by_line and _is_config(option.names) else None
        if named and (folder / named).is_file():
            yield replace(_read(named, folder), by_default=True)
    for value in environment.values():
        if _has_ending(value) and (folder / value).is_file():
            yield _read(value, folder)
    for piece in pieces:
        if isinstance(piece, Word):
            if _is_named_file(piece.text, folder):
                yield _read(piece.text, folder)
        else:
            yield from _files_of(piece, text, folder)


def _files_of(piece: GivenOption, text: Help, folder: Path) -> Iterator[ConfigFile]:
    """The configuration files that an option names; a file of another option may be data."""
    part, is_named = f"{piece.option.name}.", _is_config(piece.option.names)
    for value in piece.values:
        is_file = _has_ending(value) and (folder / value).is_file()
        if is_file and text.framework == "jsonargparse" and any(item.name.startswith(part) for item in text.options):
            file = _read(value, folder)  # --model model.yaml sets what is below model
            yield replace(file, values={f"{part.lstrip('-')}{name}": item for name, item in file.values.items()})
        elif is_file:
            file = _read(value, folder)
            if is_named or any(key_of(option, file) for option in text.options):
                yield file
        elif is_named and isinstance(scalar(value), str):
            yield _read(value, folder)


def _is_config(names: Sequence[str]) -> bool:
    return any(names_config(name) for name in names)


def _has_ending(text: str) -> bool:
    return text.lower().endswith(ENDINGS)


def _is_named_file(text: str, folder: Path) -> bool:
    """Whether an argument is a configuration file: `@args.txt`, `configs/big.yaml`."""
    name = text.removeprefix("@")
    return (text.startswith("@") or _has_ending(text)) and bool(name) and (folder / name).is_file()


def _read(name: str, folder: Path) -> ConfigFile:
    path = folder / Path(name.removeprefix("@")).expanduser()
    try:
        if path.stat().st_size > _LONGEST_CONFIG:
            return ConfigFile(name)
        return read_config(name, regular_files.text(path, "utf-8-sig"))
    except (OSError, ValueError):
        return ConfigFile(name)


def _source(program: Sequence[str], folder: Path) -> str:
    """The source of the script, or of the module in the folder where the line is run."""
    paths = [script] if (script := script_of(program)) is not None else []
    if not paths and (module := module_of(program)) is not None:
        path = PurePath(*module.split("."))
        paths = [f"{path}.py", str(path / "__main__.py")]
    for path_text in paths:
        try:
            return regular_files.text(folder / path_text)
        except (OSError, UnicodeDecodeError):
            continue
    return ""
