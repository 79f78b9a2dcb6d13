"""Cores and GPUs that several runs on one machine share: a trial starts when its places are free and it is its turn."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tunectl.core.file_locks import process_in_words
from tunectl.core.parent_death import MARK
from tunectl.core.path_errors import system_reason
from tunectl.core.wording import counted
from tunectl.execution import processes
from tunectl.execution.nvml import GpuUse, read_use
from tunectl.execution.place_locks import PlaceLocks
from tunectl.execution.runtime_folder import runtime_folder
from tunectl.execution.slots import Slot, core_places

if TYPE_CHECKING:
    from tunectl.language.study_spec import ResourcesSection

SAY_EVERY_SECONDS = 60.0
_SAY_FIRST_SECONDS = 2.0  # a wait that ends before is not worth a line
_LOOK_EVERY_SECONDS = 1.0  # between two looks at a GPU that others use
_MOST_LOOKED_AT = 16  # locks whose holders are named


class Places(Protocol):
    """The places in which trials run, as the scheduler sees them."""

    def take(self, slot: Slot, *, alone: bool = False) -> bool:
        """Take the places of a slot for one trial, false where it must wait.

        `alone`: no other run may have trials beside it.
        """
        ...

    def give_back(self, slot: Slot) -> None:
        """Give back the places of a slot, whose trial has ended."""
        ...

    def end_round(self, *, jobs_left: bool, running: int) -> bool:
        """Whether a trial waits for places of others; called after each round of calls of `take`.

        `jobs_left`: whether trials wait for a slot. `running` is the number of trials that run.
        """
        ...

    def has_company(self, slot: Slot) -> bool:
        """Whether others have processes beside the trial that has just ended in this slot."""
        ...

    def say_by(self, say: Callable[[str], None]) -> None:
        """From now on say by `say` why trials wait."""
        ...

    def close(self) -> None:
        """End the sharing: the run has ended."""
        ...


class OwnPlaces:
    """Places that no other run uses."""

    def take(self, slot: Slot, *, alone: bool = False) -> bool:  # noqa: ARG002
        """True."""
        return True

    def give_back(self, slot: Slot) -> None:
        """Do nothing."""

    def end_round(self, *, jobs_left: bool, running: int) -> bool:  # noqa: ARG002
        """False."""
        return False

    def has_company(self, slot: Slot) -> bool:  # noqa: ARG002
        """False."""
        return False

    def say_by(self, say: Callable[[str], None]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


OWN_PLACES = OwnPlaces()


@dataclass(frozen=True, slots=True)
class SharingRules:
    """How a run shares: of `cores`, by name, a trial on the CPU takes `cores_per_trial`; of the memory of a GPU the
    part `min_free_memory` must be free. Without `waits` a trial also starts where others are.
    """

    cores: Sequence[str]
    cores_per_trial: int
    min_free_memory: float
    waits: bool = True


def sharing_rules(resources: ResourcesSection, slots: Sequence[Slot], *, waits: bool) -> SharingRules:
    """The rules of a run with these slots. Slots beyond the cores (`--slots`) have places of their own."""
    each = max(1, resources.threads_per_trial) * resources.devices_per_trial
    cores = core_places()
    needed = len(slots) * each if len(slots) > max(1, len(cores) // each) else 0
    more = tuple(f"beyond-the-cores-{number}" for number in range(needed - len(cores)))
    return SharingRules((*cores, *more), each, resources.min_free_memory, waits)


@dataclass(slots=True)
class SharedPlaces:
    """Takes places by the locks of the runtime folder, in turn with other runs.

    A core is used by one trial at a time. A GPU is used by one run at a time, by `trials_per_device` trials of it: a
    trial beside one of another run could run out of memory because of that one.
    """

    locks: PlaceLocks
    rules: SharingRules
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    gpu_use: Callable[[str], GpuUse] = read_use
    _taken: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _users: Counter[str] = field(default_factory=Counter)
    _gathered: set[str] = field(default_factory=set)
    _beside_others: set[int] = field(default_factory=set)
    _before_us: frozenset[str] | None = None
    _missing: dict[str, None] = field(default_factory=dict)
    _busy: dict[str, tuple[float, str]] = field(default_factory=dict)
    _occupied: dict[str, None] = field(default_factory=dict)
    _waits_since: float | None = None
    _said_at: float | None = None
    _said: set[str] = field(default_factory=set)
    _is_off: bool = False

    def take(self, slot: Slot, *, alone: bool = False) -> bool:
        """Take the places of a slot; see Places."""
        if self._is_off:
            return True
        try:
            names = self._free_places(slot, alone=alone)
            if names is None and self.rules.waits:
                return False
            self.locks.leave_queue()  # the next place is another turn
        except OSError as error:
            self._stop_sharing(error)
            return True
        self._before_us = self._waits_since = None
        (self._beside_others.add if names is None else self._beside_others.discard)(slot.index)
        self._taken[slot.index] = names or ()
        self._users.update(names or ())
        self._gathered.difference_update(names or ())
        return True

    def _free_places(self, slot: Slot, *, alone: bool) -> tuple[str, ...] | None:
        """Locked places for a trial; None where they are not free, or another run has waited longer for them."""
        is_gpu = slot.device.device_type == "cuda"
        names = tuple(slot.device.visible.split(",")) if is_gpu else tuple(self.rules.cores)
        count = len(names) if is_gpu or alone else min(self.rules.cores_per_trial, len(names))
        # All slots on the CPU have the same cores.
        if self._was_occupied(names) if is_gpu else self._missing:
            return None
        # Of several places, those that are free are kept until all are: runs that wait less long leave them alone.
        mine = [name for name in names if name not in self._wanted_before()]
        found = [name for name in mine if is_gpu and self._users[name]]
        for name in mine:
            if len(found) < count and not self._users[name] and self.locks.lock(name):
                self._gathered.add(name)
                found.append(name)
        if len(found) < count:
            # Also those that this run uses now: when it leaves one, it is still its turn.
            self._missing.update(dict.fromkeys(names))
            return None
        if is_gpu and self._is_occupied([name for name in names if not self._users[name]]):
            self._free(self._gathered.intersection(names))
            return None
        return tuple(found)

    def _wanted_before(self) -> frozenset[str]:
        if self._before_us is None:
            self._before_us = self.locks.wanted_before()
            # This run was stopped for a while (SIGSTOP), and has lost its turn.
            self._free(self._gathered & self._before_us)
        return self._before_us

    def _free(self, names: Collection[str]) -> None:
        for name in tuple(names):
            self._gathered.discard(name)
            self.locks.unlock(name)

    def _was_occupied(self, gpus: Sequence[str]) -> bool:
        """Whether one of the GPUs was in use by others at the last look, which was just now."""
        known = [self._busy[name] for name in gpus if name in self._busy]
        recent = [why for looked, why in known if self.clock() - looked < _LOOK_EVERY_SECONDS]
        self._occupied.update(dict.fromkeys(recent))
        return bool(recent)

    def _is_occupied(self, gpus: Sequence[str], *, beside: bool = False) -> bool:
        """Look whether processes of others use one of the GPUs, or too much of its memory; see _use_by_others."""
        for gpu in gpus:
            self._busy.pop(gpu, None)
            if why := self._use_by_others(gpu, beside=beside):
                self._busy[gpu] = (self.clock(), why)
                self._occupied[why] = None
        return any(gpu in self._busy for gpu in gpus)

    def _use_by_others(self, gpu: str, *, beside: bool = False) -> str:
        """What others use of a GPU on which no trial of this run is, "" where that leaves enough.

        `beside`: their processes may be there, if they leave enough memory.
        """
        use = self.gpu_use(gpu)
        if use.free_memory is None:
            self._say_once(f"note: the driver does not say what is used of {gpu}, so it is taken to be free")
        elif use.processes is None:
            self._say_once(f"note: the driver cannot list the processes on {gpu}: its free memory alone decides")
        own = processes.lineage()
        others = [] if beside else [process_in_words(pid) for pid in use.processes or () if pid not in own]
        if others:
            return f"{gpu} is used by {', '.join(others)}"
        if use.free_memory is not None and use.free_memory < self.rules.min_free_memory:
            free, least = (f"{100 * part:.3g} %" for part in (use.free_memory, self.rules.min_free_memory))
            return f"{gpu} has {free} of its memory free, less than min_free_memory ({least})"
        return ""

    def give_back(self, slot: Slot) -> None:
        """Give back the places of a slot."""
        for name in self._taken.pop(slot.index, ()):
            self._users[name] -= 1
            if not self._users[name]:
                self.locks.unlock(name)

    def end_round(self, *, jobs_left: bool, running: int) -> bool:
        """Wait in the queue for the places that were missing, or leave it; see Places."""
        missing, occupied = tuple(self._missing), tuple(self._occupied)
        self._missing.clear()
        self._occupied.clear()
        self._before_us = None
        waits = jobs_left and self.rules.waits and bool(missing or occupied) and not self._is_off
        try:
            if not (waits and missing):
                self._free(self._gathered)
            self.locks.wait_for(missing if waits else ())
        except OSError as error:
            self._stop_sharing(error)
            return False
        if waits:
            self._say_why(missing, occupied, running)
        else:
            self._waits_since = None
        return waits

    def _say_why(self, missing: Sequence[str], occupied: Sequence[str], running: int) -> None:
        """Say why no trial runs, once a minute; while some run, only say once that others use a GPU."""
        now = self.clock()
        self._waits_since = now if self._waits_since is None else self._waits_since
        is_short = now - self._waits_since < _SAY_FIRST_SECONDS
        if is_short or (self._said_at is not None and now - self._said_at < SAY_EVERY_SECONDS):
            return
        if running == 0:
            self._said_at = now
            why = "; ".join([*occupied, *self._holders(missing)])
            self.say(f"waiting: {why}; --no-wait trains there all the same")
        elif occupied:
            self._say_once(f"note: {'; '.join(occupied)}; the trials run elsewhere until it is free")

    def _holders(self, missing: Sequence[str]) -> list[str]:
        """The other runs that use these places, in words."""
        missing = [name for name in missing if name not in self.locks.held]
        if not missing:
            return []
        who = sorted({line for name in missing[:_MOST_LOOKED_AT] for line in self.locks.holders(name)})
        is_cores = set(missing) <= set(self.rules.cores)
        what = counted(len(missing), "core") if is_cores else ", ".join(missing)
        verb = "is" if len(missing) == 1 else "are"
        return [f"{what} {verb} used by {', '.join(who) if who else 'other runs'}"]

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def _stop_sharing(self, error: OSError) -> None:
        self._is_off = True
        self.say(not_shared(f"{self.locks.folder}: {system_reason(error)}"))

    def has_company(self, slot: Slot) -> bool:
        """Whether others have processes beside the trial that has just ended in this slot, or had when it started."""
        if slot.index in self._beside_others:
            return True
        if slot.device.device_type == "cuda":
            return any(self._use_by_others(name) for name in slot.device.visible.split(",") if self._users[name] <= 1)
        try:
            return any(self.locks.is_taken(name) for name in self.rules.cores)
        except OSError:
            return False

    def say_by(self, say: Callable[[str], None]) -> None:
        """Say by `say` why trials wait; see Places."""
        self.say = say

    def close(self) -> None:
        """Close the locks; the place of a trial that cannot be killed is free when that has ended."""
        self.locks.close()


def open_places(
    environ: Mapping[str, str],
    rules: SharingRules,
    say: Callable[[str], None],
    on_open: Callable[[int], None],
) -> Places:
    """The places of a run with this environment; they are its own where it is a trial's, or no folder can be shared.

    `on_open` is called with the descriptor of each lock, of which every process of a trial should have a copy.
    """
    if MARK in environ:
        # The trial that started this run waits for it: the places of that trial are enough.
        return OWN_PLACES
    folder, why = runtime_folder(environ)
    if folder is None:
        say(not_shared(why))
        return OWN_PLACES
    if why:
        say(f"note: the locks for cores and GPUs are in {folder} ({why})")
    return SharedPlaces(PlaceLocks(folder, on_open), rules, say)


def not_shared(why: str) -> str:
    """The note that this run takes no account of others."""
    return f"note: this run does not share cores and GPUs with other runs ({why})"
