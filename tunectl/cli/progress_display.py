"""The progress of a run: a live table on a terminal, else one line for each trial; nothing with --quiet."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunectl.cli.console import console, empty_table, encoding_of, note, shown, wrapped
from tunectl.cli.terminal_text import in_encoding
from tunectl.core.records import TrialOutcome
from tunectl.core.safe_text import escaped
from tunectl.session.run_progress import RunProgress

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_SHOWN = 16  # running trials in the live table


class Quiet(AbstractContextManager["Quiet"]):
    """Prints only messages and failures. `failed` are the trials whose failure was printed."""

    def __init__(self) -> None:
        self.failed: list[int] = []
        self._first: dict[tuple[str, str], int] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def message(self, text: str) -> None:
        """Print a message."""
        note(text)

    def finished(self, outcome: TrialOutcome, progress: RunProgress) -> None:
        """Print what is shown of a trial that has ended."""
        if outcome.state == "failed":
            note(self._line(outcome, progress))

    def _line(self, outcome: TrialOutcome, progress: RunProgress) -> str:
        """A finished trial in one line; the message of an earlier failure is not printed again."""
        if outcome.state != "failed":
            return trial_line(outcome, progress)
        trial = outcome.plan.trial
        self.failed.append(trial)
        return trial_line(outcome, progress, self._first.setdefault((outcome.reason, outcome.message), trial))

    def progress(self, progress: RunProgress) -> None:
        """Print nothing."""


class Lines(Quiet):
    """Prints one line on stderr for each trial that ends."""

    def finished(self, outcome: TrialOutcome, progress: RunProgress) -> None:
        """Print what is shown of a trial that has ended."""
        note(self._line(outcome, progress))


class Live(Quiet):
    """A table on a terminal that is updated in place."""

    def __init__(self) -> None:
        from rich.live import Live as RichLive

        super().__init__()
        self._console = console(sys.stderr)
        self._live = RichLive(console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def message(self, text: str) -> None:
        """Print a message."""
        self._print(text)

    def finished(self, outcome: TrialOutcome, progress: RunProgress) -> None:
        """Print what is shown of a trial that has ended."""
        if outcome.state == "failed":
            self._print(self._line(outcome, progress))
        self.progress(progress)

    def progress(self, progress: RunProgress) -> None:
        """Show how far the run is."""
        self._live.update(_table(progress))

    def _print(self, text: str) -> None:
        if text.startswith("warning: "):
            text = wrapped(text, sys.stderr)
        self._console.print(in_encoding(escaped(text), encoding_of(sys.stderr)))


def watcher(*, quiet: bool) -> Quiet:
    """The progress display for this stderr."""
    if quiet:
        return Quiet()
    return Live() if sys.stderr.isatty() else Lines()


_LAST_TRAINING = {"data": "the data were counted", "final": "the model was trained", "test": "test was evaluated"}


def trial_line(outcome: TrialOutcome, progress: RunProgress, alike: int | None = None) -> str:
    """A finished trial in one line; `alike` is the first trial that failed with the same message."""
    head = f"[{progress.done}/{progress.total}] trial {outcome.plan.trial} {outcome.state}"
    if outcome.state == "failed" and alike in (None, outcome.plan.trial):
        return f"{head}: {outcome.reason}: {outcome.message}"
    if outcome.state == "failed":
        return f"{head}: {outcome.reason}, like trial {alike}"
    if outcome.state == "infeasible":
        at = f" at step {outcome.infeasible_step}" if outcome.infeasible_step is not None else ""
        return f"{head}: {outcome.reason}{at}"
    if outcome.state == "stopped":
        return f"{head} early: {outcome.message}"
    if outcome.plan.trial_kind == "throughput":
        return f"{head}: batch size {outcome.plan.hyperparameters.get('batch_size')} was timed"
    if outcome.plan.trial_kind == "profile":
        return f"{head}: its parts were timed"
    if outcome.plan.trial_kind == "curvature":
        return f"{head}: its checkpoints were measured"
    if outcome.plan.trial_kind in _LAST_TRAINING:
        return f"{head}: {_LAST_TRAINING[outcome.plan.trial_kind]}"
    return f"{head}: {_reached(outcome, progress)}{_left(progress)}"


def _reached(outcome: TrialOutcome, progress: RunProgress) -> str:
    """What a completed trial reached."""
    target = "" if progress.objective is None else progress.objective.target
    if target and outcome.best_value is None:
        return f"{target} not reached by step {outcome.final_step}, where it is {shown(outcome.final_value)}"
    if target:
        return f"{target} at step {outcome.best_step}"
    if outcome.best_value is None:
        return "no finite value"
    return f"best {shown(outcome.best_value)} at step {outcome.best_step}"


def _left(progress: RunProgress) -> str:
    if progress.seconds_left is None or progress.done == progress.total:
        return ""
    return f" ({duration(progress.seconds_left)} left)"


def duration(seconds: float) -> str:
    """A duration in its two largest units: `1 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _table(progress: RunProgress) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    counts = f"{progress.done} of {progress.total} trials"
    counts += f", {progress.infeasible} infeasible" if progress.infeasible else ""
    counts += f", {progress.failed} failed" if progress.failed else ""
    counts += f", {progress.stopped} stopped early" if progress.stopped else ""
    best, target = progress.best, "" if progress.objective is None else progress.objective.target
    if best is not None and target and best.best_value is not None:
        counts += f"; {target} at step {best.best_step} (trial {best.plan.trial})"
    elif best is not None and not target:
        counts += f"; best {shown(best.best_value)} (trial {best.plan.trial}, step {best.best_step})"
    # Of several stages the best one is that of the last complete stage.
    counts += f", of stage {best.plan.stage}" if best is not None and progress.stages > 1 else ""
    table = empty_table(sys.stderr)
    for name in ("running", "setting", "slot", "step", "of", "last value"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in progress.running[:_MOST_SHOWN]:
        table.add_row(
            str(trial.trial), str(trial.setting), str(trial.slot), trial.reached, str(trial.steps), shown(trial.value)
        )
    return Group(Text(counts + _left(progress)), *([table] if progress.running else []))
