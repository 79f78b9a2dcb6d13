"""tunectl: hyperparameter studies as the Deep Learning Tuning Playbook says they should be run."""

# Nothing is imported here: under `python -m tunectl` the current folder, which may not be yours, comes first.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tunectl.api.running import run
    from tunectl.api.study import Study, open_study
    from tunectl.core.errors import Infeasible, TunectlError
    from tunectl.core.recorded_metrics import record
    from tunectl.training.evaluated_trial import EvaluatedTrial
    from tunectl.workloads.workload import Workload

__version__ = "0.1.0"
__all__ = [
    "EvaluatedTrial",
    "Infeasible",
    "Study",
    "TunectlError",
    "Workload",
    "__version__",
    "open_study",
    "record",
    "run",
]

_HOMES = {
    "EvaluatedTrial": "tunectl.training.evaluated_trial",
    "Infeasible": "tunectl.core.errors",
    "Study": "tunectl.api.study",
    "TunectlError": "tunectl.core.errors",
    "Workload": "tunectl.workloads.workload",
    "open_study": "tunectl.api.study",
    "record": "tunectl.core.recorded_metrics",
    "run": "tunectl.api.running",
}


def __getattr__(name: str) -> "Any":
    # Lazy, so that `import tunectl` costs nothing and loads no torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'tunectl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
