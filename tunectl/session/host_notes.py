"""What a run on this host would refuse of a study that can be run elsewhere: a library, a program, or a device."""

from __future__ import annotations

from tunectl.core.errors import UsageError
from tunectl.execution.backends import BACKENDS
from tunectl.execution.engines import ENGINES, check_engine
from tunectl.language.study_spec import StudySpec


def host_notes(spec: StudySpec) -> list[str]:
    """Lines for what is missing here; [] where a run can begin. An engine is not asked whether it answers."""
    resources = spec.resources
    try:
        BACKENDS[resources.backend]().slots(resources)
        if resources.backend in ENGINES:
            check_engine(resources.backend, resources)
    except UsageError as error:
        return [f"note: `tunectl run` would refuse it on this host: {error}"]
    return []
