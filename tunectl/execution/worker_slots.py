"""The slots of a worker, and which of them a trial may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tunectl.execution.backends.backend import Backend
from tunectl.execution.held_trials import HeldTrial
from tunectl.execution.shared_places import OWN_PLACES, Places
from tunectl.execution.slots import Slot
from tunectl.language.study_spec import ResourcesSection


@dataclass(frozen=True, slots=True)
class WorkerSlots:
    """The slots, their places, which other runs on this host may use, too, and the trials that the worker has."""

    slots: Sequence[Slot]
    places: Places
    held: Mapping[int, HeldTrial]

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
        """Whether a slot has no trial."""
        return len(self.held) < len(self.slots)

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
    count: int | None,
    say: Callable[[str], None],
    *,
    by_engine: bool,
    waits: bool,
) -> tuple[tuple[Slot, ...], Places]:
    """The slots of a worker, at most `count`, and their places; raises UsageError where the devices are not here."""
    if by_engine and resources.devices != "cpu":
        # The indices and UUIDs of the study are those of another host; the engine has chosen the devices here.
        resources = replace(resources, devices="auto")
    slots = backend.slots(resources, count)
    return slots, OWN_PLACES if by_engine else backend.places(resources, slots, say, waits=waits)
