"""A first study for `tunectl init`: the example, or the study of a command line."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.core.errors import FolderError, UsageError
from tunectl.core.files import write_new
from tunectl.core.own_code_request import which
from tunectl.core.path_errors import broken_link, path_error, path_errors
from tunectl.core.regular_files import LARGEST_BYTES
from tunectl.core.wording import nearest, printable
from tunectl.drafting.command_draft import MARK, Segment, draft_command
from tunectl.drafting.command_words import Word, lacks_script, module_of, script_of, shell_words, split_command
from tunectl.drafting.line_help import line_help, values_shared_by_trials
from tunectl.drafting.sample_lines import read_sample
from tunectl.drafting.starter_study import STUDY, WORKLOAD
from tunectl.drafting.study_text import StudyDetails, study_text
from tunectl.language.study_schema import SCHEMA_FILE, SCHEMA_LINE, schema_text

_LONGEST_SHOWN = 90


@dataclass(frozen=True, slots=True)
class StudiedCommand:
    """A command to write a study of, and what its help does not say about it.

    `line` is the command line and `folder` the folder in which the user would type it. `sample` is a file with output
    of the command. `place` names options that are not in the line and become hyperparameters as well.
    """

    line: str
    folder: Path
    metric: str | None = None
    direction: str | None = None
    steps: int | None = None
    sample: Path | None = None
    place: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class DraftedStudy:
    """The files that were written, the study's first. `to_fill_in` are the lines marked FILL IN, with their numbers."""

    files: tuple[Path, ...]
    to_fill_in: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()


def draft_study(
    path: Path, command: StudiedCommand | None = None, message: Callable[[str], None] = lambda _text: None
) -> DraftedStudy:
    """Write a first study to `path`; existing files are never changed.

    Without a command, it is a commented example with a small workload in a file beside it, ready to run. With a
    command, the options in its line are fixed hyperparameters and its other options are offered in comments. For that
    the command is run with `--help`; `message` gets a line before each such call, which may take a while.

    Raises UsageError where one of the files already exists, where the line is not a command that can be run, or where
    `place` names an option that the command does not have; FolderError where a file cannot be written.
    """
    if command is None:
        text = STUDY.replace(" study.yaml ", f" {printable(shlex.quote(str(path)))} ")
        return DraftedStudy(_write({path: SCHEMA_LINE + text, path.parent / "workload.py": WORKLOAD}))
    _refuse_existing(path)
    if command.direction not in (None, "minimize", "maximize"):
        raise UsageError(f"--direction: expected minimize or maximize, got {command.direction}")
    text, notes = _study_of_command(path, command, message)
    text = SCHEMA_LINE + text
    files = _write({path: text})
    lines = enumerate(text.splitlines(), start=1)
    to_fill_in = tuple((number, _without_mark(item)) for number, item in lines if MARK in item)
    return DraftedStudy(files, to_fill_in, tuple(notes))


def _study_of_command(path: Path, command: StudiedCommand, message: Callable[[str], None]) -> tuple[str, list[str]]:
    """The text of the study and the notes for the user."""
    environment, program, words = _split(command.line, command.folder)
    found = line_help(program, words, command.folder, environment, message)
    notes = found.notes
    _refuse_sweep(found.segments)
    drafted = draft_command(program, found.segments, command.place)
    if drafted.unknown:
        name, options = drafted.unknown[0], [o.name.lstrip("-") for part in found.segments for o in part.help.options]
        if not options:
            raise UsageError(f"--place {name}: the command's help shows no options; write this one into the command")
        raise UsageError(f"--place {name}: no such option in the command's help{nearest(name.lstrip('-'), options)}")
    notes += values_shared_by_trials(found.segments, found.files)
    folder = os.path.relpath(command.folder, path.absolute().parent)
    details = StudyDetails(
        command.metric,
        command.direction,
        command.steps,
        folder=folder,
        files=tuple(found.files),
        shown=found.shown,
    )
    if command.sample is not None:
        details = _with_sample(details, command.sample, notes)
    text = study_text(
        _name(path, program),
        drafted,
        details,
        line=shlex.split(command.line),
        environment=environment,
        file=str(path),
    )
    return text, notes


def _refuse_sweep(segments: Sequence[Segment]) -> None:
    """Refuse a line with which Hydra would train several times."""
    for segment in segments:
        words = [piece.text if isinstance(piece, Word) else piece.spelled for piece in segment.pieces]
        if segment.help.framework == "hydra" and not {"-m", "--multirun"}.isdisjoint(words):
            raise UsageError(
                "--from: with --multirun the command trains several times, but a trial is one training; leave it out, "
                "give each option one value, and list the other values in the study (values: [0.1, 0.01])"
            )


def _without_mark(line: str) -> str:
    return re.sub(rf":\s*{MARK}", "", re.sub(rf"^\s*-\s*{MARK}", "command", line)).strip(" -")


def _split(line: str, folder: Path) -> tuple[dict[str, str], list[str], list[str]]:
    """The variables that the line sets, the words that start the program, and its arguments."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"--from: {line!r} is not a valid command line: {error}") from None
    if shell := shell_words(words):
        raise UsageError(
            f"--from: the line is not run by a shell, so it cannot contain {shell[0]}; give only the command"
        )
    words = [str(Path(word).expanduser()) if word.startswith("~/") else word for word in words]
    environment, program, rest = split_command(words)
    if not program:
        raise UsageError(f"--from: expected a command such as 'python train.py --lr 0.1', got {line!r}")
    if which(program[0], folder) is None:
        raise UsageError(f"--from: program {program[0]!r} not found, neither on the PATH nor in {folder}")
    if lacks_script(program, rest):
        raise UsageError(
            f"--from: {shlex.join(program)} starts no script; give the whole command, such as "
            "'python train.py --lr 0.1'"
        )
    script = script_of(program)
    if script is not None and not (folder / script).is_file():
        raise UsageError(
            f"--from: file {script} not found in {folder}; call tunectl from the folder in which you run the script"
        )
    return environment, program, rest


def _with_sample(details: StudyDetails, sample: Path, notes: list[str]) -> StudyDetails:
    """The details with what a sample of the command's output adds to them."""
    metric = details.metric
    # The file may be what a program prints now: --sample <(python train.py)
    with path_errors(sample, "read", UsageError), open(sample, "rb") as file:
        content = file.read(LARGEST_BYTES)
    found = read_sample(content.decode("utf-8", "replace"), metric)
    if found is None:
        notes.append(f"{sample}: no line names a step and a metric, as in 'step 100 loss 0.25'")
        return details
    names = found.metrics if metric is None or not found.has_metric else ()
    if metric is not None and names:
        notes.append(f"{sample}: no metric is called {metric}{printable(nearest(metric, names))}")
    lines = [line for source in found.sources for line in source.in_yaml(sample.name)]
    for source in found.sources:
        given = printable(", ".join(source.metrics))
        notes.append(f"{sample}: {source.lines} line{'s' * (source.lines != 1)} read, giving {given}")
    for unread, count in found.unread:
        shown = printable(unread[:_LONGEST_SHOWN]) + ("…" if len(unread) > _LONGEST_SHOWN else "")
        lines.append(f"# Not read, though it seems to have a metric ({count} such): {shown}")
        notes.append(f"{sample}: {count} line{'s' * (count != 1)} not read, such as: {shown}")
    return replace(details, metrics=tuple(lines), names=names)


def _name(path: Path, program: Sequence[str]) -> str:
    """The study's name: the file's stem, or the script's where the file is called study.yaml."""
    module = module_of(program)
    script = module.rpartition(".")[2] if module else Path(script_of(program) or program[-1]).stem
    stems = (path.stem, "study") if path.stem != "study" else (script, "study")
    # Letters keep their place without their accents: étude is etude.
    plain = (re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFKD", stem)) for stem in stems)
    slugs = (re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] for stem in plain)
    return next(slug for slug in slugs if slug)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise UsageError(f"{path}: already exists, and init does not overwrite files; give another folder or file")


def _write(files: Mapping[Path, str]) -> tuple[Path, ...]:
    """Write the files, and the schema beside the first one where there is none; returns what was written."""
    for path in files:
        _refuse_existing(path)
    schema = next(iter(files)).parent / SCHEMA_FILE
    if not os.path.lexists(schema):
        files = {**files, schema: schema_text()}
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new(path, text.encode("utf-8", "surrogatepass"))
        except FileExistsError:
            if broken := broken_link(path.parent):
                raise FolderError(f"{path}: cannot be written: {broken}") from None
            _refuse_existing(path)
            raise FolderError(f"{path}: cannot be written: {path.parent} is a file, not a folder") from None
        except OSError as error:
            raise path_error(path, "written", error) from error
    return tuple(files)
