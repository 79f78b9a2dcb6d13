"""Which hyperparameters of a study regularise."""

from __future__ import annotations

from tunectl.spec.model import Hyperparameter, StudySpec

KNOWN_REGULARISATION = frozenset(
    {"weight_decay", "dropout", "label_smoothing", "augment", "augmentation", "mixup", "cutmix", "noise", "drop_path"}
)
"""Names by which a hyperparameter is known to regularise."""


def regularisers(spec: StudySpec) -> tuple[Hyperparameter, ...]:
    """The hyperparameters known to regularise: by their names, or because the study says at what value they are off."""
    return tuple(item for item in spec.hyperparameters if item.name in KNOWN_REGULARISATION or item.off is not None)
