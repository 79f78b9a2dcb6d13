"""The offered trials that a worker tries to claim next."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from itertools import islice
from random import Random

from tunectl.core.folders import StudyFolder
from tunectl.store.offered_trials import offered_folder, offered_trials

_MOST = 16
"""Among how many first offers a worker chooses at the most: where many workers took the very first at the same time,
all but one would come too late. It begins with the first one, doubles the number where it came too late, and lowers it
by one where it did not: so trials start nearly in their order."""

_LISTED_FOR_SECONDS = 10.0
"""How long a list is used: listing 10,000 trials takes longer than claiming one."""

_LIST_EVERY_SECONDS = 1.0


class OfferQueue:
    """The offers in the order of their numbers, or, with `reverse`, from the last one on. The list may be some seconds
    old: an offer in it may have been claimed.

    `random` chooses among the first ones, `clock` gives seconds.
    """

    def __init__(self, study: StudyFolder, random: Random, clock: Callable[[], float]) -> None:
        self._study, self._random, self._clock = study, random, clock
        self._left: list[int] = []
        self._listed: float | None = None
        self._among = 1

    def has_any(self, *, reverse: bool = False) -> bool:
        """Whether any offer is known now; raises FolderError where the offers cannot be listed."""
        now = self._clock()
        age = None if self._listed is None else now - self._listed
        if age is None or age >= (_LISTED_FOR_SECONDS if self._left else _LIST_EVERY_SECONDS):
            # The next ones are at the end, where a list is shortened at once.
            self._left = offered_trials(self._study)
            if not reverse:
                self._left.reverse()
            self._listed = now
        return bool(self._left)

    def next(self, *, without: Collection[int] = ()) -> int | None:
        """An offered trial, which is then not in the list any more; None where none is left of it.

        `without` are trials that this worker still has.
        """
        while True:
            others = (index for index in range(len(self._left) - 1, -1, -1) if self._left[index] not in without)
            first = list(islice(others, self._among))
            if not first:
                return None
            chosen = self._left.pop(self._random.choice(first))
            # A look is cheaper than a claim that comes too late. It decides nothing: the claim does.
            if os.path.lexists(offered_folder(self._study, chosen).path):
                return chosen
            self.came_late()

    def claimed(self) -> None:
        """The trial that `next` gave was claimed."""
        self._among = max(1, self._among - 1)

    def came_late(self) -> None:
        """The trial that `next` gave was claimed by another worker before."""
        self._among = min(_MOST, 2 * self._among)

    def list_again(self) -> None:
        """List the offers anew at the next look."""
        self._listed = None
