"""The progress of a run: a live table on a terminal, else one line for each trial; nothing with --quiet."""

from __future__ import annotations

import select
import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunectl.cli.console import console, empty_table, encoding_of, note, shown, wrapped
from tunectl.cli.terminal_text import in_encoding
from tunectl.core.records import TrialOutcome
from tunectl.core.safe_text import escaped
from tunectl.session.progress_text import time_left, trial_line
from tunectl.session.run_progress import RunProgress

if TYPE_CHECKING:
    from rich.console import RenderableType

_ANSWER_SECONDS = 60.0
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

    def ask(self, question: str) -> bool:
        """Ask a question on the terminal; gives whether the answer is yes. No answer within a minute means no."""
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        answered, _, _ = select.select([sys.stdin], [], [], _ANSWER_SECONDS)
        return bool(answered) and sys.stdin.readline().strip().lower() in ("y", "yes")

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

    def ask(self, question: str) -> bool:
        """Ask a question below the table, which stays as it is meanwhile."""
        self._live.stop()
        try:
            return super().ask(question)
        finally:
            self._live.start()

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


def can_ask() -> bool:
    """Whether there is a terminal on which a question can be asked and answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def watcher(*, quiet: bool) -> Quiet:
    """The progress display for this stderr."""
    if quiet:
        return Quiet()
    return Live() if sys.stderr.isatty() else Lines()


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
    place = "worker" if any(trial.where for trial in progress.running) else "slot"
    for name in ("running", "setting", place, "step", "of", "last value"):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in progress.running[:_MOST_SHOWN]:
        table.add_row(
            *(str(trial.trial), str(trial.setting), escaped(trial.where) or str(trial.slot)),
            *(trial.reached, str(trial.steps), shown(trial.value)),
        )
    return Group(Text(counts + time_left(progress)), *([table] if progress.running else []))
