"""Which hyperparameters of a study regularise, and at which of its values a part of the pipeline is off."""

from __future__ import annotations

from tunectl.core.records import Scalar
from tunectl.language.name_meaning import is_off, off_value, regularises
from tunectl.language.study_spec import StudySpec
from tunectl.space.domains import same
from tunectl.space.hyperparameters import Hyperparameter


def regularisers(spec: StudySpec) -> tuple[Hyperparameter, ...]:
    """The hyperparameters that regularise: known by name, or because the study gives the value that turns them off."""
    return tuple(item for item in spec.hyperparameters if regularises(item.name) or item.off is not None)


def off_value_of(item: Hyperparameter) -> Scalar | None:
    """The value of a hyperparameter's domain at which what it controls is off; None where that is not known.

    It is the one that the study gives, false of a switch, a word such as none of a set of texts, and 0 where the name
    is that of a regularisation.
    """
    if item.off is not None:
        return item.off if item.domain.contains(item.off) else None
    for value in item.domain.listed or item.domain.numbers:
        is_word = isinstance(value, (bool, str)) and is_off(value)
        off = value if is_word else off_value(item.name, value)
        if off is not None and same(off, value):
            return value
    return None
