"""The text of a study of a command: the line's options fixed, others offered, what is not known to be filled in."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tunectl.core.own_code_request import RESUME
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import printable
from tunectl.drafting.command_draft import MARK, DraftedCommand, Entry
from tunectl.drafting.config_values import ConfigFile
from tunectl.drafting.own_options import escaped
from tunectl.language.placeholders import DIR
from tunectl.language.study_edit import in_flow

_MOST_LISTED = 12


@dataclass(frozen=True, slots=True)
class Known:
    """What the user knows of a command that no help tells; None where it is not known.

    `metrics` are lines of `workload.metrics`, found in a sample of the command's output, and `names` those that they
    give, where `metric` is not among them. `folder` is where it runs,
    relative to the study file. `files` are those that it reads its options from, and `shown` the defaults that its help
    shows with this line and not without it.
    """

    metric: str | None = None
    direction: str | None = None
    steps: int | None = None
    metrics: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    folder: str = "."
    files: tuple[ConfigFile, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)


def study_text(
    name: str, line: Sequence[str], environment: Mapping[str, str], draft: DraftedCommand, known: Known, file: str
) -> str:
    """The study of a command; lines that are to be filled in bear MARK."""
    told = printable(shlex.join(line))
    lines = [
        f"# A study of: {told}",
        *_head(draft, known, file),
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
        *_own_resume(draft),
        '  # infeasible: {exit_codes: [3], patterns: ["out of memory"]}    # ends that are the hyperparameters\' fault',
        "objective:",
        _metric(known),
        f"  direction: {known.direction}" if known.direction else f"  direction:    {MARK}: minimize or maximize",
        "training:",
        *_training(draft, known),
        *_hyperparameters(draft),
        "search: {trials: 1}    # as soon as something is nuisance: some 20, for each scientific setting",
    ]
    return "\n".join(lines) + "\n"


def _own_resume(draft: DraftedCommand) -> list[str]:
    """How a program goes on that by itself looks into its folder, where it has no option for that."""
    own, resume = f"{{{DIR}}}", f"{{{RESUME}}}"
    writes = any(own in text for text in draft.items if not text.startswith("#"))
    if not writes or any(resume in text for text in [*draft.items, *draft.left]):
        return []
    return [
        f"  # A program that by itself goes on from what is in its folder, {own}, needs this beside checkpoints;",
        "  # else a trial that was stopped begins anew, in an empty folder:",
        f'  # environment: {{GOES_ON_FROM: "{resume}"}}',
    ]


def _head(draft: DraftedCommand, known: Known, file: str) -> Iterator[str]:
    text = (
        "The options in the line are fixed at their values: as it is, the study is one training. Mark what you ask "
        "about as scientific and what is to be optimised as nuisance (some have a proposal), and raise trials. "
    )
    if draft.offered:
        text += (
            "Every other option keeps the value that the program gives it; to study one, uncomment its entry under "
            "hyperparameters and its line under command (or name it to init: --place NAME). "
        )
    text += f"First complete the lines marked FILL IN; then: {printable(tunectl_command('check', file))}"
    yield from _comment(text)
    for config in known.files:
        yield from _comment(_says(config))
    listed = {_plain(name) for config in known.files for name in config.values}
    others = {name: value for name, value in known.shown.items() if _plain(name) not in listed}
    if others:
        yield from _comment(f"By its help, this line also sets {_listed(others)}.")
    if known.files:
        yield from _comment(
            "The program reads its files itself. What is placed under command wins over them: so do the trial's own "
            "seed, folder and length."
        )


def _says(config: ConfigFile) -> str:
    name = printable(config.name)
    read = " (read by default)" if config.by_default else ""
    if not config.values:
        return f"{name}{read} sets options that init cannot read: their values are not known here."
    rest = "" if config.whole else "; it may set more than could be read"
    return f"From {name}{read}: {_listed(config.values)}{rest}."


def _listed(values: Mapping[str, str | None]) -> str:
    shown = [f"{name.lstrip('-')}: {'(a list)' if value is None else value}" for name, value in values.items()]
    more = f", and {len(shown) - _MOST_LISTED} more" if len(shown) > _MOST_LISTED else ""
    return printable(", ".join(shown[:_MOST_LISTED])) + more


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 118, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _left_out(draft: DraftedCommand) -> list[str]:
    if not draft.left:
        return []
    return ["    # Not in the line, and without a value that could be offered here:"] + [
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


def _metric(known: Known) -> str:
    if known.metric and not known.names:
        return f"  metric: {in_flow(known.metric)}"
    among = f" (the sample has {printable(', '.join(known.names))})" if known.names else ""
    return f"  metric:    {MARK}: the metric to select by{among}"


def _training(draft: DraftedCommand, known: Known) -> list[str]:
    option, count = draft.steps or ("", None)
    steps = known.steps if known.steps is not None else count
    unit = f"goes to {option}; " if option else ""
    if steps is None:
        return [f"  max_train_steps:    {MARK}: {unit}the last step that the command prints, as a whole number"]
    return [f"  max_train_steps: {steps}    # {unit}in the unit in which the command prints its steps"]


def _hyperparameters(draft: DraftedCommand) -> list[str]:
    if draft.entries:
        lines = ["hyperparameters:", *_aligned(draft.entries, "  ")]
    elif draft.offered:
        lines = [f"hyperparameters:    {MARK}: uncomment at least one, here and under command"]
    else:
        return [
            f"hyperparameters:    {MARK}: a name with its value, such as {{learning_rate: 0.1}}, placed in the command"
        ]
    if draft.offered:
        lines.append("  # Not in the line; to study one, uncomment it here and under command:")
        lines += _aligned(draft.offered, "  # ")
    return lines


def _aligned(entries: Sequence[Entry], before: str) -> Iterator[str]:
    texts = [f"{entry.name}: {entry.value}" if entry.value is not None else f"{entry.name}:" for entry in entries]
    shown = [(text, _remark(entry)) for text, entry in zip(texts, entries, strict=True)]
    width = max((len(text) for text, remark in shown if remark and len(text) < 40), default=0)
    for text, remark in shown:
        yield f"{before}{text:{width}}    # {remark}" if remark else f"{before}{text}"


def _remark(entry: Entry) -> str:
    if entry.value is None:
        return f"{MARK.removeprefix('# ')}: its value"
    source = f"from {printable(entry.source)}" if entry.source else ""
    proposed = f"or {entry.proposed}" if entry.proposed else ""
    return "; ".join(text for text in (source, proposed) if text)
