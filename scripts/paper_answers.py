"""What each study in studies/paper/small shows: its figure, its numbers, and whether the paper's observation was seen.

The paper is Gilmer et al. 2021, "A loss curvature perspective on training instability in deep learning". The largest
rate of a setting is the largest one at which most of its seeds train, as they do at every smaller rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from answered_studies import Answer
from curvature_answers import LAMBDA, STEP, curves, is_at_the_line, late_ratio, line_curves, trained
from curvature_trials import MeasuredTrial, median, median_of, span
from rate_sweeps import best_value, largest_rate, series_of, sweep_figure, sweep_table, value

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, Point, PointsFigure

SWING = 1.25
"""From which multiple of the loss at the start a loss counts as unstable."""


def figure_01_left(trials: Sequence[MeasuredTrial]) -> Answer:
    """Rates without and with a warmup, MetaInit and batch normalisation."""
    series = series_of(trials, "method")
    rates = {name: largest_rate(group) for name, group in series.items()}
    helped = {name: rates[name] for name in ("warmup", "metainit", "batch_norm")}
    return Answer(
        sweep_figure("paper-figure-01-left", "The training loss, by method and learning rate", series, "train/loss"),
        sweep_table(series, "method"),
        "a warmup, MetaInit and batch normalisation each allow a larger learning rate than the plain network",
        f"the plain network trains up to {rates['plain']:g}, with {in_words(helped)}",
        all(rate > rates["plain"] for rate in helped.values()),
    )


def figure_02_densenet(trials: Sequence[MeasuredTrial]) -> Answer:
    """λ1 at the start and rates of a DenseNet with and without batch normalisation, without and with a warmup.

    The paper also has the one with batch normalisation diverge at smaller rates without a warmup, which was not
    seen on digits: that without it is dead at small rates already.
    """
    series = series_of(trials, "normalization", "warmup_steps")
    starts = {name: [trial.first("lambda_1") for trial in group] for name, group in series.items()}
    rates = {name: largest_rate(group) for name, group in series.items()}
    # The series are in the order of the values: batch before none, each without the warmup first.
    normalised, normalised_warmed, plain, plain_warmed = rates.values()
    sharpness = {
        name: median(trial.first("lambda_1") for trial in group)
        for name, group in series_of(trials, "normalization").items()
    }
    table = sweep_table(series, "normalization, warmup_steps")
    table = [[*table[0], "λ1 at the start"]] + [[*row, span(starts[row[0]])] for row in table[1:]]
    return Answer(
        sweep_figure("paper-figure-02-densenet", "The training loss, by normalisation and rate", series, "train/loss"),
        table,
        "with batch normalisation the network begins at a larger λ1, a warmup allows it larger learning rates, and it "
        "then trains at rates at which the one without it diverges, with the warmup too",
        f"λ1 at the start is {sharpness['batch']:.3g} with batch normalisation and {sharpness['none']:.3g} without it "
        f"(medians); the largest rates are {in_words(rates)} (normalisation, warmup steps); without a warmup batch "
        f"normalisation trains at {_compared(normalised, plain)}",
        sharpness["batch"] > sharpness["none"] and normalised_warmed > max(normalised, plain_warmed),
    )


def _compared(rate: float, other: float) -> str:
    return "the same rate" if rate == other else f"a {'larger' if rate > other else 'smaller'} one"


def figure_02_resnet(trials: Sequence[MeasuredTrial]) -> Answer:
    """Rates of three residual blocks, without and with a warmup."""
    series = series_of(trials, "block", "warmup_steps")
    rates = {name: largest_rate(group) for name, group in series.items()}
    post, *pre = (largest_rate(group) for group in _without_warmup(trials, "block"))
    return Answer(
        sweep_figure("paper-figure-02-resnet", "The training loss, by block and learning rate", series, "train/loss"),
        sweep_table(series, "block, warmup_steps"),
        "without a warmup the post-activation block trains at a larger learning rate than both pre-activation blocks",
        f"the largest rates are {in_words(rates)} (block, warmup steps)",
        post > max(pre),
    )


def figure_02_transformer(trials: Sequence[MeasuredTrial]) -> Answer:
    """Rates of three placements of layer normalisation, without and with a warmup."""
    series = series_of(trials, "norm_placement", "warmup_steps")
    warm = max(trial.hyperparameters["warmup_steps"] for trial in trials)  # type: ignore[type-var]
    rates = {name: largest_rate(group) for name, group in series.items()}
    title = "The training loss, by placement of layer normalisation and learning rate"
    gains = [rates[f"{placement}, {warm}"] > rates[f"{placement}, 0"] for placement in ("pre", "post")]
    return Answer(
        sweep_figure("paper-figure-02-transformer", title, series, "train/loss"),
        sweep_table(series, "norm_placement, warmup_steps"),
        "with layer normalisation, before each branch or after each sum, a larger learning rate trains than without, "
        "and a warmup allows a still larger one",
        f"the largest rates are {in_words(rates)} (placement, warmup steps)",
        min(rates["pre, 0"], rates["post, 0"]) > rates["none, 0"] and all(gains),
    )


def figure_05_gradinit(trials: Sequence[MeasuredTrial]) -> Answer:
    """λ1 during and after GradInit, and after a warmup with clipping."""
    groups = series_of(trials, "method")
    helped = {name: groups[name] for name in ("warmup_and_clipping", "gradinit")}
    table = [["method", "λ1 before GradInit", "at step 0", "at the end of the warmup", "in the last half", "trained"]]
    for name, group in groups.items():
        middle = [median(trial.values("lambda_1", 0.25, 0.3)) for trial in group]
        late = [median(trial.values("lambda_1", 0.5)) for trial in group if not trial.diverged]
        values = (_before_training(group, 0), [trial.first("lambda_1") for trial in group], middle, late)
        table.append([name, *map(span, values), trained(group)])
    # Of the peak rate: that of a warmup is 0 at the start.
    half = _rate(trials[0]) / 2
    start, end = ([each * half for each in _before_training(helped["gradinit"], place)] for place in (0, -1))
    first = {name: [trial.first("lambda_1") * half for trial in group] for name, group in helped.items()}
    last = {name: median_of(group, late_ratio) for name, group in helped.items()}
    warmed = median(first["warmup_and_clipping"])
    return Answer(
        _gradinit_figure([trial for group in helped.values() for trial in group]),
        table,
        "GradInit's iterations bring λ1 from far above 2/η to below it before training, and a warmup with clipping "
        "during training; both come to 2/η and stay there",
        f"GradInit's iterations begin at a λ1·η/2 of {span(start)} and end at {span(end, 2)}; at the start of training "
        f"it is {span(first['gradinit'], 2)} after them and {warmed:,.0f} without, and in the second half "
        f"{last['gradinit']:.2f} and {last['warmup_and_clipping']:.2f}; with neither "
        f"{trained(groups['plain'])} trained",
        not any(trial.diverged for group in helped.values() for trial in group)
        and min(median(start), warmed) > 10
        and max(median(end), median(first["gradinit"])) < 1
        and all(map(is_at_the_line, last.values())),
    )


def _iterations(trial: MeasuredTrial) -> list[dict[str, float]]:
    """The iterations of the trial's initialisation that measured λ1."""
    return [item for item in trial.initialising if math.isfinite(item["lambda_1"])]


def _before_training(trials: Sequence[MeasuredTrial], place: int) -> list[float]:
    """λ1 at a place among the iterations of the initialisation, of each trial that measured it."""
    return [known[place]["lambda_1"] for known in map(_iterations, trials) if known]


def _gradinit_figure(trials: Sequence[MeasuredTrial]) -> CurvesFigure:
    """λ1 by step, with the iterations of the initialisation before step 0, and the bound, dashed."""
    iterations = [
        Curve(
            [item["step"] - trial.initialising[-1]["step"] for item in _iterations(trial)],
            [item["lambda_1"] for item in _iterations(trial)],
            f"{_method(trial)}, its iterations",
            f"trial {trial.trial}",
            trial.trial,
        )
        for trial in trials
        if trial.initialising
    ]
    return CurvesFigure(
        "paper-figure-05-gradinit",
        "λ1 during and after GradInit, and after a warmup with clipping",
        Axis("step (of GradInit's iterations before 0)"),
        LAMBDA,
        [*curves(trials, _method, "lambda_1"), *iterations, *line_curves(trials, _method)],
        solid_name="λ1",
        dashed_name="2/η",
    )


def _rate(trial: MeasuredTrial) -> float:
    return float(trial.hyperparameters["learning_rate"])  # type: ignore[arg-type]


def _method(trial: MeasuredTrial) -> str:
    return f"method: {trial.hyperparameters['method']}"


def table_1(trials: Sequence[MeasuredTrial]) -> Answer:
    """The best error with two thresholds of clipping, and with GradInit."""
    groups = series_of(trials, "method")
    errors = {name: [value(trial) for trial in group] for name, group in groups.items()}
    tight, loose, gradinit = (median(errors[name]) for name in ("clip_half", "clip_3", "gradinit"))
    closed = (tight - loose) / (tight - gradinit) if tight > gradinit else math.nan
    gap = "no gap" if math.isnan(closed) else f"{closed:.0%} of the gap"
    points = [
        Point(name, None if math.isnan(error) else error, "", f"trial {trial.trial}", trial.trial)
        for name, group in groups.items()
        for trial, error in zip(group, errors[name], strict=True)
    ]
    axis = Axis("method", "category", tuple(groups))
    return Answer(
        PointsFigure("paper-table-1", "The best validation error, by method", axis, Axis("valid/error_rate"), points),
        [["method", "best valid/error_rate", "trained"]]
        + [[name, span(errors[name]), trained(group)] for name, group in groups.items()],
        "a threshold six times as large closes more than half of the gap between clipping and GradInit",
        f"the best errors are {tight:.3g} and {loose:.3g} with the small and the large threshold and {gradinit:.3g} "
        f"with GradInit (medians), {gap}",
        closed > 0.5,
    )


def playbook_figure_04(trials: Sequence[MeasuredTrial]) -> Answer:
    """Rates of two strides in one residual block, without and with a warmup."""
    series = series_of(trials, "stride_of_first_block", "warmup_steps")
    # The series are in the order of the values: stride 1 before 2, each without the warmup first.
    first, first_warmed, second, second_warmed = map(largest_rate, series.values())
    return Answer(
        sweep_figure("playbook-figure-04", "The validation error, by stride and rate", series, "valid/error_rate"),
        sweep_table(series, "stride, warmup_steps"),
        "a stride of 1 in one block lowers the largest learning rate, and a warmup allows larger ones with it and "
        "with a stride of 2",
        f"the largest rates with a stride of 1 and of 2 are {first:g} and {second:g} without a warmup, and "
        f"{first_warmed:g} and {second_warmed:g} with one",
        first < second and first < first_warmed and second < second_warmed,
    )


def playbook_figure_05(trials: Sequence[MeasuredTrial]) -> Answer:
    """The training loss of two models in the first steps, evaluated at each of them and only at both ends."""
    groups = series_of(trials, "normalization")
    completed = [trial for trial in trials if not trial.diverged]
    # Rare evaluations see the values at both ends alone.
    fell = [trial.trial for trial in completed if _relative_losses(trial)[-1] < 1]
    peaks = {name: [max(_relative_losses(trial)) for trial in group] for name, group in groups.items()}
    rose = {name: sum(peak >= SWING for peak in group) for name, group in peaks.items()}
    came_down = sum(max(_relative_losses(trial)) >= SWING and trial.trial in fell for trial in groups["none"])
    figure = CurvesFigure(
        "playbook-figure-05", "The training loss in the first steps", STEP, Axis("train/loss", "log"),
        [_losses(trial) for trial in trials],
    )  # fmt: skip
    table = [["normalization", "largest loss / that at step 0", "last loss / that at step 0", "rose", "trained"]]
    for name, group in groups.items():
        known = [_relative_losses(trial) for trial in group if not trial.diverged]
        table.append([name, span(map(max, known)), span(each[-1] for each in known), str(rose[name]), trained(group)])
    return Answer(
        figure,
        table,
        f"evaluated at every step, the loss of most seeds without batch normalisation rises to {SWING:g} times that at "
        "the start or more and comes down again, and of no seed with it; from evaluations at the start and the end "
        "alone, the loss of all that train only falls",
        f"without batch normalisation the loss rose so high in {rose['none']} of {len(groups['none'])} seeds, and came "
        f"down again in {came_down} of them; with it, it rose so high in {rose['batch']} of {len(groups['batch'])}; "
        f"from the start to the end it fell in {len(fell)} of the {len(completed)} that trained",
        2 * came_down > len(groups["none"]) and rose["batch"] == 0 and len(fell) == len(completed),
    )


def _relative_losses(trial: MeasuredTrial) -> list[float]:
    """The training losses of a trial as multiples of that at the start; one that is not a number is infinite."""
    losses = [item["train/loss"] for item in trial.evaluated]
    return [loss / losses[0] if math.isfinite(loss) else math.inf for loss in losses]


def _losses(trial: MeasuredTrial) -> Curve:
    steps, losses = zip(*((item["step"], item["train/loss"]) for item in trial.evaluated), strict=True)
    name = f"normalization: {trial.hyperparameters['normalization']}"
    return Curve(steps, losses, name, f"trial {trial.trial}", trial.trial)


def table_2_transformer(trials: Sequence[MeasuredTrial]) -> Answer:
    """A Transformer without layer normalisation, after a warmup alone, and with clipping and smaller weights too."""
    series = series_of(trials, "method")
    alone, helped = series["warmup_alone"], series["warmup_clip_quarter_init"]
    completed = [sum(not trial.diverged for trial in group) for group in (alone, helped)]
    return Answer(
        sweep_figure(
            "paper-table-2-transformer", "The training loss, by method and learning rate", series, "train/loss"
        ),
        sweep_table(series, "method"),
        "without layer normalisation a warmup alone trains at no rate; with clipping and a quarter of the initial "
        "weights it trains",
        f"{completed[0]} of {len(alone)} trials trained after a warmup alone, {completed[1]} of {len(helped)} with "
        f"clipping and smaller weights too; the best losses are {best_value(helped):.3g} with these and "
        f"{best_value(series['layer_norm']):.3g} with layer normalisation",
        completed[0] == 0 and completed[1] == len(helped) > 0,
    )


MATCHES = 0.01
"""A warmup matches another method if its error is at most this much larger; said in the study before it was run."""


def table_2_resnet(trials: Sequence[MeasuredTrial]) -> Answer:
    """A residual network without batch normalisation, with a warmup and clipping, or an initialisation."""
    series = series_of(trials, "method")
    errors = {name: best_value(group) for name, group in series.items()}
    warmup = errors["warmup"]
    others = {name: errors[name] for name in ("fixup", "metainit", "gradinit")}
    # Rounded, since error rates are whole numbers of images: 10/300 is 3 images more than 7/300. NaN matches nothing.
    matched = [name for name, error in others.items() if round(warmup - error, 6) <= MATCHES]
    words = ", ".join(
        f"{name} {'trains at none' if math.isnan(error) else f'{error:.3g}'}" for name, error in errors.items()
    )
    return Answer(
        sweep_figure("paper-table-2-resnet", "The validation error, by method and rate", series, "valid/error_rate"),
        sweep_table(series, "method"),
        "a network that trains at no rate by itself trains after a warmup with clipping; at the best rates its error "
        f"is then at most {MATCHES:g} larger than with Fixup, MetaInit and GradInit",
        f"the errors at the best rates (medians) are {words}; a warmup matches {len(matched)} of {len(others)}",
        len(matched) == len(others) and largest_rate(series["plain"]) == 0,
    )


def _without_warmup(trials: Sequence[MeasuredTrial], name: str) -> list[list[MeasuredTrial]]:
    """The trials without a warmup, by a hyperparameter, in the order of its values."""
    return list(series_of([trial for trial in trials if not trial.hyperparameters["warmup_steps"]], name).values())


def in_words(rates: dict[str, float]) -> str:
    """Names with their rates: `warmup 0.4, batch_norm 3.2`."""
    return ", ".join(f"{name} {rate:g}" for name, rate in rates.items())


ANSWERS: dict[str, Callable[[Sequence[MeasuredTrial]], Answer]] = {
    "figure_01_left": figure_01_left,
    "figure_02_densenet": figure_02_densenet,
    "figure_02_resnet": figure_02_resnet,
    "figure_02_transformer": figure_02_transformer,
    "figure_05_gradinit": figure_05_gradinit,
    "playbook_figure_04": playbook_figure_04,
    "playbook_figure_05": playbook_figure_05,
    "table_1": table_1,
    "table_2_resnet": table_2_resnet,
    "table_2_transformer": table_2_transformer,
}
"""What each study shows, by the name of its file in studies/paper/small; that of figure 6 is in batch_answers.py."""
