"""What `check --probe` says of the data of a workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DataFinding:
    """Something about the data: `check` is which of the checks found it, `split` where, and in `count` examples,
    classes or features.

    A `doubt` is printed as a warning; anything else is worth knowing, and often harmless.
    """

    check: str
    split: str
    message: str
    count: int = 0
    doubt: bool = True


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was found, and by split how many examples were looked at, of how many."""

    looked_at: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    findings: tuple[DataFinding, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DataReport:
        """The report of an object; raises KeyError, TypeError or ValueError where it is none."""
        looked_at = {name: (int(part), int(whole)) for name, (part, whole) in content["looked_at"].items()}
        findings = tuple(DataFinding(**item) for item in content["findings"])
        return cls(looked_at, findings, float(content["seconds"]))

    @property
    def is_partial(self) -> bool:
        """Whether some examples were not looked at."""
        return any(part < whole for part, whole in self.looked_at.values())
