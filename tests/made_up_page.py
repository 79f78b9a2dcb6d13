"""A page of a study that never was: every kind of figure, names that try to break it, values that are not numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from tunectl.analysis.figures.figures import (
    Axis,
    Bar,
    BarsFigure,
    Box,
    BoxesFigure,
    Curve,
    CurvesFigure,
    Figure,
    HistogramFigure,
    MarkedValue,
    MatrixFigure,
    Point,
    PointsFigure,
    ShadedFigure,
    ShadedPoint,
    Tile,
)
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.core.table_columns import Cell, Column, ColumnType
from tunectl.report.page_model import PageTable, Section, StudyPage, TrialDetail
from tunectl.report.table import Table

NASTY = "</script><img src=x onerror=alert(1)>"
QUOTES = "a'b\"c[d].e\\f{{g}} ${h} `i` \u2028 <!-- é 漢字 🙂"
LONG = "a_very_long_name_that_goes_on_" * 8
OPTIMIZERS = ("nesterov", "adam")
ERROR = Axis("best valid/error_rate (lower is better)")
LOSS = Axis("loss (nats)", "log")
STEP = Axis("step")


def error_rate(trial: int) -> tuple[float, float | None]:
    rate = 10 ** -(0.8 + 3 * random.Random(trial).random())
    error = 0.02 + 0.02 * (math.log10(rate) + 2.3) ** 2 + 0.01 * random.Random(trial + 7000).random()
    return rate, None if rate > 0.06 else error


def points_on(
    axis: Axis, values: Callable[[int], float | str], name: str, title: str, trials: Iterable[int]
) -> PointsFigure:
    points = [
        Point(values(trial), error_rate(trial)[1], OPTIMIZERS[trial % 2], f"trial {trial}", trial) for trial in trials
    ]
    return PointsFigure(name, title, axis, ERROR, points, legend="optimizer")


def axis_section(trials: Sequence[int]) -> Section:
    names = ["relu", "tanh", "gelu", NASTY, QUOTES]
    figures = [
        points_on(Axis("learning rate", "log"), lambda t: error_rate(t)[0], "axis-rate", "Error against rate", trials),
        points_on(
            Axis("momentum", "one_minus_log"),
            lambda t: 1 - 10 ** -(0.7 + 2.3 * random.Random(t + 99).random()),
            "axis-momentum",
            "Error against momentum",
            trials,
        ),
        points_on(
            Axis("activation", "category", names), lambda t: names[t % 5], "axis-activation", "Activations", trials
        ),
        points_on(Axis(QUOTES), lambda t: float(t), "axis-nasty", NASTY, trials),
        points_on(Axis(LONG), lambda t: float(t % 7), "axis-long", f"Long: {LONG}", trials),
    ]
    return Section("Hyperparameter axes", "Each point is a trial; a cross is an infeasible one.", figures)


def curve(trial: int, steps: Sequence[int], split: str) -> list[float]:
    rng = random.Random(f"{trial} {split}")
    speed = 1 + 4 * rng.random()
    floor = 0.05 if split == "train" else 0.1
    return [floor + 2.3 * math.exp(-speed * step / steps[-1]) + 0.02 * rng.random() for step in steps]


def curves_section(trials: Sequence[int], evaluations: int) -> Section:
    steps = [20 * place for place in range(evaluations)]
    best = list(trials)[:4]
    front = [
        Curve(steps, curve(trial, steps, split), f"trial {trial}", f"trial {trial}, {split}", trial, False, dashed)
        for trial in best
        for split, dashed in (("valid", False), ("train", True))
    ]
    behind = [
        Curve(steps, curve(trial, steps, "valid"), "others", f"trial {trial}", trial, True)
        for trial in trials
        if trial not in best
    ]
    broken = [Curve([0, 1, 2, 3, 4], [1.0, math.nan, 3.0, math.inf, 2.0], NASTY, QUOTES, 0)]
    figures: list[Figure] = [
        CurvesFigure("curves", "Training curves", STEP, LOSS, [*front, *behind], [MarkedValue(200, "warmup ends")]),
        CurvesFigure("curves-broken", "Curves with gaps", STEP, Axis("loss"), broken, legend=NASTY),
    ]
    return Section("Training curves", "", figures)


def budget_section(most: int) -> Section:
    def box(k: int, series: str, worse: int) -> Box:
        middle = 0.02 + 0.1 / (k + worse)
        return Box(k, 0.8 * middle, 0.9 * middle, middle, 1.15 * middle, 1.4 * middle, series)

    boxes = [box(k, series, worse) for k in range(1, most) for worse, series in enumerate(OPTIMIZERS)]
    endless = [Box("one", 0.1, 0.2, 0.3, math.inf, math.inf), Box(NASTY, 0.1, 0.2, 0.3, 0.4, math.nan)]
    figures: list[Figure] = [
        BoxesFigure("budget", "Best of k trials", Axis("k (trials)"), ERROR, boxes, legend="optimizer"),
        BoxesFigure("budget-endless", "Boxes that do not end", Axis("k", "category"), ERROR, endless),
        HistogramFigure("norms", "Gradient norms", Axis("norm", "log"), [10 ** (n / 90) for n in range(-99, 99)]),
    ]
    budget = Table((Column("k", "whole"), Column("expected best", "real")), [(1, 0.1), (2, math.inf), (4, math.nan)])
    return Section("Was the budget enough?", "", figures, [PageTable("Best of k", budget)])


def sensitivity_section(trials: Sequence[int]) -> Section:
    names = ["learning_rate", NASTY, LONG]
    bars = [
        Bar(name, 40.0 / (place + 1), 10.0, 60.0, series, name)
        for place, name in enumerate(names)
        for series in OPTIMIZERS
    ]
    tiles = [
        Tile(one, two, None if one is two else 0.4, "40%", QUOTES, framed=place == 1)
        for place, one in enumerate(names)
        for two in names[place:]
    ]
    category, error = Axis("", "category", names), Axis("error", searched=(0.05, 0.4))
    rate = Axis("learning rate", "log")
    pair = [
        ShadedPoint(error_rate(trial)[0], names[trial % 3], error_rate(trial)[1], f"trial {trial}", trial)
        for trial in trials
    ]
    figures: list[Figure] = [
        BarsFigure("sensitivity", "What explains it", Axis("% of the variance"), category, bars, "optimizer", [NASTY]),
        MatrixFigure("sensitivity-pairs", "Which pairs interact", category, category, tiles, Axis("share"), [QUOTES]),
        ShadedFigure("pair", "A pair", rate, category, pair, error, ["dark: good"]),
    ]
    return Section("Sensitivity", "", figures)


def trials_section(trials: Sequence[int]) -> Section:
    columns: list[tuple[str, ColumnType]] = [
        *(("trial", "whole"), ("state", "text"), ("learning_rate", "scalar"), ("momentum", "real"), ("seed", "whole")),
        *(("best_step", "whole"), ("best_value", "real"), ("valid/loss", "real"), (NASTY, "scalar"), (LONG, "text")),
    ]
    rows: list[tuple[Cell, ...]] = []
    for trial in trials:
        rate, error = error_rate(trial)
        odd_cells: list[Cell] = [NASTY, 3, True]
        odd = [math.nan, math.inf, None, 0.25][trial % 4]
        values = (rate, 1 - 10**-2.5, 2**63 + trial, None if error is None else 100 * (trial % 9), error, odd)
        rows.append((trial, "infeasible" if error is None else "completed", *values, odd_cells[trial % 3], LONG))
    table = Table(tuple(Column(name, kind) for name, kind in columns), rows)
    return Section("Trials", "Click a heading to sort.", (), [PageTable("All trials", table, True)])


def details(trials: Sequence[int], evaluations: int, metrics: Sequence[str]) -> Iterator[TrialDetail]:
    steps = [20 * place for place in range(evaluations)]
    for trial in trials:
        rate, error = error_rate(trial)
        curves = {name: (steps, curve(trial, steps, name.split("/")[0])) for name in metrics}
        if trial == 0:
            curves[f"{NASTY}/{QUOTES}"] = ([0, 10, 20], [1.0, math.nan, math.inf])
        yield TrialDetail(
            trial,
            "infeasible" if error is None else "completed",
            "nan_loss" if error is None else "",
            NASTY if trial == 0 else "",
            {"learning_rate": rate, "optimizer": OPTIMIZERS[trial % 2], "nesterov": True, NASTY: QUOTES},
            [("best value", "infeasible" if error is None else f"{error:.4f}"), ("device", "cuda:0")],
            curves,
            f"step 0\n{NASTY}\n{QUOTES}\n" if trial < 3 else "",
        )


FINDINGS = (
    Finding(
        "search-boundary",
        "warning",
        "The best trials of setting 1 crowd the upper end of learning_rate, so better values may lie beyond it.",
        "Move the range up and run the study again.",
        (1,),
        ("learning_rate[optimizer=adam]",),
        (3, 1, 5),
        {"best_inside": 0.9, "good_trials": 6, "end": "upper", "odd": math.nan},
        "p = 0.003, 6 of 6 good trials in the upper fifth",
        "tunectl next runs/made-up",
        (
            Change(("hyperparameters", "learning_rate", 1, "range"), [0.001, 1.0], "best trials at the upper end"),
            Change(("search", "trials"), 40, "twice as many"),
        ),
    ),
    Finding(NASTY, "warning", f"A sentence with {NASTY} and {QUOTES}", QUOTES, (), (NASTY,), (0,), {NASTY: QUOTES}),
    Finding("fixed-caveat", "note", "The conclusions hold for batch_size 64 alone.", "Nothing to do.", sureness="sure"),
)


def made_up_page(
    number: int = 12, evaluations: int = 30, metrics: Sequence[str] = ("valid/loss", "train/loss", "valid/error_rate")
) -> StudyPage:
    """A page of `number` trials, each with `evaluations` evaluations of each of the metrics."""
    trials = range(number)
    sections = [
        axis_section(trials),
        curves_section(trials, evaluations),
        budget_section(max(3, number // 2)),
        sensitivity_section(trials),
        Section("Nothing here", "A section without plots or tables."),
        trials_section(trials),
    ]
    return StudyPage(
        f"made-up {NASTY}",
        f"Which optimizer reaches the lower error? {QUOTES}",
        [("trials", f"{number}"), ("objective", "valid/error_rate, minimize"), (NASTY, LONG)],
        FINDINGS,
        sections,
        list(details(trials, evaluations, metrics)),
        "2024-05-01 12:00 UTC",
        "Shown are 12 of 5,000 trials." if number < 100 else "",
    )


def empty_page() -> StudyPage:
    """The page of a study in which nothing has run."""
    nothing = Table((Column("trial", "whole"), Column("state", "text")), [])
    sections = [
        Section("Axes", "", [PointsFigure("none", "No trials", Axis("x"), Axis("y"), [])]),
        Section("Trials", "", (), [PageTable("All trials", nothing, True)]),
    ]
    return StudyPage("empty", "", [], [], sections, [])
