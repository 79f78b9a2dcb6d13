"""What a program says of the options on a line: its help, its subcommands' help, and the files that the line names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from tunectl.core import regular_files
from tunectl.core.scalars import scalar
from tunectl.drafting.command_draft import Segment
from tunectl.drafting.command_words import Given, Piece, Word, given, module_of, script_of, with_source_defaults
from tunectl.drafting.config_values import ENDINGS, ConfigFile, key_of, names_config, read_config, with_config
from tunectl.drafting.help_request import LONGEST_SECONDS, asked_help
from tunectl.drafting.help_text import read_help
from tunectl.drafting.options import Help
from tunectl.drafting.own_options import is_folder, is_seed

_DEEPEST = 5
"""Subcommands of subcommands whose help is asked."""

_LONGEST_CONFIG = 1_000_000
"""Bytes; a longer file is data, and no file of options."""

_REMEDIES = {
    True: "give the program an option for its seed and place {trial.seed}",
    False: 'place {trial.dir} where an option takes it, or let each trial run in its own folder: folder: "{trial.dir}"',
}


@dataclass(slots=True)
class LineHelp:
    """The parts of a line, each with its help, and the files that the program reads its options from.

    `shown` are the defaults that the help of the line itself shows and that of the program alone does not. `notes` say
    what could not be asked.
    """

    segments: list[Segment] = field(default_factory=list)
    files: list[ConfigFile] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Asking:
    """How a program is asked: where, with which variables, and whom to tell before."""

    folder: Path
    environment: Mapping[str, str]
    tell: Callable[[str], None]

    def help_of(
        self, called: Sequence[str], given: Sequence[str] = (), option: str = "--help"
    ) -> tuple[Help | None, str]:
        """What the help says, None where it names no options, and then why.

        `given` are words of the line; behind a `--` among them no option is one any more.
        """
        cut = given.index("--") if "--" in given else len(given)
        words, after = [*called, *given[:cut]], given[cut:]
        self.tell(f"asking {shlex.join([*words, option, *after])}, for {LONGEST_SECONDS:g} seconds at most")
        text, reason = asked_help(words, self.folder, self.environment, option=option, after=after)
        told = read_help(text) if text is not None else None
        if told is not None and (told.options or told.commands or told.framework):
            if option == "--help" and text is not None and "Try --helpfull" in text:
                return self.help_of(called, given, "--helpfull")[0] or told, ""
            return told, ""
        return None, reason or "it names no options"


def line_help(
    program: Sequence[str],
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    tell: Callable[[str], None],
) -> LineHelp:
    """Ask the program for its help, and its subcommands for theirs, and read the files of options that the line names.

    Where the line names such files it is asked a second time, with the line's own words before `--help`: many programs
    then show what the files set. Fire would train instead, and is not.
    """
    found, asking = LineHelp(), _Asking(folder, environment, tell)
    called, left = list(program), list(words)
    while True:
        plain, why = asking.help_of(called)
        pieces, read = given(left, plain)
        files = [*_config_files(pieces, plain or Help(), folder, environment if not found.segments else {})]
        found.files += files
        text = plain
        if _may_change(plain, why, found.files):
            own, failed = asking.help_of(called, left[:read])
            text, why = _joined(found, plain, own, pieces), failed or why
            if plain is not None and own is None:
                found.notes.append(f"with the line's own words it shows no help ({failed}): does the line run by hand?")
            pieces, read = given(left, text)
        if text is None:
            found.notes.append(
                f"{shlex.join(called)} --help shows no options ({why}): only what is in the line is taken"
            )
        command = left[read] if read < len(left) and len(found.segments) < _DEEPEST else None
        found.segments.append(Segment(pieces, text or Help(), command))
        if command is None:
            break
        called, left = [*called, *left[: read + 1]], left[read + 1 :]
    _apply_files(found, _source(program, folder))
    return found


def shared_places(segments: Sequence[Segment], files: Sequence[ConfigFile]) -> Iterator[str]:
    """Seeds and folders that a file sets and no option takes: all trials would have them in common."""
    options = [option for segment in segments for option in segment.help.options]
    for file in files:
        taken = {key_of(option, file, segment.command) for segment in segments for option in segment.help.options}
        own = {option.name.lstrip("-") for option in options}
        for key, value in file.values.items():
            if key in taken or value is None or key in own or key.partition(".")[2] in own:
                continue
            if is_seed(key) or is_folder(key):
                yield (
                    f"{file.name} sets {key}: {value}, and no option that the help shows takes it, so all trials would "
                    "share it; " + _REMEDIES[is_seed(key)]
                )


def _may_change(plain: Help | None, why: str, files: Sequence[ConfigFile]) -> bool:
    """Whether the help may be another with the line's own words before it."""
    if plain is None:
        # A program that wants an option first ends by itself; one that trains when it is asked is not asked again.
        return why.startswith("it ends with exit code 2" if not files else "it ends with exit code")
    return plain.framework == "hydra" or (plain.framework != "fire" and bool(files))


def _joined(found: LineHelp, plain: Help | None, own: Help | None, pieces: Sequence[Piece]) -> Help | None:
    """The help of the line itself; what its defaults say beyond those of the program alone is noted."""
    if own is None or not (own.options or own.commands):
        return plain
    by_line = {piece.option.name for piece in pieces if isinstance(piece, Given)}
    for option in own.options:
        before = plain.option(option.name) if plain is not None and option.name not in by_line else None
        if before is not None and option.default is not None and option.default != before.default:
            found.shown[option.name] = option.default
    return own


def _apply_files(found: LineHelp, source: str) -> None:
    """Put the values of the files in the place of the program's own, in the help of every part of the line."""
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
    """Whether a file that neither line nor help names replaces the defaults that the script declares."""
    options = [option for segment in found.segments for option in segment.help.options]
    named = bool(found.files) or any(_is_config(option.names) for option in options)
    return not named and re.search(r"\bset_defaults\(\s*\*\*", source) is not None


def _with_words(file: ConfigFile, text: Help) -> ConfigFile:
    """A file of arguments with what they set."""
    if not file.words:
        return file
    pieces, _ = given(file.words, text)
    options = [piece for piece in pieces if isinstance(piece, Given)]
    values = {
        piece.option.name.lstrip("-"): " ".join(piece.values) if piece.option.takes else str(piece.switched).lower()
        for piece in options
    }
    return replace(file, values=values)


def _config_files(
    pieces: Sequence[Piece], text: Help, folder: Path, environment: Mapping[str, str]
) -> Iterator[ConfigFile]:
    """The files of options that the words, the variables set before them, and the program's own defaults name."""
    if text.framework == "hydra":
        return  # its help shows the configuration after all of them
    by_line = {piece.option.name for piece in pieces if isinstance(piece, Given)}
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


def _files_of(piece: Given, text: Help, folder: Path) -> Iterator[ConfigFile]:
    """The files of options that an option of the line names; of another option a file may be data."""
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
    """Whether a word without an option is a file of options: `@args.txt`, `configs/big.yaml`."""
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
    """The text of the script, or of the module's file below the folder where the line is run."""
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
