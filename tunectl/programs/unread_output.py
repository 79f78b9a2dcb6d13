"""Reading what an earlier attempt at a trial printed, but was not read before its runner was killed.

A program writes its checkpoints by itself. So there may be a checkpoint while the evaluation at its step, which the
program printed before, is not yet in the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.core import regular_files
from tunectl.core.folders import TrialFolder
from tunectl.core.log_reader import Tail
from tunectl.core.measurements import Measurement
from tunectl.core.own_code_request import MetricSource
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.metric_files import Source
from tunectl.programs.output_reader import OutputReader
from tunectl.programs.torchrun import without_rank
from tunectl.store.json_lines import append_lines

_FILE = "began"
_LOST, _WENT_BACK = "lost", "back"
_MARK, _NUMBER, _FAILURES, _SKIPPED = "mark=", "number=", "failures=", "skipped="


@dataclass(frozen=True, slots=True)
class Beginning:
    """How an attempt began: the step of the checkpoint that it resumed from, None without one, and the log's length.

    `mark` identifies a checkpoint without a step, and `number` is the number in its name, None if it has none. `lost`:
    a power cut removed an earlier part of the log, whose metrics were measured and cannot be read again. `failures` is
    how often the program failed with it by itself, before it measured anything. `went_back`: a later checkpoint seemed
    to be damaged. `skipped` are the checkpoints that were there and did not count (see `later_checkpoints`).
    """

    step: int | None
    log_bytes: int
    mark: str = ""
    lost: bool = False
    number: int | None = None
    failures: int = 0
    went_back: bool = False
    skipped: frozenset[str] = frozenset()


def beginnings(folder: TrialFolder) -> list[Beginning]:
    """How the attempts began, in order, as far as it was noted; [] if the notes are damaged."""
    try:
        # A power cut came while an incomplete line was written: that attempt did not start the program.
        *lines, _torn = regular_files.content(folder.path / _FILE, within=folder.study).decode("ascii").split("\n")
        read = [_beginning(line.split()) for line in lines]
    except (OSError, ValueError):
        return []
    known: list[Beginning] = []
    for item in read:
        # Of an attempt that printed nothing, or whose output a power cut removed, the log has nothing; an attempt may
        # have several lines, of which the last one counts.
        known = [one for one in known if one.log_bytes < item.log_bytes] + [item]
    return known


def _beginning(words: Sequence[str]) -> Beginning:
    step, log_bytes, *others = words
    if not log_bytes.isdecimal() or not (step == "-" or step.isdecimal()):
        raise ValueError(f"expected a step and the bytes of the log, got {step} {log_bytes}")
    number, failures = "".join(_after(_NUMBER, others)), "".join(_after(_FAILURES, others))
    return Beginning(
        None if step == "-" else int(step),
        int(log_bytes),
        mark="".join(_after(_MARK, others)),
        lost=_LOST in others,
        number=int(number) if number else None,
        failures=int(failures or 0),
        went_back=_WENT_BACK in others,
        skipped=frozenset(_after(_SKIPPED, others)),
    )


def _after(label: str, words: Sequence[str]) -> list[str]:
    return [word.removeprefix(label) for word in words if word.startswith(label)]


def last_beginning(folder: TrialFolder) -> Beginning | None:
    """How the attempt before this one began; None if there was none, or if it is not known."""
    known = beginnings(folder)
    return known[-1] if known else None


def note_beginning(folder: TrialFolder, beginning: Beginning, *, durable: bool = True) -> None:
    """Note how this attempt begins, for the next attempt and for reading the log again.

    `durable` takes time, and is not needed if no attempt will resume. Raises FolderError or OSError if the note cannot
    be written.
    """
    words = ["-" if beginning.step is None else str(beginning.step), str(beginning.log_bytes)]
    words += [f"{_MARK}{beginning.mark}"] if beginning.mark else []
    words += [f"{_NUMBER}{beginning.number}"] if beginning.number is not None else []
    words += [f"{_SKIPPED}{name}" for name in sorted(beginning.skipped)]
    words += [f"{_FAILURES}{beginning.failures}"] if beginning.failures else []
    flags = {_LOST: beginning.lost, _WENT_BACK: beginning.went_back}
    words += [word for word, is_set in flags.items() if is_set]
    line = f"{' '.join(words)}\n".encode("ascii")
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
    """Add to the collector the metrics up to `step` that the attempt that began at `before` printed.

    Gives whether everything that was measured of that attempt is still in the log and the files. `earlier` are its
    measurements as they were found; later steps happen again. `reader` and `files` are those of this attempt: they keep
    what could not be read, and will go on after the present end of the log and of the files. `by_rank`: a launcher
    prefixed each line with the rank. Unless log and files are known to be complete (`is_whole`), an incomplete last
    line is left out, since the first digits of a number are another number.
    """
    found = Collector(lambda: 0.0, counts=collector.counts, ends_on_nan=lambda _name: False)
    if before is not None:
        if before.step is not None:
            found.begin_with([item for item in earlier if item.step <= before.step])
            reader.go_on_from(before.step)
        tail = Tail(folder.log, before.log_bytes)
        while lines := tail.read(to_the_end=is_whole):
            for line in lines:
                for metrics in reader.read(without_rank(line) if by_rank else line):
                    found.add(*metrics)
        for metrics in reader.read_rest() if is_whole else ():
            found.add(*metrics)
    for source, file in files:
        # A file with several attempts, each of which went back some steps, cannot be counted.
        is_countable = source.every is None or (before is not None and before.step is None)
        for metrics in file.read(to_the_end=is_whole):
            if is_countable:
                found.add(*metrics)
        file.forget_incomplete()
    found.finish()
    collector.join(found, step)
    return all(item.step in found.steps for item in earlier if item.step <= step)
