"""The plots of sensitivity: what each hyperparameter explains, the pairs, and the trials over two of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from tunectl.analysis.figures.figures import (
    Axis,
    Bar,
    BarsFigure,
    Figure,
    MatrixFigure,
    ShadedFigure,
    ShadedPoint,
    Tile,
    slug,
)
from tunectl.analysis.figures.shown_trials import (
    MOST_AXIS_TRIALS,
    MOST_SERIES,
    chosen_runs,
    series_names,
    setting_colours,
    trial_label,
)
from tunectl.analysis.figures.study_axes import hyperparameter_axis, hyperparameter_place, shaded_value, value_colours
from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.search.effect_model import Effect
from tunectl.analysis.search.interactions import interactions
from tunectl.analysis.search.sensitivity import Sensitivity, sensitivities, share_words, trials_words

MOST_BARS = 48
"""With more bars only those of all settings together are drawn."""

MOST_PAIRS = 4
"""At most this many pairs get a plot of their trials: the surest ones."""

_TIMES = " × "
_TOGETHER = "all together"
_SHARE = Axis("% of the variance")
_TITLES = {
    "objective": "What explains the objective among feasible trials",
    "feasibility": "What makes trials infeasible",
}


def sensitivity_figures(evidence: StudyEvidence) -> list[Figure]:
    """Bars for each response, and a matrix of pairs, in all settings together or in the only one; and pairs' trials."""
    found = [each for each in sensitivities(evidence) if each.model.effects]
    figures: list[Figure] = []
    for asked, title in _TITLES.items():
        own = [each for each in found if each.response.asked == asked]
        if own:
            figures.append(_bars(evidence, own, f"sensitivity-{asked}", title))
    objective = [each for each in found if each.response.asked == "objective" and each.model.pairs]
    together = [each for each in objective if each.response.setting is None] or objective[:1]
    figures += [_matrix(evidence, each) for each in together]
    return [*figures, *_pair_figures(evidence)]


def _bars(evidence: StudyEvidence, own: Sequence[Sensitivity], name: str, title: str) -> BarsFigure:
    together = [each for each in own if each.response.setting is None]
    drawn = own if len(own) <= MOST_SERIES and sum(len(each.model.effects) for each in own) <= MOST_BARS else together
    drawn = [*together, *(each for each in drawn or own[:1] if each not in together)]
    bars = [bar for each in drawn for bar in _bars_of(evidence, each, several=len(drawn) > 1)]
    best = {bar.y: bar.value for bar in reversed(bars)}
    # The largest is at the top, pairs below the hyperparameters.
    names = sorted(best, key=lambda key: (_TIMES not in key, best[key]))
    notes = ["line: 90% interval", *(["pale: no effect seen"] if any(bar.faint for bar in bars) else [])]
    if len(drawn) == 1:
        notes.append(f"by {trials_words(evidence, drawn[0].response)}")
    legend = "setting" if len(drawn) > 1 else ""
    colours = [*setting_colours(series_names(evidence)), _TOGETHER] if legend else []
    return BarsFigure(name, title, _SHARE, Axis("", "category", names), bars, legend, notes, colours)


def _bars_of(evidence: StudyEvidence, each: Sensitivity, *, several: bool) -> list[Bar]:
    setting = each.response.setting
    series = "" if not several else _TOGETHER if setting is None else evidence.setting_name(setting)
    pairs = {_TIMES.join(pair): effect for pair, effect in each.pairs.items() if effect.found}
    shown = [(each.responding, False), (each.silent, True), (pairs, False)]
    return [
        Bar(name, 100 * effect.share, 100 * effect.low, 100 * effect.high, series, name, faint)
        for effects, faint in shown
        for name, effect in effects.items()
    ]


def _matrix(evidence: StudyEvidence, each: Sensitivity) -> MatrixFigure:
    """Each pair below the diagonal, what each explains in all on it."""
    names = [*each.responding, *each.silent]
    alone = {**each.responding, **each.silent}
    pairs = {frozenset(pair): effect for pair, effect in each.pairs.items()}
    tiles = [_tile(key, key, key, own) for key, own in alone.items()]
    for one, two in combinations(names, 2):
        tiles += [_tile(one, two, f"{one} and {two}", pairs.get(frozenset((one, two))))]
    return MatrixFigure(
        "sensitivity-pairs",
        "Which pairs interact",
        Axis("", "category", names),
        Axis("", "category", names[::-1]),
        tiles,
        Axis("part of the variance"),
        [
            "on the diagonal what each explains; below it what a pair explains beyond both; framed: they interact",
            f"by {trials_words(evidence, each.response)}",
        ],
    )


def _tile(one: str, two: str, name: str, effect: Effect | None) -> Tile:
    if effect is None:
        return Tile(one, two, None, "?", f"{name}: these trials cannot show it")
    framed = effect.found and one != two
    return Tile(one, two, effect.share, f"{effect.share:.0%}", f"{name}: {share_words(effect)}", framed)


def _pair_figures(evidence: StudyEvidence) -> list[ShadedFigure]:
    """The trials of the pairs that interact, or of the two hyperparameters that explain most."""
    pairs = [item.pair for item in interactions(evidence)][:MOST_PAIRS]
    if not pairs:
        axes = {axis.key: axis for axis in evidence.axes}
        found = [each for each in sensitivities(evidence) if each.response.asked == "objective" and each.responding]
        for each in found[-1:]:  # all settings together come last
            names = [name for name in (*each.responding, *each.silent) if name in axes]
            # Two that are never active in the same trial, as the rates of two optimizers, have nothing to show.
            pairs = [(axes[one], axes[two]) for one, two in combinations(names, 2) if _shared(axes[one], axes[two])][:1]
    return [_pair_figure(evidence, one, two) for one, two in pairs]


def _shared(one: HyperparameterAxis, two: HyperparameterAxis) -> set[int]:
    """The trials in which both hyperparameters are active."""
    return {run.plan.trial for run in one.runs} & {run.plan.trial for run in two.runs}


def _pair_figure(evidence: StudyEvidence, one: HyperparameterAxis, two: HyperparameterAxis) -> ShadedFigure:
    inside = _shared(one, two)
    runs = chosen_runs(evidence, [run for run in one.runs if run.plan.trial in inside], MOST_AXIS_TRIALS)
    names = one.hyperparameter.name, two.hyperparameter.name
    points = [
        ShadedPoint(
            hyperparameter_place(one, run.plan.hyperparameters[names[0]]),
            hyperparameter_place(two, run.plan.hyperparameters[names[1]]),
            shaded_value(evidence, run),
            trial_label(run),
            run.plan.trial,
        )
        for run in runs
    ]
    # The best are drawn last, over others at the same place.
    points.sort(key=lambda point: -evidence.objective.cost(point.value))
    return ShadedFigure(
        f"pair-{slug(one.key)}-{slug(two.key)}",
        f"{one.key} and {two.key}, by the value of each trial",
        hyperparameter_axis(one),
        hyperparameter_axis(two),
        points,
        value_colours(evidence, [point.value for point in points if point.value is not None]),
        ["the best contrast most with the page"],
    )
