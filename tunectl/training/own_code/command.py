"""A trial that is a program: started, read while it runs, and judged by how it ends."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunectl.core import jsontext
from tunectl.core.folders import TrialFolder
from tunectl.core.programs import OUTPUT, MetricSource, ProgramRequest
from tunectl.core.recording import RECORDED
from tunectl.core.records import TrialResult, TrialSeconds
from tunectl.spec.placeholders import filled
from tunectl.store.trial_files import read_trial, write_measurements
from tunectl.training.lines import LineFile
from tunectl.training.own_code.collecting import Collector
from tunectl.training.own_code.kept import CheckpointPattern, KeptCheckpoints
from tunectl.training.own_code.lines import Tail, last_lines
from tunectl.training.own_code.sources import JsonLinesFile, OutputReader, Source, file_source
from tunectl.training.own_code.starting import placeholder_values, prepared, started, write_hyperparameters
from tunectl.training.own_code.torchrun import RANKS, cause_of, said_by_rank, without_rank

_LOOK_SECONDS = 0.2
_POLL_SECONDS = 0.05
_MOST_CHUNKS = 16
_TAIL_LINES = 20
_STOP_SECONDS = 10.0
"""How long a program whose metric is no number may take to end before it is killed: its result is known."""

_OUT_OF_MEMORY = re.compile("out of memory", re.IGNORECASE)
_PLACE = re.compile(r'^\s*File "(?P<file>[^"<>]+)", line (?P<line>\d+)')
_RECORDED = MetricSource("json_lines", "")


@dataclass(slots=True)
class _Run:
    """A program at work, and what is known of it."""

    request: ProgramRequest
    folder: TrialFolder
    process: subprocess.Popen[bytes]
    stop: Callable[[], bool]
    output: Tail
    reader: OutputReader
    files: list[Source]
    collector: Collector
    kept: KeptCheckpoints | None
    measurements: LineFile
    log_offset: int
    patterns: list[re.Pattern[str]] = field(default_factory=list)
    said: str = ""
    stop_sent: bool = False
    deadline: float | None = None

    def look(self, *, ended: bool = False) -> None:
        """Read what has come, write the measurements, tidy the checkpoints."""
        # A program that prints faster than it can be read is read to its end when it has ended.
        for _ in itertools.count() if ended else range(_MOST_CHUNKS):
            lines = self.output.read(to_the_end=ended)
            if not lines:
                break
            for line in lines:
                self._hear(line)
        for file in self.files:
            for told in file.read(to_the_end=ended):
                self.collector.take(*told)
        if self.kept is not None:
            metric, collector = self.request.objective.metric, self.collector
            last_told = collector.last_told(metric)
            names = self.kept.tidy(lambda step: collector.value(step, metric), last_told, ended=ended)
            for step, name in names.items():
                collector.name_checkpoint(step, name)
        self.collector.write(self.measurements)

    def _hear(self, line: str) -> None:
        if self.request.program.devices > 1:
            line = without_rank(line)
        for told in self.reader.told(line):
            self.collector.take(*told)
        if self.patterns:
            self.search([line])

    def search(self, lines: Iterable[str]) -> None:
        """Note the first line that says that the hyperparameters are at fault."""
        for line, pattern in itertools.product(lines, self.patterns):
            if not self.said and pattern.search(line):
                self.said = line.strip()

    def press(self) -> None:
        """Tell the program to end, where the trial was told to, or where its result is known already."""
        if not self.stop_sent and (self.stop() or self.collector.bad is not None):
            self.stop_sent = True
            # To the program alone: what it started must live while it saves.
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
            if not self.stop():
                self.deadline = time.monotonic() + _STOP_SECONDS
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.process.kill()


def run_command(
    request: ProgramRequest,
    folder: TrialFolder,
    *,
    stop: Callable[[], bool],
    seconds: TrialSeconds,
    log: int = 1,
) -> TrialResult | None:
    """Run the program of a trial to its end; its output goes to the descriptor `log`, which must be the trial's log.

    Gives None where it was stopped before it had ended by itself. A program that was killed by a signal ends this
    process by the same one. Raises WorkloadError where it cannot be started.
    """
    began = time.monotonic()
    resume = prepared(request, folder)
    values = placeholder_values(request, folder, resume)
    write_hyperparameters(request, Path(values["trial.hyperparameters"]))
    offset = os.fstat(log).st_size
    sources = request.program.sources
    collector = Collector(lambda: time.monotonic() - began, counts=_tells_no_step(sources), matters=_declared(request))
    with contextlib.closing(LineFile(folder.measurements, _kept_lines(collector, folder, resume))) as measurements:
        reader, files_to_read = OutputReader(sources), _files(request, values)
        if resume is not None:
            _pass_over(files_to_read, reader, resume[0])
        seconds.startup_seconds += time.monotonic() - began
        run = _Run(
            request=request,
            folder=folder,
            process=started(request, values, log),
            stop=stop,
            output=Tail(folder.log, offset),
            reader=reader,
            files=files_to_read,
            collector=collector,
            kept=_kept(request, folder, values),
            measurements=measurements,
            log_offset=offset,
            patterns=[re.compile(text) for text in request.program.infeasible.patterns],
        )
        try:
            _watch(run)
        finally:
            seconds.train_seconds += time.monotonic() - began
        measurements.sync()
    return _judged(run, seconds)


def _watch(run: _Run) -> None:
    """Wait for the program's end, looking at what it tells meanwhile."""
    with contextlib.ExitStack() as stack:
        poller = select.poll()
        if hasattr(os, "pidfd_open"):
            descriptor = os.pidfd_open(run.process.pid)
            stack.callback(os.close, descriptor)
            poller.register(descriptor, select.POLLIN)
        while run.process.poll() is None:
            poller.poll(_LOOK_SECONDS * 1000)
            run.look()
            run.press()
    if run.stop_sent and run.stop():
        _stop_the_others(run.process.pid)
    run.look(ended=True)


def _stop_the_others(group: int) -> None:
    """Let what a program left behind save, too: a shell or a launcher may end at SIGTERM before what it started.

    How long is for the runner to say, which kills them all after the grace.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while True:
            # Orphans come to this process, and a zombie is a member, too.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
            os.killpg(group, 0)
            time.sleep(_POLL_SECONDS)


def _judged(run: _Run, seconds: TrialSeconds) -> TrialResult | None:
    """What the program's end means; see `run_command`."""
    code, collector, ends = run.process.returncode, run.collector, run.request.program.infeasible
    tail = last_lines(run.folder.log, run.log_offset, _TAIL_LINES)
    if run.request.program.devices > 1:
        code, tail = _cause(run)

    def result(state: str, reason: str, message: str, step: int | None = None) -> TrialResult:
        return TrialResult(
            trial=run.request.trial,
            state=state,  # type: ignore[arg-type]
            reason=reason,
            message=jsontext.one_line(message),
            infeasible_step=step,
            final_step=collector.last_step,
            train_seconds=seconds.train_seconds,
            startup_seconds=seconds.startup_seconds,
            where=_place(tail) if state == "failed" else "",
            traceback="\n".join(tail) + "\n" if state == "failed" else "",
        )

    if collector.bad is not None:
        step, metric = collector.bad
        return result("infeasible", "nan_metric", f"{metric} is no number at step {step}", step)
    if run.stop() and not (code == 0 and (collector.last_step or 0) >= run.request.max_train_steps):
        return None
    if code == 0:
        missing = _missing(run)
        return result("failed", "no_metric", missing) if missing else result("completed", "", "")
    if code in ends.exit_codes:
        return result("infeasible", f"exit_code_{code}", f"it ended with exit code {code}", collector.last_step)
    if run.said:
        reason = "out_of_memory" if _OUT_OF_MEMORY.search(run.said) else jsontext.one_line(run.said)[:80]
        return result("infeasible", reason, f"it said: {run.said}", collector.last_step)
    if code < 0:
        _die_by(-code)
    last = tail[-1] if tail else "it printed nothing"
    return result("failed", f"exit_code_{code}", f"{last} (exit code {code})")


def _cause(run: _Run) -> tuple[int, list[str]]:
    """The exit code and the last lines of the rank that failed first; what others than rank 0 said is heard here."""
    ranks = run.folder.files / RANKS
    cause = cause_of(run.process.returncode, run.folder.log, run.log_offset, ranks)
    for rank in range(1, run.request.program.devices) if cause.code else ():
        run.search(said_by_rank(ranks, rank))
    return cause.code, cause.lines[-_TAIL_LINES:]


def _missing(run: _Run) -> str:
    """What is wrong where the objective, or what else the study declares, was never told; "" where all was."""
    metric, names, sources = run.request.objective.metric, run.collector.names, run.request.program.sources
    tail = last_lines(run.folder.log, run.log_offset, 3)
    said = f"its last lines were: {' / '.join(tail)}" if tail else "it printed nothing"
    if metric in names:
        silent = _silent(run)
        return f"it ended without telling {silent}; {said}" if silent else ""
    wanted = "; ".join(f"{item.kind} {item.where}" for item in sources) or "tunectl.record"
    if names:
        told = ", ".join(sorted(names)[:10])
        return (
            f"it ended without telling the objective {metric}; it told {told}: rename one with `names`; looked for: "
            f"{wanted}; {said}"
        )
    return f"it ended without telling any metric; looked for: {wanted}; {said}"


def _silent(run: _Run) -> str:
    """The first thing that the study declares and the program never told, and where it was looked for; "" for none."""
    files = [item for item in run.request.program.sources if item.kind != "regex" and item.where != OUTPUT]
    # The last reader is of what `tunectl.record` writes, which nobody declares.
    unheard = [source for source, file in zip(files, run.files, strict=False) if not file.heard]
    for source in (*unheard, *run.reader.unheard()):
        return f"anything by {source.kind} {source.where}, where the study looks for metrics"
    for source in run.request.program.sources:
        never = ", ".join(sorted(source.named() - run.collector.names))
        if never:
            what = "the expression" if source.kind == "regex" else source.kind
            return f"{never}, for which the study has {what} {source.where!r}"
    return ""


def _place(tail: list[str]) -> str:
    """file:line of the last frame that a Python traceback among these lines names."""
    found = [match for line in tail if (match := _PLACE.match(line))]
    return f"{found[-1]['file']}:{found[-1]['line']}" if found else ""


def _die_by(number: int) -> None:
    """End this process by the signal that ended the program: to the runner both are one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


def _tells_no_step(sources: Sequence[MetricSource]) -> bool:
    """Whether it is known that a program tells no step at all: its expressions name none."""
    return bool(sources) and all(
        item.kind == "regex" and item.every is None and item.step not in re.compile(item.where).groupindex
        for item in sources
    )


def _declared(request: ProgramRequest) -> Callable[[str], bool]:
    """Which metrics end a trial when they are no number: the objective, what the study names, what is recorded.

    Files and JSON lines hold other numbers, too (a time that is left, say).
    """
    sources = request.program.sources
    named = {request.objective.metric, *(name for item in sources for name in item.named())}
    only_recorded = not any(item.kind != "regex" for item in sources)
    return lambda name: only_recorded or name in named


def _pass_over(files: Sequence[Source], reader: OutputReader, step: int) -> None:
    """Read past what an earlier attempt left in its files; what is counted goes on from a step."""
    for file in files:
        for _ in file.read(to_the_end=True):
            pass
        file.go_on_from(step)
    reader.go_on_from(step)


def _kept_lines(collector: Collector, folder: TrialFolder, resume: tuple[int, Path] | None) -> int:
    """Cut the measurements back to the step from which the program goes on; gives the length of what stays."""
    if resume is None:
        return 0
    kept = [item for item in read_trial(folder).measurements if item.step <= resume[0]]
    write_measurements(folder, kept)
    collector.begin_with(kept)
    return folder.measurements.stat().st_size


def _files(request: ProgramRequest, values: Mapping[str, str]) -> list[Source]:
    """The readers of the files that the program writes; `tunectl.record` needs no declaration."""
    # In folders' names nothing is a wildcard.
    home = Path(glob.escape(request.program.folder))
    plain = {name: glob.escape(text) for name, text in values.items()}
    declared = [
        file_source(item, str(home / filled(item.where, plain)))
        for item in request.program.sources
        if item.kind != "regex" and item.where != OUTPUT
    ]
    return [*declared, JsonLinesFile.at(str(Path(plain["trial.dir"]) / RECORDED), _RECORDED)]


def _kept(request: ProgramRequest, folder: TrialFolder, values: Mapping[str, str]) -> KeptCheckpoints | None:
    if request.program.checkpoints is None:
        return None
    pattern = CheckpointPattern.of(request.program.checkpoints, values)
    return KeptCheckpoints(pattern, folder, request.objective, request.keep_checkpoints)
