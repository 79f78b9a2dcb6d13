"""Where a run reads the requests of users between two events, and answers them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import assert_never

from tunectl.core.errors import FolderError, TunectlError
from tunectl.core.records import is_stopped_for_good
from tunectl.core.wording import counted
from tunectl.execution.jobs import Event, Tick, TrialEnded, TrialSetAside
from tunectl.execution.runner_lock import own_mark
from tunectl.execution.stop_signals import StopRequests
from tunectl.session.added_trials import Addition, ChangedMeanwhileError
from tunectl.session.left_offers import at_rest
from tunectl.session.run_at_work import RunAtWork
from tunectl.session.stopped_trials import STOP_MESSAGE, record_resumed, record_stopped, stopped_words
from tunectl.store import request_files
from tunectl.store.request_files import RequestAnswer, RunRequest
from tunectl.store.trial_files import read_trial, trial_state

_READ_SECONDS = 0.5


class RequestDesk:
    """Takes the requests to a run, which it passes on to the run's control, and answers them when they are done."""

    def __init__(
        self,
        run: RunAtWork,
        stops: StopRequests,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._stops, self._say, self._clock = run, stops, say, clock
        self._folder, self._control = run.study.folder, run.study.control
        self._mark, self._last_read = own_mark(), -_READ_SECONDS
        self._of_trials: dict[str, int] = {}
        self._of_pause: list[str] = []
        self._passed_over: set[str] = set()
        self._set_aside = 0
        self._control.record_end = lambda trial: record_stopped(at_rest(self._folder, trial))
        request_files.clear_old(self._folder)

    def __call__(self, event: Event) -> None:
        """Take one event of the run."""
        if isinstance(event, TrialEnded):
            self._trial_ended(event)
        elif isinstance(event, TrialSetAside):
            self._set_aside += 1
        elif isinstance(event, Tick):
            self.look()
            # What is offered is taken back first: until then a worker may begin it.
            if self._of_pause and event.offered == 0 and (event.running == 0 or self._control.lets_run):
                self._paused(event.running)

    def look(self) -> None:
        """Read what is asked, also before the first event; what waits for trials is answered later."""
        if self._clock() - self._last_read >= _READ_SECONDS:
            self._last_read = self._clock()
            self._read()

    def close(self) -> None:
        """Answer what is still open when the trials of the run have ended."""
        for name in (*self._of_pause, *self._of_trials):
            self._answer(name, RequestAnswer(False, "the run has ended"))
        self._of_pause, self._of_trials = [], {}

    def _read(self) -> None:
        for name in request_files.waiting(self._folder):
            try:
                request = request_files.take(self._folder, name)
            except FileNotFoundError:
                continue
            except OSError as error:
                if name not in self._passed_over:
                    self._passed_over.add(name)
                    self._say(f"warning: a request to this run cannot be taken ({error})")
                continue
            if request is None:
                self._answer(name, RequestAnswer(False, "the request cannot be read by this version of tunectl"))
                continue
            if request.to != self._mark:
                self._answer(name, RequestAnswer(False, "the request was for an earlier run, which has ended"))
                continue
            try:
                found = self._obey(name, request)
            except (TunectlError, OSError) as error:
                found = RequestAnswer(False, str(error), again=isinstance(error, ChangedMeanwhileError))
            if found is not None:
                self._answer(name, found)

    def _obey(self, name: str, request: RunRequest) -> RequestAnswer | None:
        """Do what is asked; gives None where it is answered later."""
        match request.action:
            case "stop":
                self._stops.ask(request.number)
                self._say("asked to stop by `tunectl stop`")
                return RequestAnswer(True, "it stops")
            case "pause":
                self._pause(name, lets_run=request.number == 1)
                return None
            case "resume":
                return self._resume()
            case "stop trial":
                return self._stop_trial(name, request.trial)
            case "resume trial":
                return self._resume_trial(request.trial)
            case "add":
                message = self._run.add(Addition(request.before, request.number, request.token))
                self._say(f"asked by `tunectl add`: {message}")
                return RequestAnswer(True, message)
            case _:
                assert_never(request.action)

    def _pause(self, name: str, *, lets_run: bool) -> None:
        is_known = self._control.is_paused and self._control.lets_run == lets_run
        if not self._control.is_paused:
            self._set_aside = 0
        self._control.is_paused, self._control.lets_run = True, lets_run
        self._run.study.lock.note_pause(is_paused=True)
        self._of_pause.append(name)
        how = "no further trial is started" if lets_run else "the running trials save, and no further one is started"
        if not is_known:
            self._say(f"paused by `tunectl pause`: {how} until `{self._run.resume_command}`")

    def _paused(self, running: int) -> None:
        names, self._of_pause = self._of_pause, []
        if running:
            verb = "run" if running > 1 else "runs"
            message = f"paused: {counted(running, 'trial')} still {verb} to the end, and no further one is started"
        else:
            saved = f"; {counted(self._set_aside, 'trial')} saved and will go on" if self._set_aside else ""
            message = f"paused: no trial is running{saved}"
        for name in names:
            self._answer(name, RequestAnswer(True, message))

    def _resume(self) -> RequestAnswer:
        if not self._control.is_paused:
            return RequestAnswer(True, "the run is at work and was not paused")
        self._control.is_paused = self._control.lets_run = False
        self._run.study.lock.note_pause(is_paused=False)
        for name in self._of_pause:
            self._answer(name, RequestAnswer(False, "the pause was ended by `tunectl resume`"))
        self._of_pause = []
        self._say("resumed by `tunectl resume`")
        return RequestAnswer(True, "the run goes on")

    def _stop_trial(self, name: str, trial: int) -> RequestAnswer | None:
        self._run.check_trial(trial)
        if trial in self._run.jobs and trial not in self._run.ended:
            self._say(f"asked by `tunectl stop`: trial {trial} is stopped for good")
            self._of_trials[name] = trial
            self._control.stopped[trial] = STOP_MESSAGE
            return None
        return RequestAnswer(True, record_stopped(at_rest(self._folder, trial)))

    def _resume_trial(self, trial: int) -> RequestAnswer:
        self._run.check_trial(trial)
        if trial in self._of_trials.values():
            return RequestAnswer(False, f"trial {trial} is being stopped; ask again when it has ended")
        message = record_resumed(at_rest(self._folder, trial))
        self._control.stopped.pop(trial, None)
        self._run.run_again(trial)
        self._say(f"asked by `tunectl resume`: {message}")
        return RequestAnswer(True, message)

    def _trial_ended(self, event: TrialEnded) -> None:
        self._run.ended.add(event.trial)
        names = [name for name, trial in self._of_trials.items() if trial == event.trial]
        for name in names:
            del self._of_trials[name]
            home = self._folder.trial(event.trial)
            state, reason, _ = trial_state(read_trial(home))
            done = is_stopped_for_good(state, reason)
            message = stopped_words(home) if done else f"trial {event.trial} had ended before: it is {state}"
            self._answer(name, RequestAnswer(done, message))

    def _answer(self, name: str, found: RequestAnswer) -> None:
        try:
            request_files.answer(self._folder, name, found)
        except (OSError, FolderError) as error:
            self._say(f"warning: a request to this run cannot be answered ({error})")
