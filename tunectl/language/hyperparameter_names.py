"""Which names a hyperparameter may have, and whose they are."""

from __future__ import annotations

from tunectl.core.errors import PathKey
from tunectl.core.parent_death import MARK
from tunectl.core.program_request import variable_of
from tunectl.core.recorded_metrics import RECORD_VARIABLE
from tunectl.core.table_columns import TABLE_COLUMNS
from tunectl.core.wording import shown
from tunectl.language.document import Document
from tunectl.language.placeholders import OWN

TRIAL_VARIABLES = {
    **{variable_of(name): f"{{{name}}}" for name in OWN},
    **dict.fromkeys((MARK, RECORD_VARIABLE), "tunectl itself"),
}
"""The environment variables of a program that are no hyperparameter's, and whose they are."""


def refuse_name(document: Document, name: str, path: PathKey) -> bool:
    """Whether a hyperparameter may not go by this name; the reason is noted in the document."""
    message = None
    if name == "max_train_steps":
        message = (
            "max_train_steps is never a hyperparameter: trials of different lengths cannot be compared; write it "
            "under training"
        )
    elif name in TABLE_COLUMNS:
        message = f"{name} is a column of the trial tables; take another name"
        if name == "seed":
            message = (
                "seed is a column of the trial tables; write training.seed, and a factory gets its seed by asking "
                "for `seed`"
            )
    elif not name.isidentifier():
        message = f"a hyperparameter's name is a Python identifier, found {shown(name)}"
    if message:
        document.report(path, message, at_key=True)
    return message is not None


def is_own_code(document: Document) -> bool:
    """Whether the study's workload is a program or a function, whose hyperparameters are the user's own."""
    return isinstance(document.content, dict) and isinstance(document.content.get("workload"), dict)
