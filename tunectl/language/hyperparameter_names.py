"""Which names a hyperparameter may have, and what the others are used for."""

from __future__ import annotations

from tunectl.core.errors import PathKey
from tunectl.core.own_code_request import variable_of
from tunectl.core.parent_death import MARK
from tunectl.core.recorded_metrics import RECORD_VARIABLE
from tunectl.core.table_columns import RESERVED_NAMES
from tunectl.core.wording import shown
from tunectl.language.document import Document
from tunectl.language.placeholders import OWN

TRIAL_VARIABLES = {
    **{variable_of(name): f"{{{name}}}" for name in OWN},
    **dict.fromkeys((MARK, RECORD_VARIABLE), "tunectl itself"),
}
"""The environment variables of a program that do not belong to a hyperparameter, and what they belong to."""


def refuse_name(document: Document, name: str, path: PathKey) -> bool:
    """Whether a hyperparameter may not have this name; the reason is noted in the document."""
    message = None
    if name == "max_train_steps":
        message = (
            "max_train_steps is never a hyperparameter: trials of different lengths cannot be compared; write it "
            "under training"
        )
    elif name in RESERVED_NAMES:
        message = f"{name} is a column of the trial tables; take another name"
        if name == "seed":
            message = (
                "seed is a column of the trial tables; write training.seed, and a factory with the keyword `seed` gets "
                "the trial's seed"
            )
    elif not name.isidentifier():
        message = f"expected a Python identifier as a name, got {shown(name)}"
    if message:
        document.report(path, message, at_key=True)
    return message is not None


def is_own_code(document: Document) -> bool:
    """Whether the workload is a command or a function, whose hyperparameters the user's code defines."""
    return isinstance(document.content, dict) and isinstance(document.content.get("workload"), dict)
