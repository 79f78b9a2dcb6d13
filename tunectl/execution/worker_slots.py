"""The slots of a worker, and which of them a trial may have."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tunectl.core.errors import UsageError
from tunectl.execution.backends.backend import Backend
from tunectl.execution.divided_places import open_divided
from tunectl.execution.held_trials import HeldTrial
from tunectl.execution.shared_places import Places, sharing_rules
from tunectl.execution.slots import Slot
from tunectl.execution.worker_options import WorkerOptions
from tunectl.language.study_spec import ResourcesSection


@dataclass(frozen=True, slots=True)
class WorkerSlots:
    """The slots, their places, which other runs on this host may use, too, and the trials that the worker has.

    It has at most `most` trials at a time.
    """

    slots: Sequence[Slot]
    places: Places
    held: Mapping[int, HeldTrial]
    most: int

    def take_free(self) -> Slot | None:
        """Take the places of a free slot, on the emptiest device; None where there is none, or others use them."""
        taken = {held.slot.index for held in self.held.values()}
        free = [
            (len(self.beside(slot)), slot.index, slot)
            for slot in self.slots
            if slot.index not in taken and not any(held.is_alone for held in self.beside(slot))
        ]
        return next((slot for _, _, slot in sorted(free, key=lambda item: item[:2]) if self.places.take(slot)), None)

    def has_free(self) -> bool:
        """Whether the worker may have another trial."""
        return len(self.held) < self.most

    def take_alone(self, waiting: HeldTrial) -> bool:
        """Give a trial that must run alone the places of a device on which no other trial runs; false: it waits."""
        if waiting.has_places:
            self.places.give_back(waiting.slot)
            waiting.has_places = False
        for slot in self.slots:
            if not any(other is not waiting for other in self.beside(slot)) and self.places.take(slot, alone=True):
                waiting.slot, waiting.has_places = slot, True
                return True
        return False

    def give_back(self, held: HeldTrial) -> None:
        """Give back the places of a trial that has ended."""
        if held.has_places:
            self.places.give_back(held.slot)
            held.has_places = False

    def beside(self, slot: Slot) -> list[HeldTrial]:
        """The trials on the device of this slot."""
        return [held for held in self.held.values() if held.slot.device == slot.device]


def chosen_slots(
    backend: Backend,
    resources: ResourcesSection,
    options: WorkerOptions,
    say: Callable[[str], None],
    held: Mapping[int, HeldTrial],
) -> WorkerSlots:
    """The slots of a worker and their places; raises UsageError where the devices are not here.

    What is not known to be the worker's own is shared with others: its GPUs by locks, as between runs on one machine,
    and also where there are more of them than it may use at a time; cores that an engine has given, and parts of a GPU,
    without waiting for others.
    """
    by_engine = bool(options.name.engine)
    if by_engine and resources.devices != "cpu":
        # The indices and UUIDs of the study are those of another host; the engine has chosen the devices here.
        resources = replace(resources, devices="auto")
        _check_gpus_are_enough(backend, resources, options)
    slots = backend.slots(resources, options.slots)
    most, waits = len(slots), options.waits
    if slots[0].device.device_type == "cuda":
        every = backend.slots(resources)
        if _is_part(options.gpus) or not _are_own(every, options.gpus):
            slots = every
        else:
            waits = False  # no one else was given them; that a stranger is there all the same is seen at a trial's end
    if by_engine and (_is_part(options.gpus) or slots[0].device.device_type == "cpu"):
        rules = sharing_rules(resources, slots, waits=waits)
        return WorkerSlots(slots, open_divided(os.environ, rules, say, backend.hold), held, most)
    return WorkerSlots(slots, backend.places(resources, slots, say, waits=waits), held, most)


def _check_gpus_are_enough(backend: Backend, resources: ResourcesSection, options: WorkerOptions) -> None:
    """Raise UsageError where an engine counted places for trials by the cores, and the GPUs here have fewer."""
    if options.name.engine != "slurm" or options.slots is None:
        return
    places = backend.slots(resources)
    if places[0].device.device_type == "cuda" and options.slots > len(places):
        cores = len(places) * resources.devices_per_trial * max(1, resources.threads_per_trial)
        raise UsageError(
            f"{socket.gethostname()}: this job of Slurm has CPUs for {options.slots} trials at a time, and the GPUs "
            f"that it sees have places for {len(places)}; write `devices: cpu` under resources to train on the CPUs, "
            "or to train on GPUs resources.slurm.gpus_per_node; where Slurm has no GPUs as resources (no gres), "
            f"resources.slurm.cpus_per_task: {cores}"
        )


def _is_part(gpus: float | None) -> bool:
    return gpus is not None and gpus < 1


def _are_own(slots: Sequence[Slot], gpus: float | None) -> bool:
    """Whether the GPUs that are seen here are those that were given to the worker alone."""
    seen = {name for slot in slots for name in slot.device.visible.split(",")}
    return gpus is not None and len(seen) <= gpus
