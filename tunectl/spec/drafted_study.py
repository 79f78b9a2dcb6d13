"""The text of a study of a command: every option is fixed, and what nobody can know is left to be filled in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.spec.document import printable
from tunectl.spec.drafting import MARK, DraftedCommand, escaped
from tunectl.spec.editing import in_flow


@dataclass(frozen=True, slots=True)
class Known:
    """What the user knows of a command that no help tells; None where it is not known.

    `metrics` are lines of `workload.metrics`, found in a sample of the command's output. `folder` is where it runs,
    relative to the study file.
    """

    metric: str | None = None
    direction: str | None = None
    steps: int | None = None
    metrics: tuple[str, ...] = ()
    folder: str = "."


def study_text(
    name: str, line: Sequence[str], environment: Mapping[str, str], draft: DraftedCommand, known: Known, file: str
) -> str:
    """The study of a command; lines that are to be filled in bear MARK."""
    told = printable(shlex.join(line))
    lines = [
        f"# A study of: {told}",
        "# Every option is fixed, at the value it has there or by default: as it stands the study is one training.",
        "# Mark what you ask about as scientific and what is to be optimised as nuisance (some have a proposal), and",
        f"# raise trials. First complete the lines marked FILL IN; then: tunectl check {printable(shlex.quote(file))}",
        f"study: {in_flow(name)}",
        "goal:    # the question that the study answers, in a sentence",
        "workload:",
        "  command:",
        *(f"    {item}" for item in draft.items),
        *_left_out(draft),
        *([f"  folder: {in_flow(known.folder)}"] if known.folder != "." else []),
        *(
            [f"  environment: {in_flow({key: escaped(text) for key, text in environment.items()})}"]
            if environment
            else []
        ),
        *_metrics(known),
        '  # checkpoints: "{trial.dir}/checkpoint-{step}.pt"    # of these files the best and the last are kept',
        '  # infeasible: {exit_codes: [3], patterns: ["out of memory"]}    # ends that are the hyperparameters\' fault',
        "objective:",
        f"  metric: {in_flow(known.metric)}" if known.metric else f"  metric:    {MARK}: the metric to select by",
        f"  direction: {known.direction}" if known.direction else f"  direction:    {MARK}: minimize or maximize",
        "training:",
        *_training(draft, known),
        *_hyperparameters(draft),
        "search: {trials: 1}    # as soon as something is nuisance: some 20, for each scientific setting",
    ]
    return "\n".join(lines) + "\n"


def _left_out(draft: DraftedCommand) -> list[str]:
    if not draft.left:
        return []
    return ["    # Neither in the line nor with a default to pass on, so the command goes without:"] + [
        f"    #   {printable(text)}" for text in draft.left
    ]


def _metrics(known: Known) -> list[str]:
    if known.metrics:
        return ["  metrics:", *(f"    {line}" for line in known.metrics)]
    metric = known.metric or "val_loss"
    word, group = re.sub(r"\W", "_", metric), re.sub(r"\W", "_", metric.replace("/", "__"))
    word, group = (word, group) if group.isidentifier() else ("val_loss", "val_loss")
    return [
        "  metrics:",
        f'    # A line such as "step 100 loss 0.25 {word} 0.31" is read by',
        rf"    #   - regex: 'step (?P<step>\d+) loss (?P<train_loss>\S+) {word} (?P<{group}>\S+)'",
        '    # (__ in a group stands for /). Other places: {json_lines: stdout}, {csv: "{trial.dir}/metrics.csv"} and',
        '    # {tensorboard: "{trial.dir}"}; tunectl.record(step, {"val_loss": 0.31}) in the program needs no entry.',
        f"    - regex:    {MARK}: an expression for the lines in which the command prints its step and its metrics",
    ]


def _training(draft: DraftedCommand, known: Known) -> list[str]:
    option, count = draft.steps or ("", None)
    steps = known.steps if known.steps is not None else count
    unit = f"goes to {option}; " if option else ""
    if steps is None:
        return [f"  max_train_steps:    {MARK}: {unit}the last step that the command prints, as a whole number"]
    return [f"  max_train_steps: {steps}    # {unit}in the unit in which the command prints its steps"]


def _hyperparameters(draft: DraftedCommand) -> list[str]:
    if not draft.entries:
        return [
            f"hyperparameters:    {MARK}: a name with its value, such as {{learning_rate: 0.1}}, placed in the command"
        ]
    width = max(len(f"{name}: {shown}") for name, shown, proposed in draft.entries if len(shown) < 40 or not proposed)
    lines = ["hyperparameters:"]
    for name, shown, proposed in draft.entries:
        entry = f"{name}: {shown}"
        lines.append(f"  {entry:{min(width, 40)}}    # or {proposed}" if proposed else f"  {entry}")
    return lines
