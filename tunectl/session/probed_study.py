"""The probe of a study before anything is created: its workload is imported, and tried on one batch in each setting."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from tunectl.core.data_report import DataReport
from tunectl.core.errors import EXIT_INTERRUPTED, PathKey, Problem, StudyError, TunectlError, WorkloadError
from tunectl.core.probe_errors import NO_BATCH_NORM
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import FactorySignature, PlannedTrial, Scalar, TrialRequest
from tunectl.core.wording import as_text
from tunectl.execution.backends.backend import Backend
from tunectl.execution.scheduler import WAIT_SECONDS
from tunectl.execution.shared_places import OWN_PLACES, Places
from tunectl.execution.slots import Slot
from tunectl.language.code_checks import named_code
from tunectl.language.consumed_names import StudyCode, factory_arguments
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_data import as_warnings, data_report
from tunectl.session.checked_study import CheckedStudy, check_signature, check_study
from tunectl.session.promoted_trials import most_promoted
from tunectl.session.training_time import TrainingTime, training_time
from tunectl.session.trial_requests import trial_request
from tunectl.space.trial_plan import typical_trials

_MOST_PROBES = 50  # each takes some 50 ms
_MOST_NOTES = 5


_OF_TRAINING = re.compile(r"(?:^|: )(training\.(?:batch_norm_statistics|predictions|split_examples)(?:\.\w+)*): ")
"""In an error about a key of `training:`, which one it is; what is wrong with it follows."""

_OF_CODE = re.compile(r"(?:^|: )(?:optimizer|schedule) (\S+): ")
"""In an error about code that the study names, its text; what is wrong with it follows."""

_OF_SECTION = len(("training", "predictions"))


class StoppedError(TunectlError):
    """The command was interrupted before it created anything."""

    exit_code = EXIT_INTERRUPTED


@dataclass(frozen=True, slots=True)
class ProbedWorkload:
    """A backend that has imported the workload, and the signature of its factory.

    `checkpoint_bytes` is the size of the largest checkpoint among the trials that were tried. `messages` are lines on
    what was found while the workload was loaded, `notes` what the probes of trials found, each line once.
    """

    backend: Backend
    signature: FactorySignature
    checkpoint_bytes: int = 0
    messages: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def study_slots(spec: StudySpec, count: int | None, backend: Backend, chosen: str | None = None) -> tuple[Slot, ...]:
    """The slots of a study on its backend: `count` (--slots) of them, or all that its resources give.

    `chosen` is the backend that the command line names in place of the study's. Raises StudyError where the backend is
    another one than they name.
    """
    if backend.name != (chosen or spec.resources.backend):
        message = f"expected {backend.name}, which this command has started, got {spec.resources.backend}"
        raise StudyError([spec.problem(("resources", "backend"), message)])
    return backend.slots(spec.resources, count)


def probe_workload(
    backend: Backend,
    checked: CheckedStudy,
    trials: Sequence[PlannedTrial],
    slots: Sequence[Slot],
    stop_requested: Callable[[], int],
    meanwhile: Callable[[], None] = lambda: None,
    *,
    places: Places = OWN_PLACES,
) -> ProbedWorkload:
    """Import the workload, then try some of the given trials (see `trials_to_probe`) on one batch each.

    `meanwhile` is called while another process imports the workload, which takes seconds. They are tried in one of the
    slots; on a GPU they wait for one that no other run uses, by `places`. Raises StudyError or
    WorkloadError where the study cannot work, StoppedError where a stop was requested meanwhile.
    """
    shared = arguments_in_common(checked.signature, trials, own_code=checked.spec.own_code, code=checked.spec.code)
    backend.load(checked.reference, shared, [item.reference for item in checked.spec.code.values()])
    meanwhile()
    started = backend.wait_ready(stop_requested)
    if started is None:
        raise StoppedError("interrupted before anything was created or changed")
    signature = checked.signature
    if started.signature is not None:
        signature = started.signature
        check_signature(checked.spec, signature)
    if checked.spec.own_code:
        # A program, or a function, is tried by running it.
        return ProbedWorkload(backend, signature, messages=started.messages)
    with slot_for_probes(slots, places, stop_requested) as slot:
        tried = _try_trials(backend, replace(checked, signature=signature), trials, slot, stop_requested)
    return ProbedWorkload(backend, signature, tried.checkpoint_bytes, started.messages, _shown(tried.notes))


@contextmanager
def slot_for_probes(slots: Sequence[Slot], places: Places, stop_requested: Callable[[], int]) -> Iterator[Slot]:
    """One of the slots, on a GPU one that no other run uses, which is waited for; raises StoppedError.

    A probe on the CPU takes no core from others: it is short.
    """
    if slots[0].device.device_type == "cpu":
        yield slots[0]
        return
    while True:
        slot = next((slot for slot in slots if places.take(slot)), None)
        places.end_round(jobs_left=slot is None, running=0)
        if slot is not None:
            break
        if stop_requested():
            raise StoppedError("interrupted before anything was created or changed")
        time.sleep(WAIT_SECONDS)
    try:
        yield slot
    finally:
        places.give_back(slot)


def _try_trials(
    backend: Backend,
    checked: CheckedStudy,
    trials: Sequence[PlannedTrial],
    slot: Slot,
    stop_requested: Callable[[], int],
) -> ProbedTrial:
    """Try some of the trials; gives the size of the largest checkpoint, and what was found, each line once."""
    checkpoint_bytes, without_layers, notes = 0, list[Problem](), dict[str, None]()
    tried_trials = trials_to_probe(trials)
    for trial in tried_trials:
        request = trial_request(checked.spec, checked.reference, checked.signature, trial)
        if trial is not tried_trials[0] and isinstance(request, TrialRequest):
            # Compiling takes longer than all else; whether it works, and what it gains, one trial shows.
            request = replace(request, compile=False)
        try:
            tried = backend.probe(request, slot, stop_requested)
        except WorkloadError as error:
            problem = _placed(checked.spec, trial, error)
            if NO_BATCH_NORM not in str(error):
                raise StudyError([problem]) from error
            without_layers.append(problem)
            continue
        if tried is None:
            raise StoppedError("interrupted before anything was created or changed")
        checkpoint_bytes = max(checkpoint_bytes, tried.checkpoint_bytes)
        notes |= dict.fromkeys(tried.notes)
    # The normalization may be a hyperparameter: one model that has it is enough.
    if without_layers and len(without_layers) == len(tried_trials):
        raise StudyError(without_layers[:1])
    return ProbedTrial(checkpoint_bytes, tuple(notes))


def _shown(notes: Sequence[str]) -> tuple[str, ...]:
    """The first notes of probes as they are printed, and how many more there are."""
    left = len(notes) - _MOST_NOTES
    more = [f"note: and {left} more such lines, of other settings"] if left > 0 else []
    return (*(f"note: {line}" for line in notes[:_MOST_NOTES]), *more)


def arguments_in_common(
    signature: FactorySignature,
    trials: Sequence[PlannedTrial],
    *,
    own_code: bool = False,
    code: StudyCode = MappingProxyType({}),
) -> dict[str, Scalar]:
    """The arguments that the factory, or the function of own code, gets with the same value in each of the trials."""
    first = trials[0].hyperparameters if trials else {}
    common = {
        name: value
        for name, value in first.items()
        if all(name in trial.hyperparameters and trial.hyperparameters[name] == value for trial in trials)
    }
    return factory_arguments(signature, common, own_code=own_code, code=code)


def trials_to_probe(trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The trials to try: every setting, and every value that is not a float, is in at least one of them.

    They are at most _MOST_PROBES, and of a range of floats the first value is enough; other failures are found when the
    trials run.
    """
    seen: set[tuple[str, object]] = set()
    chosen: list[PlannedTrial] = []
    for trial in trials:
        features: set[tuple[str, object]] = {("setting", trial.setting)}
        features |= {(name, value) for name, value in trial.hyperparameters.items() if not isinstance(value, float)}
        if features - seen and len(chosen) < _MOST_PROBES:
            chosen.append(trial)
            seen |= features
    return chosen


def _placed(spec: StudySpec, trial: PlannedTrial, error: WorkloadError) -> Problem:
    of_training = _OF_TRAINING.search(str(error))
    if of_training is not None:
        place = tuple(of_training[1].split("."))
        return spec.problem(place, str(error)[of_training.end() :], at_key=len(place) == _OF_SECTION)
    of_code = _OF_CODE.search(str(error))
    named = next((item for item in named_code(spec.hyperparameters) if of_code and item.text == of_code[1]), None)
    message, metric = str(error), "objective.metric" in str(error)
    path: PathKey = ("objective", "metric") if metric else ("workload",)
    if named is not None and of_code is not None:
        path, message = named.path, message[of_code.start(1) :]
    values = ", ".join(
        f"{name} {as_text(value)}"
        for name, value in trial.hyperparameters.items()
        if not isinstance(value, float)
        and (named is None or value != named.text)
        and (len(spec.alternatives(name)) > 1 or any(item.varies for item in spec.alternatives(name)))
    )
    with_values = f" (tried with {values})" if values and not metric else ""
    return spec.problem(path, f"{message}{with_values}")


@dataclass(frozen=True, slots=True)
class ProbedStudy:
    """A checked study whose workload works.

    `checkpoint_bytes` is the size of the largest checkpoint, 0 where that is not known; `time` is how long training
    takes, and `data` what was found in its data, each None for own code.
    """

    checked: CheckedStudy
    checkpoint_bytes: int
    time: TrainingTime | None
    data: DataReport | None = None


def probe_study(
    study: Path, current_folder: Path, backend: Backend, say: Callable[[str], None], *, waits: bool = True
) -> ProbedStudy:
    """Check a study, then build its workload in a child process, try it, time it and look at its data; raises what
    `probe_workload` raises.

    `say` shows a line to the user; with `waits` it waits for a GPU that no other run uses.
    """
    checked = check_study(study, current_folder)
    slots = study_slots(checked.spec, None, backend, chosen=backend.name)
    places = backend.places(checked.spec.resources, slots, say, waits=waits)
    trials = typical_trials(checked.spec)
    with slot_for_probes(slots, places, lambda: 0) as slot:
        probed = probe_workload(backend, checked, trials, (slot,), lambda: 0)
        checked = replace(checked, signature=probed.signature, messages=(*probed.messages, *probed.notes))
        if checked.spec.own_code:
            return ProbedStudy(checked, probed.checkpoint_bytes, None)
        timed = _time(backend, checked, trials, slot)
        data = data_report(backend, checked, trials, slot, now=time.monotonic)
    checked = replace(checked, warnings=(*checked.warnings, *as_warnings(checked.spec, data)))
    return ProbedStudy(checked, probed.checkpoint_bytes, timed, data)


def _time(backend: Backend, checked: CheckedStudy, trials: Sequence[PlannedTrial], slot: Slot) -> TrainingTime:
    """The time of the trials, and of the most that later stages may add."""
    whole = [*trials, *most_promoted(checked.spec, trials)]
    return training_time(backend, checked, whole, slot, now=time.monotonic)
