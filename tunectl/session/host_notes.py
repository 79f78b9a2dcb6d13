"""What a run on this host would refuse of a study that can be run elsewhere, or would not use."""

from __future__ import annotations

from tunectl.core.errors import UsageError
from tunectl.execution.backends import BACKENDS
from tunectl.execution.engines import ENGINES, check_engine
from tunectl.language.study_spec import StudySpec


def host_notes(spec: StudySpec) -> list[str]:
    """Lines for a library, program or device that is missing here, and for sections of other engines.

    No engine is asked whether it answers.
    """
    resources = spec.resources
    unused = [
        f"note: resources.{name} is used only with backend: {name}; write that, or give --backend {name}"
        for name in ENGINES
        if name != resources.backend and getattr(resources, name) != type(getattr(resources, name))()
    ]
    try:
        BACKENDS[resources.backend]().slots(resources)
        if resources.backend in ENGINES:
            check_engine(resources.backend, resources)
    except UsageError as error:
        return [f"note: `tunectl run` would refuse it on this host: {error}", *unused]
    return unused
