"""What the page of a study shows, as plain data: made by `study_page`, laid out by `page`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tunectl.analysis.comparison.study_answer import StudyAnswer
from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.findings.findings import Finding
from tunectl.core.example_predictions import KeptValue
from tunectl.core.records import Scalar
from tunectl.report.table import Table


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table of the page with its caption. Where `of_trials`, the first column is the id of the row's trial.

    `constants` are names and values that are the same in all rows, and no columns. The columns of the names in `hidden`
    are shown when they are chosen. `sorted_by` is the column by which the rows are sorted, and whether upwards.
    """

    caption: str
    table: Table
    of_trials: bool = False
    constants: Sequence[tuple[str, str]] = ()
    hidden: Collection[str] = ()
    sorted_by: tuple[str, bool] | None = None


@dataclass(frozen=True, slots=True)
class ShownStep:
    """The predictions of a trial after `step` updates: the values by name of each of its examples, in their order, and
    whether each was predicted right, None where that cannot be said.
    """

    step: int
    values: Sequence[Mapping[str, KeptValue]]
    right: Sequence[bool | None]


@dataclass(frozen=True, slots=True)
class ShownPredictions:
    """The predictions of a trial: its examples' places in the split, what of them does not change, and the steps.

    `label` names the trial and its setting, `selected` is the step of its selected checkpoint.
    """

    trial: int
    label: str
    selected: int | None
    examples: Sequence[int]
    constant: Sequence[Mapping[str, KeptValue]]
    steps: Sequence[ShownStep]


@dataclass(frozen=True, slots=True)
class ShownFile:
    """A file of a trial: its name, its path in the study folder, its size in bytes, and a picture as a data URL; ""
    where it is none.
    """

    name: str
    place: str
    size: int
    picture: str = ""


@dataclass(frozen=True, slots=True)
class ShownStepFiles:
    """What a trial wrote at the evaluation after `step` updates; `left_out` is the number of further files."""

    step: int
    files: Sequence[ShownFile]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class ShownFiles:
    """What a trial wrote at its evaluations; `label` and `selected` as in ShownPredictions."""

    trial: int
    label: str
    selected: int | None
    steps: Sequence[ShownStepFiles]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its heading, a sentence or two on how to read it, its plots and its tables.

    `predictions` and `files` are those of some trials, the best first, which one looks at by trial and step.
    """

    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[PageTable] = ()
    predictions: Sequence[ShownPredictions] = ()
    files: Sequence[ShownFiles] = ()


@dataclass(frozen=True, slots=True)
class TrialDetail:
    """What a trial opens to. `curves` are (steps, values) by metric, thinned where there were many.

    `varying` are the names of the hyperparameters that differ between trials, `called` is the program's call, "" where
    no program of the user's was called.
    """

    trial: int
    state: str
    reason: str = ""
    message: str = ""
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    log_tail: str = ""
    varying: Sequence[str] = ()
    called: str = ""


@dataclass(frozen=True, slots=True)
class NamedAnswer:
    """The answer of one of several studies: `goal` is its question, `first` its trial 0's number on the page."""

    name: str
    goal: str
    answer: StudyAnswer
    first: int


@dataclass(frozen=True, slots=True)
class StudyPage:
    """The page of a study. `facts` are names and values under the title; `thinned` says what was left out, if so.

    `made_at` is the time as it is to be shown; `trials` are those that open, which may be fewer than there are. The
    page of a campaign has another `subject`, and another `command` that draws its plots as files. `answer` is None
    where the page has no question to answer, and `answers` are those of several studies. `verdict` and `advice` are
    those of a procedure, which has no findings. `trial_commands` are the commands about a trial, each as its text
    before and after the trial's number, by the number that trial 0 of the study has on the page: 0, but of several
    studies each has its own. There, `trial_names` are those of the trials by their numbers on the page.
    """

    title: str
    goal: str
    facts: Sequence[tuple[str, str]]
    findings: Sequence[Finding]
    sections: Sequence[Section]
    trials: Sequence[TrialDetail]
    made_at: str = ""
    thinned: str = ""
    subject: str = "study"
    command: str = "tunectl report"
    answer: StudyAnswer | None = None
    answers: Sequence[NamedAnswer] = ()
    verdict: str = ""
    advice: str = ""
    trial_commands: Mapping[int, Sequence[tuple[str, str]]] = field(default_factory=dict)
    trial_names: Mapping[int, str] = field(default_factory=dict)
