"""The text of a command's study: options in the line are fixed, others are offered, unknown values are marked."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tunectl.core.own_code_request import RESUME
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import escaped_braces, printable
from tunectl.drafting.command_draft import MARK, DraftedCommand, Entry
from tunectl.drafting.config_values import ConfigFile
from tunectl.language.placeholders import DIR
from tunectl.language.study_edit import in_flow

_MOST_LISTED = 12


@dataclass(frozen=True, slots=True)
class StudyDetails:
    """What a study needs beside the command and its help; None for what is not known.

    `metrics` are lines of `workload.metrics`, made from a sample of the command's output, and `names` the metrics that
    they give, if `metric` is not among them. `folder` is where the command runs, relative to the study file. `files`
    are its configuration files, and `shown` the defaults that its help shows only together with this line.
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
    name: str,
    draft: DraftedCommand,
    details: StudyDetails,
    *,
    line: Sequence[str],
    environment: Mapping[str, str],
    file: str,
) -> str:
    """The study of a command; lines for the user to fill in are marked with MARK."""
    lines = [
        f"# A study of: {printable(shlex.join(line))}",
        *_head(draft, details, file),
        f"study: {in_flow(name)}",
        "goal:    # the question that the study answers, in one sentence",
        "workload:",
        "  command:",
        *(f"    {item}" for item in draft.items),
        *_left_out(draft),
        *([f"  folder: {in_flow(details.folder)}"] if details.folder != "." else []),
        *(
            [f"  environment: {in_flow({key: escaped_braces(text) for key, text in environment.items()})}"]
            if environment
            else []
        ),
        *_metrics(details),
        '  # checkpoints: "{trial.dir}/checkpoint-{step}.pt"    # tunectl keeps the best and the last of these files',
        *_own_resume(draft),
        '  # infeasible: {exit_codes: [3], patterns: ["out of memory"]}    # failures caused by the hyperparameters',
        "objective:",
        _metric(details),
        f"  direction: {details.direction}" if details.direction else f"  direction:    {MARK}: minimize or maximize",
        "training:",
        *_training(draft, details),
        *_hyperparameters(draft),
        "search: {trials: 1}    # with nuisance hyperparameters: about 20, for each scientific setting",
    ]
    return "\n".join(lines) + "\n"


def _own_resume(draft: DraftedCommand) -> list[str]:
    """How a program without a resume option goes on, if it looks for checkpoints in its folder."""
    own, resume = f"{{{DIR}}}", f"{{{RESUME}}}"
    writes = any(own in text for text in draft.items if not text.startswith("#"))
    if not writes or any(resume in text for text in [*draft.items, *draft.not_offered]):
        return []
    return [
        f"  # If the program resumes from checkpoints that it finds in its folder, {own}, add this beside checkpoints;",
        "  # without it, a trial that was stopped starts again in an empty folder:",
        f'  # environment: {{GOES_ON_FROM: "{resume}"}}',
    ]


def _head(draft: DraftedCommand, details: StudyDetails, file: str) -> Iterator[str]:
    text = (
        "The options in the line are fixed, so this study trains once. Change the role of hyperparameters: scientific "
        "for the question, nuisance for what is tuned (some have a proposal), and raise trials. "
    )
    if draft.offered:
        text += (
            "For all other options the program's own defaults are used; to study one, uncomment its entry under "
            "hyperparameters and its line under command (or call init with --place NAME). "
        )
    text += f"First complete the lines marked FILL IN; then: {printable(tunectl_command('check', file))}"
    yield from _comment(text)
    for config in details.files:
        yield from _comment(_says(config))
    listed = {_plain(name) for config in details.files for name in config.values}
    others = {name: value for name, value in details.shown.items() if _plain(name) not in listed}
    if others:
        yield from _comment(f"According to the help, this line also sets {_listed(others)}.")
    if details.files:
        yield from _comment(
            "The program reads these files itself. Options under command override them; so do the seed, the folder "
            "and the number of steps of each trial."
        )


def _says(config: ConfigFile) -> str:
    name = printable(config.name)
    read = " (read by default)" if config.by_default else ""
    if not config.values:
        return f"{name}{read} sets options that init cannot read, so their values are missing here."
    rest = "" if config.whole else "; it may set more that init cannot read"
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
    if not draft.not_offered:
        return []
    return ["    # Not in the line, and without a value that init could offer:"] + [
        f"    #   {printable(text)}" for text in draft.not_offered
    ]


def _metrics(details: StudyDetails) -> list[str]:
    if details.metrics:
        return ["  metrics:", *(f"    {line}" for line in details.metrics)]
    metric = details.metric or "val_loss"
    word, group = re.sub(r"\W", "_", metric), re.sub(r"\W", "_", metric.replace("/", "__"))
    word, group = (word, group) if group.isidentifier() else ("val_loss", "val_loss")
    return [
        "  metrics:",
        f'    # To read lines such as "step 100 loss 0.25 {word} 0.31":',
        rf"    #   - regex: 'step (?P<step>\d+) loss (?P<train_loss>\S+) {word} (?P<{group}>\S+)'",
        '    # (__ in a group means /). Other sources: {json_lines: stdout}, {csv: "{trial.dir}/metrics.csv"} and',
        '    # {tensorboard: "{trial.dir}"}; or call tunectl.record(step, {"val_loss": 0.31}) in the program.',
        f"    - regex:    {MARK}: a regular expression for the lines with a step and metrics in the output",
    ]


def _metric(details: StudyDetails) -> str:
    if details.metric and not details.names:
        return f"  metric: {in_flow(details.metric)}"
    among = f" (found in the sample: {printable(', '.join(details.names))})" if details.names else ""
    return f"  metric:    {MARK}: the metric to select by{among}"


def _training(draft: DraftedCommand, details: StudyDetails) -> list[str]:
    option, count = draft.steps or ("", None)
    steps = details.steps if details.steps is not None else count
    unit = f"passed to {option}; " if option else ""
    if steps is None:
        return [f"  max_train_steps:    {MARK}: {unit}the last step that the command prints, a whole number"]
    return [f"  max_train_steps: {steps}    # {unit}in the unit of the steps that the command prints"]


def _hyperparameters(draft: DraftedCommand) -> list[str]:
    if draft.entries:
        lines = ["hyperparameters:", *_aligned(draft.entries, "  ")]
    elif draft.offered:
        lines = [f"hyperparameters:    {MARK}: uncomment at least one, here and under command"]
    else:
        return [
            f"hyperparameters:    {MARK}: names and values, such as {{learning_rate: 0.1}}, and placeholders in command"
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
