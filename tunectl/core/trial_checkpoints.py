"""The record of checkpoints that a trial of a finished study has kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrialCheckpoints:
    """Checkpoints of a trial of a finished study: the absolute path of its folder, and what it kept.

    `trial` is its id. `files` are the names of the checkpoints, each with the last bytes of the file, which have the
    checksum of its content.
    """

    folder: str
    trial: int
    files: Mapping[str, str]
