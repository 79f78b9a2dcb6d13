"""`init`: a study to begin with, written once and never over another file."""

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
from tunectl.drafting.command_draft import MARK, Segment, drafted
from tunectl.drafting.command_words import Word, lacks_script, module_of, of_a_shell, parted, script_of
from tunectl.drafting.line_help import line_help, shared_places
from tunectl.drafting.sample_lines import read_sample
from tunectl.drafting.starter_study import STUDY, WORKLOAD
from tunectl.drafting.study_text import Known, study_text

_LONGEST_SHOWN = 90


@dataclass(frozen=True, slots=True)
class BegunStudy:
    """What was written: the study's file first. `marked` are the lines to be filled in, each with its number."""

    files: tuple[Path, ...]
    marked: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()


def begin_study(folder: Path) -> BegunStudy:
    """Write a commented study and a small workload that run as they stand.

    Raises UsageError where one of the files is there already, FolderError where they cannot be written.
    """
    path = folder / "study.yaml"
    text = STUDY.replace(" study.yaml ", f" {printable(shlex.quote(str(path)))} ")
    files = {path: text, folder / "workload.py": WORKLOAD}
    _write(files)
    return BegunStudy(tuple(files))


def begin_from(
    line: str,
    path: Path,
    current_folder: Path,
    *,
    metric: str | None = None,
    direction: str | None = None,
    steps: int | None = None,
    sample: Path | None = None,
    place: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _text: None,
) -> BegunStudy:
    """Write the study of a command line: its options fixed, those that it leaves to the program offered in comments.

    The command is asked for its help in `current_folder`, where the line would be typed; before that `tell` is called,
    since it may take a while. `place` are options that the line does not give and that are to be hyperparameters, too.
    `metric`, `direction`, `steps` and `sample`, a file of what the command prints, say what no help does; what stays
    unknown is marked in the study. Raises UsageError where the line is no command, where `place` names no option, or
    where the study's file is there already.
    """
    _refuse_existing(path)
    if direction not in (None, "minimize", "maximize"):
        raise UsageError(f"--direction is minimize or maximize, found {direction!r}")
    environment, program, words = _command(line, current_folder)
    asked = line_help(program, words, current_folder, environment, tell)
    notes = asked.notes
    _refuse_sweep(asked.segments)
    command = drafted(program, asked.segments, place)
    if command.unknown:
        raise UsageError(_no_option(command.unknown[0], asked.segments))
    notes += shared_places(asked.segments, asked.files)
    folder = os.path.relpath(current_folder, path.absolute().parent)
    known = Known(metric, direction, steps, folder=folder, files=tuple(asked.files), shown=asked.shown)
    if sample is not None:
        known = _with_sample(known, sample, notes)
    text = study_text(_name(path, program), shlex.split(line), environment, command, known, str(path))
    _write({path: text})
    lines = enumerate(text.splitlines(), start=1)
    marked = tuple((number, _without_mark(item)) for number, item in lines if MARK in item)
    return BegunStudy((path,), marked, tuple(notes))


def _no_option(name: str, segments: Sequence[Segment]) -> str:
    options = [option.name.lstrip("-") for segment in segments for option in segment.help.options]
    if not options:
        return f"--place: the command's help shows no options, so {name} is not known; give it in the line"
    return f"--place: the command's help shows no option {name}{nearest(name.lstrip('-'), options)}"


def _refuse_sweep(segments: Sequence[Segment]) -> None:
    """A line on which Hydra sweeps: it is several trainings."""
    for segment in segments:
        words = [piece.text if isinstance(piece, Word) else piece.spelled for piece in segment.pieces]
        if segment.help.framework == "hydra" and not {"-m", "--multirun"}.isdisjoint(words):
            raise UsageError(
                "--from: with --multirun the line is several trainings, and a trial is one; leave it out, give every "
                "option one value, and write the others into the study (values: [0.1, 0.01])"
            )


def _without_mark(line: str) -> str:
    return re.sub(rf":\s*{MARK}", "", re.sub(rf"^\s*-\s*{MARK}", "command", line)).strip(" -")


def _command(line: str, folder: Path) -> tuple[dict[str, str], list[str], list[str]]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"--from: {line!r} is no command line: {error}") from None
    if shell := of_a_shell(words):
        raise UsageError(f"--from: no shell reads the line, so {shell[0]} means nothing in it; name the command alone")
    environment, program, rest = parted([str(Path(word).expanduser()) if word[:2] == "~/" else word for word in words])
    if not program:
        raise UsageError("--from: a command is due, such as 'python train.py --lr 0.1', found none")
    if which(program[0], folder) is None:
        raise UsageError(f"--from: there is no program {program[0]!r}, neither on the PATH nor below {folder}")
    if lacks_script(program, rest):
        raise UsageError(
            f"--from: {shlex.join(program)} names no script; write the whole command, such as "
            "'python train.py --lr 0.1'"
        )
    script = script_of(program)
    if script is not None and not (folder / script).is_file():
        raise UsageError(f"--from: there is no file {script} in {folder}; call it from the folder where it is run")
    return environment, program, rest


def _with_sample(known: Known, sample: Path, notes: list[str]) -> Known:
    """What is known once a sample was read."""
    metric = known.metric
    # The file may be what a program prints now: --sample <(python train.py)
    with path_errors(sample, "read", UsageError), open(sample, "rb") as file:
        content = file.read(LARGEST_BYTES)
    found = read_sample(content.decode("utf-8", "replace"), metric)
    if found is None:
        notes.append(f"{sample}: no line in it gives a step and a metric by names, such as 'step 100 loss 0.25'")
        return known
    names = found.metrics if metric is None or not found.has_metric else ()
    if metric is not None and names:
        notes.append(f"{sample}: no metric in it is called {metric}{printable(nearest(metric, names))}")
    lines = [line for source in found.sources for line in source.in_yaml(sample.name)]
    for source in found.sources:
        given = printable(", ".join(source.metrics))
        notes.append(
            f"{sample}: {source.lines} line{' of it is' if source.lines == 1 else 's of it are'} read, for {given}"
        )
    for missed, count in found.missed:
        shown = printable(missed[:_LONGEST_SHOWN]) + ("…" if len(missed) > _LONGEST_SHOWN else "")
        lines.append(f"# Not read, though it seems to tell a metric ({count} such): {shown}")
        notes.append(f"{sample}: {count} line{'s' * (count != 1)} of it are not read, such as: {shown}")
    return replace(known, metrics=tuple(lines), names=names)


def _name(path: Path, program: Sequence[str]) -> str:
    """The study's name: the file's, or the script's where the file is called study.yaml."""
    module = module_of(program)
    script = module.rpartition(".")[2] if module else Path(script_of(program) or program[-1]).stem
    stems = (path.stem, "study") if path.stem != "study" else (script, "study")
    # Letters keep their place without their accents: étude is etude.
    plain = (re.sub(r"[\u0300-\u036f]", "", unicodedata.normalize("NFKD", stem)) for stem in stems)
    slugs = (re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] for stem in plain)
    return next(slug for slug in slugs if slug)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise UsageError(f"{path}: is there already, and nothing is written over; name another place")


def _write(files: Mapping[Path, str]) -> None:
    for path in files:
        _refuse_existing(path)
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
