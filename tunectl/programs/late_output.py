"""What an earlier attempt at a trial told and nobody had read when its runner was killed.

A program writes its checkpoints by itself: one may be there though the evaluation at its step, which the program had
told before, was not yet among the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.core import regular_files
from tunectl.core.folders import TrialFolder
from tunectl.core.program_request import MetricSource
from tunectl.core.records import Measurement
from tunectl.core.text_lines import Tail
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.file_sources import Source
from tunectl.programs.output_reader import OutputReader
from tunectl.programs.torchrun import without_rank
from tunectl.store.json_lines import append_lines

_FILE, _STOPPED, _LOST, _MARK = "began", "stopped", "lost", "mark="


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where an attempt began: the step of the checkpoint that it went on from, None where it began with nothing, and
    how long the log was. `was_stopped`: it was told to end, so that how far it came says nothing of its checkpoint.
    `mark` is what a checkpoint without a step is known by. `lost`: a power cut took some of the log before it, which
    was measured and cannot be read again.
    """

    step: int | None
    log_bytes: int
    was_stopped: bool = False
    mark: str = ""
    lost: bool = False


def beginnings(folder: TrialFolder) -> list[Beginning]:
    """How the attempts began, as far as it was noted, the first one first; [] where what was noted is damaged."""
    try:
        # A line without an end was being written when a power cut came: that attempt started nothing.
        *lines, _torn = regular_files.content(folder.path / _FILE, within=folder.study).decode("ascii").split("\n")
        read = [_beginning(line.split()) for line in lines]
    except (OSError, ValueError):
        return []
    # An attempt may have several lines; the last one counts.
    return list({item.log_bytes: item for item in read}.values())


def _beginning(words: Sequence[str]) -> Beginning:
    step, log_bytes, *others = words
    marks = [word.removeprefix(_MARK) for word in others if word.startswith(_MARK)]
    if not log_bytes.isdecimal() or not (step == "-" or step.isdecimal()):
        raise ValueError(f"{step} {log_bytes} is no beginning")
    return Beginning(
        None if step == "-" else int(step), int(log_bytes), _STOPPED in others, "".join(marks), _LOST in others
    )


def last_beginning(folder: TrialFolder) -> Beginning | None:
    """How the attempt before this one began; None where there was none, or it is not known."""
    known = beginnings(folder)
    return known[-1] if known else None


def note_beginning(folder: TrialFolder, beginning: Beginning, *, durable: bool = True) -> None:
    """Keep how this attempt begins, for the next one and for whoever reads the log again.

    Where no attempt goes on from it, it need not be `durable`, which takes time. Raises FolderError, or OSError, where
    it cannot be written.
    """
    step = "-" if beginning.step is None else beginning.step
    stopped = f" {_STOPPED}" if beginning.was_stopped else ""
    mark = f" {_MARK}{beginning.mark}" if beginning.mark else ""
    lost = f" {_LOST}" if beginning.lost else ""
    line = f"{step} {beginning.log_bytes}{stopped}{mark}{lost}\n".encode("ascii")
    if durable:
        append_lines(folder.path / _FILE, line, within=folder.study)
        return
    descriptor = regular_files.open_to_append(folder.path / _FILE, within=folder.study)
    with open(descriptor, "ab") as file:
        file.write(line)


def catch_up(
    collector: Collector,
    step: int,
    folder: TrialFolder,
    before: Beginning | None,
    earlier: Sequence[Measurement],
    *,
    by_rank: bool,
    reader: OutputReader,
    files: Sequence[tuple[MetricSource, Source]],
    is_whole: bool,
) -> bool:
    """Add to the collector what the attempt that began at `before` told of steps up to `step`; gives whether all that
    was measured of it is still there to be read.

    `earlier` are its measurements as they were found. What it told of later steps happens again. Reader and files are
    those of this attempt: they keep what could not be read, and are past what is in the log and in the files now.
    `by_rank`: a launcher wrote the rank before each line. Where it is not known that log and files are whole, a last
    line without an end is left out: of a number that was cut the first digits would be another number.
    """
    found = Collector(lambda: 0.0, counts=collector.counts, matters=lambda _name: False)
    if before is not None:
        if before.step is not None:
            found.begin_with([item for item in earlier if item.step <= before.step])
            reader.go_on_from(before.step)
        tail = Tail(folder.log, before.log_bytes)
        while lines := tail.read(to_the_end=is_whole):
            for line in lines:
                for told in reader.told(without_rank(line) if by_rank else line):
                    found.take(*told)
        for told in reader.told_at_the_end() if is_whole else ():
            found.take(*told)
    for source, file in files:
        # What a file holds of several attempts, of which each went back some way, cannot be counted.
        is_countable = source.every is None or (before is not None and before.step is None)
        for told in file.read(to_the_end=is_whole):
            if is_countable:
                found.take(*told)
        file.forget_torn()
    found.settle()
    collector.join(found, step)
    return all(item.step in found.steps for item in earlier if item.step <= step)
