"""Places that workers of engines share knowingly: parts of a GPU, or cores that an engine has given.

How many others are there is not known to a worker, and need not be: no trial waits for the end of another one. Only a
trial that must be alone waits until those of all other workers of this user have ended there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunectl.core.parent_death import MARK
from tunectl.execution.place_locks import PlaceLocks
from tunectl.execution.runtime_folder import runtime_folder
from tunectl.execution.shared_places import OwnPlaces, Places, SharedPlaces, SharingRules, not_shared
from tunectl.execution.slots import Slot

MEMORY = "the memory of this host"
"""The one place of all trials on the CPU that workers of engines train here: their cores are the engine's affair."""


@dataclass(slots=True)
class DividedPlaces(SharedPlaces):
    """Takes places beside others, by a lock that all share, or alone: then nothing starts there until it has ended."""

    def _free_places(self, slot: Slot, *, alone: bool) -> tuple[str, ...] | None:
        is_gpu = slot.device.device_type == "cuda"
        names = tuple(slot.device.visible.split(",")) if is_gpu else (MEMORY,)
        if is_gpu and self._was_occupied(names):
            return None
        new = [name for name in names if not self._users[name]]
        before = self._wanted_before()
        for name in new:
            if name in before or not self.locks.lock(name, shared=not alone):
                self._missing.update(dict.fromkeys(names))
                self._free(self._gathered)
                return None
            self._gathered.add(name)
        if is_gpu and self._is_occupied(new, beside=not alone):
            self._free(self._gathered)
            return None
        return names

    def has_company(self, slot: Slot) -> bool:  # noqa: ARG002
        """True: who else uses the memory, a worker cannot find out."""
        return True


class UnknownPlaces(OwnPlaces):
    """Places about whose other users nothing can be found out: trials start at once, and may have had company."""

    def has_company(self, slot: Slot) -> bool:  # noqa: ARG002
        """True."""
        return True


def open_divided(
    environ: Mapping[str, str], rules: SharingRules, say: Callable[[str], None], on_open: Callable[[int], None]
) -> Places:
    """The places of a worker to which an engine has given a part of what is here; see shared_places.open_places."""
    folder, why = (None, "") if MARK in environ else runtime_folder(environ)
    if folder is None:
        if why:
            say(not_shared(why))
        return UnknownPlaces()
    return DividedPlaces(PlaceLocks(folder, on_open), rules, say)
