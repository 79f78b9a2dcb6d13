"""Which hyperparameters of a study regularise."""

from __future__ import annotations

from tunectl.language.name_meaning import regularises
from tunectl.language.study_spec import StudySpec
from tunectl.space.hyperparameters import Hyperparameter


def regularisers(spec: StudySpec) -> tuple[Hyperparameter, ...]:
    """The hyperparameters that regularise: known by name, or because the study gives the value that turns them off."""
    return tuple(item for item in spec.hyperparameters if regularises(item.name) or item.off is not None)
