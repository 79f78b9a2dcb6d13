"""The files beside the weights of a last training: the model card, and the Python file that loads the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunectl.core.records import Scalar
from tunectl.core.table_columns import Column
from tunectl.core.wording import as_text
from tunectl.report.markdown import markdown_bytes
from tunectl.report.table import Table

LOADER = '''\
"""Loads the model in this folder: `from load_model import load_model`; see MODEL_CARD.md.

`python load_model.py SPLIT` prints the metrics of a split of its workload, as `valid` or `test`.
"""

import sys
from pathlib import Path

from tunectl.core.errors import WorkloadError
from tunectl.training.final_model import load_final

FOLDER = Path(__file__).resolve().parent


def load_model(device="cpu"):
    """The model in evaluation mode, built by the factory of its workload, with the weights of model.pt."""
    return load_final(FOLDER, device).model


def evaluate(split, device="cpu"):
    """The metrics of a split of the workload, as tunectl measures them."""
    return load_final(FOLDER, device).evaluate(split)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python load_model.py SPLIT")
    try:
        metrics = evaluate(sys.argv[1])
    except WorkloadError as error:
        sys.exit(str(error))
    for name, value in metrics.items():
        print(f"{name} {value!r}")
'''
"""The text of load_model.py."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a model that was trained last.

    `title` names the study and the trial. `facts` are lines on how it was trained, `splits` the number of examples of
    each split, `trained_on` that of the training set. `test` has the metrics of `test`, {} where it was not evaluated.
    `caveats` are sentences, `command` is how it was made, and `versions` are those of the libraries.
    """

    title: str
    goal: str
    workload: str
    hyperparameters: Mapping[str, Scalar]
    facts: Sequence[str]
    splits: Mapping[str, int]
    trained_on: int
    test: Mapping[str, float]
    caveats: Sequence[str]
    command: str = ""
    provenance: Sequence[str] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)


def card_text(card: ModelCard) -> str:
    """The model card as Markdown."""
    parts = [f"# {card.title}", ""]
    if card.goal:
        parts += [card.goal, ""]
    parts += ["## Data", "", *_data(card), "", "## Training", "", *_list(card.facts), ""]
    parts += _table(("hyperparameter", "value"), {name: as_text(value) for name, value in card.hyperparameters.items()})
    parts += ["## Metrics", "", *_metrics(card), "## Caveats", "", *_list(card.caveats), ""]
    parts += ["## Use", "", *_use(card), "## Provenance", "", *_list(card.provenance), ""]
    known = {name: version for name, version in card.versions.items() if version}
    parts += _table(("package", "version"), known)
    return "\n".join(parts).rstrip() + "\n"


def _data(card: ModelCard) -> list[str]:
    sizes = ", ".join(f"`{name}` {size:,}" for name, size in card.splits.items())
    return [
        f"The splits of the workload `{card.workload}` have these numbers of examples: {sizes}.",
        f"The model was trained on `train` and `valid` together: {card.trained_on:,} examples.",
    ]


def _metrics(card: ModelCard) -> list[str]:
    if not card.test:
        return ["`test` was not evaluated: the workload has no such split.", ""]
    return _table(("metric", "value"), card.test)


def _use(card: ModelCard) -> list[str]:
    lines = [
        "```python",
        "from load_model import load_model",
        "",
        "model = load_model()  # in evaluation mode; model.pt is a plain state_dict for torch.load",
        "```",
        "",
    ]
    if card.test:
        lines += ["`python load_model.py test` prints the metrics above again.", ""]
    return lines + (["The model was made by:", "", "```", card.command, "```", ""] if card.command else [])


def _list(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _table(header: tuple[str, str], rows: Mapping[str, Any]) -> list[str]:
    if not rows:
        return []
    columns = tuple(Column(name, "scalar") for name in header)
    return [markdown_bytes(Table(columns, [tuple(row) for row in rows.items()])).decode()]
