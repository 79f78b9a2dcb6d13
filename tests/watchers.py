"""Watchers of a run for tests."""

from __future__ import annotations

from tunectl.core.records import TrialOutcome
from tunectl.session.run_progress import RunProgress


class Silent:
    """A watcher that shows nothing and keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def finished(self, outcome: TrialOutcome, progress: RunProgress) -> None: ...

    def progress(self, progress: RunProgress) -> None: ...
