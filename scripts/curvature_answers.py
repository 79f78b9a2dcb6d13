"""What each study in studies/curvature shows: its figure, its numbers, and whether the paper's observation was seen.

The paper is Gilmer et al. 2021, "A loss curvature perspective on training instability in deep learning". λ1 is the
largest eigenvalue of the Hessian, η the learning rate. A ratio is λ1 divided by the eigenvalue above which the
optimizer is unstable, for plain gradient descent 2/η.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from answered_studies import Answer
from curvature_trials import MeasuredTrial, grouped, median, median_of, span

from tunectl.analysis.figures.figures import Axis, Curve, CurvesFigure, MarkedValue, Point, PointsFigure

STEP = Axis("step")
LAMBDA = Axis("λ1", "log")
AT_THE_LINE = (1 / 1.5, 1.5)
"""The ratios that count as at the line: within a factor of 1.5."""
NEARLY = 1.25
"""The factor within which values count as the same."""


def trained(trials: Sequence[MeasuredTrial]) -> str:
    """How many of the trials trained, as text: `5 of 5`."""
    return f"{sum(not trial.diverged for trial in trials)} of {len(trials)}"


def is_at_the_line(ratio: float) -> bool:
    """Whether a ratio is near 1; NaN is not."""
    return AT_THE_LINE[0] <= ratio <= AT_THE_LINE[1]


def late_ratio(trial: MeasuredTrial, start: float = 0.5) -> float:
    """The median ratio of the last part of a trial that trained, NaN of another one."""
    return math.nan if trial.diverged else median(trial.values("ratio", start))


def curves(trials: Sequence[MeasuredTrial], series: Callable[[MeasuredTrial], str], name: str) -> list[Curve]:
    """The metric of each trial by step."""
    return [
        Curve(
            [item["step"] for item in trial.measured],
            [item[name] for item in trial.measured],
            series(trial),
            f"trial {trial.trial}",
            trial.trial,
        )
        for trial in trials
    ]


def line_curves(trials: Sequence[MeasuredTrial], series: Callable[[MeasuredTrial], str]) -> list[Curve]:
    """The bound of the optimizer by step, dashed, of the trial with the most measurements of each series."""
    longest: dict[str, MeasuredTrial] = {}
    for trial in trials:
        known = longest.get(series(trial))
        if known is None or len(trial.measured) > len(known.measured):
            longest[series(trial)] = trial
    return [
        Curve([m["step"] for m in trial.measured], [m["bound"] for m in trial.measured], name, "bound", dashed=True)
        for name, trial in longest.items()
    ]


def init_scale(trials: Sequence[MeasuredTrial]) -> Answer:
    """λ1 at the start over the scale of the initial weights, without and with batch normalisation."""
    table = [["normalization", "init_scale", "λ1 at the start", "λ1·η/2", "trained"]]
    at_start: dict[str, list[float]] = {}
    points = []
    for (normalization, scale), group in grouped(trials, "normalization", "init_scale").items():
        starts = [trial.first("lambda_1") for trial in group]
        at_start.setdefault(normalization, []).append(median(starts))
        ratio = median_of(group, lambda trial: trial.first("ratio"))
        table.append([normalization, f"{scale:g}", span(starts), f"{ratio:.3g}", trained(group)])
        points += [
            Point(float(scale), start, f"normalization: {normalization}", f"trial {trial.trial}", trial.trial)
            for start, trial in zip(starts, group, strict=True)
        ]
    plain, normalised = at_start["none"], at_start["batch"]
    growth, normalised_growth = plain[-1] / plain[0], normalised[-1] / normalised[0]
    scales = [float(trial.hyperparameters["init_scale"]) for trial in trials]
    power = math.log(growth) / math.log(max(scales) / min(scales))
    far = [trial for trial in trials if trial.first("ratio") > 10]
    near = [trial for trial in trials if not trial.first("ratio") > 10]
    figure = PointsFigure(
        "curvature-init-scale", "λ1 at the start, by the scale of the initial weights",
        Axis("init_scale", "log"), LAMBDA, points, [MarkedValue(trials[0].first("bound"), "2/η", "y")],
    )  # fmt: skip
    return Answer(
        figure,
        table,
        "without batch normalisation λ1 at the start grows with a high power of the scale, and what starts far above "
        "2/η diverges; with it λ1 does not grow",
        f"from the smallest scale to the largest λ1 grew {growth:,.0f} times (by the power {power:.1f} of the scale) "
        f"without and {normalised_growth:.2g} times with batch normalisation; of the {len(far)} trials that started "
        f"above 10 times the line {sum(trial.diverged for trial in far)} diverged, of the {len(near)} others "
        f"{sum(trial.diverged for trial in near)}",
        growth > 100 and normalised_growth < 1 and all(t.diverged for t in far) and not any(t.diverged for t in near),
    )


def warmup(trials: Sequence[MeasuredTrial]) -> Answer:
    """λ1 against the line 2/η during and after warmups of several lengths."""
    table = [["warmup_steps", "λ1 at the start", "ratio in the warmup", "ratio after it", "trained"]]
    ramps, after = [], []
    groups = grouped(trials, "warmup_steps")
    for (steps,), group in groups.items():
        # The first third of the warmup is left out: there the rate is still too small for the line to be reached.
        ratios = [
            item["ratio"] for trial in group for item in trial.measured if steps and steps / 3 <= item["step"] <= steps
        ]
        late = [late_ratio(trial) for trial in group]
        ramps.append(median(ratios))
        after.append(median(late))
        starts = span(trial.first("lambda_1") for trial in group)
        table.append([f"{steps}", starts, span(ratios), span(late), trained(group)])

    def series(trial: MeasuredTrial) -> str:
        return f"warmup: {trial.hyperparameters['warmup_steps']}"

    figure = CurvesFigure(
        "curvature-warmup", "λ1 and the line 2/η, by the length of the warmup", STEP, LAMBDA,
        [*curves(trials, series, "lambda_1"), *line_curves(trials, series)], solid_name="λ1", dashed_name="2/η",
    )  # fmt: skip
    without, *warmed = groups.values()
    seen = all(trial.diverged for trial in without) and not any(trial.diverged for group in warmed for trial in group)
    lines = [*ramps[1:], *after[1:]]
    return Answer(
        figure,
        table,
        "without a warmup training diverges; a warmup brings λ1 down to the line 2/η and keeps it there",
        f"without a warmup {trained(without)} trained, with one {trained([t for group in warmed for t in group])}; "
        f"λ1·η/2 was {median(ramps[1:]):.2f} in the last two thirds of the warmups and {median(after[1:]):.2f} in the "
        f"second half of training (medians)",
        seen and all(is_at_the_line(ratio) for ratio in lines),
    )


def rate_decides(trials: Sequence[MeasuredTrial]) -> Answer:
    """λ1 at the end over initial scales and learning rates."""
    table = [
        ["learning_rate", "init_scale", "λ1 at the start", "λ1 at the end", "ratio", "gradient quotient", "trained"]
    ]
    starts, factors, ratios, quotient_factors = [], [], [], []
    for (rate,), same_rate in grouped(trials, "learning_rate").items():
        ends, quotients = [], []
        for (scale,), group in grouped(same_rate, "init_scale").items():
            finished = [trial for trial in group if not trial.diverged]
            end = [trial.measured[-1] for trial in finished]
            first, ratio = [trial.first("lambda_1") for trial in group], median(item["ratio"] for item in end)
            quotient = median(item["gradient_quotient"] for item in end)
            row = [f"{rate:g}", f"{scale:g}", span(first), span(item["lambda_1"] for item in end)]
            table.append([*row, f"{ratio:.2f}", f"{quotient:.3g}", trained(group)])
            starts.append(median(first))
            ends.append(median(item["lambda_1"] for item in end))
            ratios.append(ratio)
            quotients.append(quotient)
        factors.append(max(ends) / min(ends))
        quotient_factors.append(max(quotients) / min(quotients))

    def series(trial: MeasuredTrial) -> str:
        return f"learning rate: {trial.hyperparameters['learning_rate']:g}"

    figure = CurvesFigure(
        "curvature-rate-decides", "λ1 from initial scales 0.5 to 1.5, by learning rate",
        STEP, LAMBDA, [*curves(trials, series, "lambda_1"), *line_curves(trials, series)],
        solid_name="λ1", dashed_name="2/η",
    )  # fmt: skip
    return Answer(
        figure,
        table,
        "λ1 at the end depends on the learning rate, as 2/η, and no longer on the initial weights",
        f"λ1 at the start differed {max(starts) / min(starts):.3g} times between the initial scales, at the end at "
        f"most {max(factors):.2f} times at one rate; λ1·η/2 at the end was {min(ratios):.2f} to {max(ratios):.2f} at "
        f"all rates and scales; the gradient quotient, which figure 5 shows, still differed "
        f"{min(quotient_factors):.2f} to {max(quotient_factors):.3g} times at one rate",
        max(factors) < 1.5 and all(is_at_the_line(ratio) for ratio in ratios),
    )


def batch_size(trials: Sequence[MeasuredTrial]) -> Answer:
    """λ1·η/2 in the second half of training over batch sizes."""
    table = [["batch_size", "λ1·η/2, second half", "trained"]]
    points, middles = [], []
    for (size,), group in grouped(trials, "batch_size").items():
        late = [late_ratio(trial) for trial in group]
        table.append([f"{size}", span(late), trained(group)])
        middles.append(median(late))
        points += [
            Point(float(size), None if math.isnan(ratio) else ratio, "", f"trial {trial.trial}", trial.trial)
            for ratio, trial in zip(late, group, strict=True)
        ]
    figure = PointsFigure(
        "curvature-batch-size", "λ1·η/2 in the second half of training, by batch size",
        Axis("batch size", "log"), Axis("λ1·η/2"), points, [MarkedValue(1.0, "λ1 = 2/η", "y")],
    )  # fmt: skip
    rises = all(larger >= smaller for smaller, larger in pairwise(middles))
    return Answer(
        figure,
        table,
        "λ1·η/2 grows with the batch size and comes near 1 with all examples",
        f"it was {middles[0]:.2f} with the smallest batch and {middles[-1]:.2f} with all examples, "
        f"{'rising' if rises else 'but not rising'} from each size to the next (medians of five seeds)",
        rises and middles[0] < 0.75 * middles[-1] and is_at_the_line(middles[-1]),
    )


def adam(trials: Sequence[MeasuredTrial]) -> Answer:
    """The preconditioned λ1 against Adam's line."""
    table = [["learning_rate", "warmup_steps", "highest ratio", "ratio, last quarter", "paper's (40/η)", "trained"]]
    middles = []
    for (rate, steps), group in grouped(trials, "learning_rate", "warmup_steps").items():
        late = [late_ratio(trial, 0.75) for trial in group]
        highest = [max(trial.values("ratio"), default=math.nan) for trial in group]
        paper = median(value for trial in group if not trial.diverged for value in trial.values("paper_ratio", 0.75))
        table.append([f"{rate:g}", f"{steps}", span(highest), span(late), f"{paper:.2f}", trained(group)])
        middles.append(median(late))

    def series(trial: MeasuredTrial) -> str:
        return f"learning rate: {trial.hyperparameters['learning_rate']:g}"

    figure = CurvesFigure(
        "curvature-adam", "The preconditioned λ1 under Adam, and its line 38/η", STEP, Axis("preconditioned λ1", "log"),
        [*curves(trials, series, "preconditioned_lambda_1"), *line_curves(trials, series)],
        solid_name="preconditioned λ1", dashed_name="38/η",
    )  # fmt: skip
    return Answer(
        figure,
        table,
        "under Adam the preconditioned λ1 settles at 38/η, whatever the rate and the warmup",
        f"in the last quarter of training it was {min(middles):.2f} to {max(middles):.2f} of 38/η (medians of the "
        f"settings)",
        all(1 / NEARLY <= ratio <= NEARLY for ratio in middles),
    )


def momentum(trials: Sequence[MeasuredTrial]) -> Answer:
    """λ1 against the bounds of heavy-ball and Nesterov momentum, and against 2/η."""
    table = [["optimizer", "momentum", "learning_rate", "λ1, last quarter", "/ own bound", "/ (2/η)", "trained"]]
    own, plain = [], []
    for (optimizer, beta, rate), group in grouped(trials, "optimizer", "momentum", "learning_rate").items():
        late = [late_ratio(trial, 0.75) for trial in group]
        finished = [trial for trial in group if not trial.diverged]
        eigenvalues = [median(trial.values("lambda_1", 0.75)) for trial in finished]
        own.append(median(late))
        plain.append(median(eigenvalues) * rate / 2)
        row = [optimizer, "–" if beta is None else f"{beta:g}", f"{rate:.3g}", span(eigenvalues)]
        table.append([*row, span(late), f"{plain[-1]:.2f}", trained(group)])

    def series(trial: MeasuredTrial) -> str:
        beta = trial.hyperparameters.get("momentum")
        return f"{trial.hyperparameters['optimizer']}{'' if beta is None else f' {beta:g}'}"

    bound = median(trial.measured[-1]["bound"] for trial in trials if trial.measured)
    figure = CurvesFigure(
        "curvature-momentum", "λ1 under momentum, at rates with the same bound", STEP, Axis("λ1"),
        curves(trials, series, "lambda_1"), [MarkedValue(bound, "the optimizers' bounds", "y")],
    )  # fmt: skip
    return Answer(
        figure,
        table,
        "λ1 settles at the optimizer's own bound, 2(1+β)/η and 2(1+β)/((1+2β)η), not at 2/η",
        f"in the last quarter of training λ1 was {min(own):.2f} to {max(own):.2f} of the own bound and "
        f"{min(plain):.2f} to {max(plain):.2f} of 2/η (medians of the settings)",
        all(1 / NEARLY <= ratio <= NEARLY for ratio in own),
    )


def leaves_stable_region(trials: Sequence[MeasuredTrial]) -> Answer:
    """Trials that start below the line and diverge."""
    heading = ["learning_rate", "warmup_steps", "trial", "start", "crosses at", "ends at", "last ratio", "trained"]
    table = [heading]
    for group in grouped(trials, "learning_rate", "warmup_steps").values():
        table += [_run(trial) for trial in group]

    def series(trial: MeasuredTrial) -> str:
        return f"learning rate: {trial.hyperparameters['learning_rate']:g}"

    at_once = [trial for trial in trials if not trial.hyperparameters["warmup_steps"]]
    figure = CurvesFigure(
        "curvature-leaves-stable-region", "λ1·η/2: below the line at the start, above it before training diverges",
        STEP, Axis("λ1·η/2", "log"), curves(at_once, series, "ratio"), [MarkedValue(1.0, "λ1 = 2/η", "y")],
    )  # fmt: skip
    below = [trial for trial in at_once if trial.diverged and trial.first("ratio") < 1 and crossing(trial) is not None]
    highest = max((trial.first("ratio") for trial in below), default=math.nan)
    leads = [trial.last_step - (crossing(trial) or 0) for trial in below]
    warmed = [trial for trial in trials if trial.hyperparameters["warmup_steps"]]
    slow = [trial for trial in at_once if trial not in below]
    return Answer(
        figure,
        table,
        "a run starts below 2/η, leaves the stable region as λ1 grows, and diverges",
        f"{len(below)} trials started at {highest:.2f} of the line or below, crossed it, and diverged within "
        f"{max(leads, default=0):g} updates; of the others {trained(slow)} trained without a warmup and "
        f"{trained(warmed)} at the higher rate after one",
        len(below) > 0,
    )


def _run(trial: MeasuredTrial) -> list[str]:
    """A trial's row: where it starts, crosses the line and ends."""
    rate, steps = trial.hyperparameters["learning_rate"], trial.hyperparameters["warmup_steps"]
    start, crossed = trial.first("lambda_1") * rate / 2, crossing(trial)
    last = trial.values("ratio")[-1:] if trial.diverged else [late_ratio(trial)]
    row = [f"{rate:g}", f"{steps}", f"{trial.trial}", f"{start:.2f}", "–" if crossed is None else f"{crossed:g}"]
    return [*row, f"{trial.last_step}", span(last), "no" if trial.diverged else "yes"]


def crossing(trial: MeasuredTrial) -> float | None:
    """The first measured step at which the ratio is above 1; None where it never is."""
    return next((item["step"] for item in trial.measured if item["ratio"] > 1), None)


ANSWERS: dict[str, Callable[[Sequence[MeasuredTrial]], Answer]] = {
    "init_scale": init_scale,
    "warmup": warmup,
    "rate_decides": rate_decides,
    "batch_size": batch_size,
    "adam": adam,
    "momentum": momentum,
    "leaves_stable_region": leaves_stable_region,
}
"""What each study shows, by the name of its file in studies/curvature."""
