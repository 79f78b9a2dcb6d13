"""What a reader of `batch-scaling` must know beside the answer: what is censored, coarse, at an edge, or of epochs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tunectl.core.wording import counted
from tunectl.procedures.batch_scaling_options import BatchScaling
from tunectl.procedures.batch_scaling_outcomes import BatchOutcome, Scaling
from tunectl.procedures.procedure import SweepSetting

_EPOCHS = re.compile(r"(^|_)epochs?(_|$)", re.IGNORECASE)

SAME_EPOCHS = 1.25
"""Trials of two batch sizes train for the same number of epochs where the examples they see differ by at most this."""

MUCH_WARMUP = 0.5
"""From this part of the steps on, a warmup hides what a larger batch would save."""

COARSE = 10
"""Steps that are known from fewer evaluations than this are named."""


def notes(spec: BatchScaling, named: Sequence[tuple[SweepSetting, Scaling]]) -> list[str]:
    """The sentences, first what may change the answer most."""
    found = [item for _, scaling in named for item in scaling.found]
    lines = [_epochs(spec, found), _too_large(found)]
    for setting, scaling in named:
        where = f"{setting.name}: " if len(named) > 1 else ""
        lines += [where + line for line in (_censored(scaling), _edges(scaling), _coarse(scaling)) if line]
    return [line for line in [*lines, _warmup(spec, found), _seeds(spec)] if line]


def _epochs(spec: BatchScaling, found: Sequence[BatchOutcome]) -> str:
    """A warning where own code trains each batch size for the same number of epochs, or may count epochs."""
    if not spec.own_code:
        return ""
    names = [name for name in spec.values if _EPOCHS.search(name)]
    seen = {item.batch_size: end * item.batch_size for item in found if (end := _last_step(spec, item))}
    same = len(seen) > 1 and max(seen.values()) <= SAME_EPOCHS * min(seen.values())
    if not names and not same:
        return ""
    why = f"{', '.join(names)} gives" if names else "the trials end after"
    return (
        f"Warning: {why} the same number of epochs at every batch size. That compares batch sizes by epochs, which "
        "shows only whether scaling is perfect: let the code train for max_train_steps, and print updates, not epochs."
    )


def _too_large(found: Sequence[BatchOutcome]) -> str:
    """A warning where a batch repeats examples: the smallest one may, before the training set is known."""
    pairs = [(item, item.train_examples) for item in found if item.train_examples is not None]
    repeated = next((pair for pair in pairs if pair[0].batch_size > pair[1]), None)
    if repeated is None:
        return ""
    return (
        f"Warning: a batch of {repeated[0].batch_size} is larger than the training set ({repeated[1]:,} examples), so "
        "each of its batches repeats examples: give a smaller --low."
    )


def _last_step(spec: BatchScaling, item: BatchOutcome) -> float:
    """The last step that was evaluated at a batch size, 0 without one."""
    curves = [run.curve(spec.objective.metric)[0] for tried in item.searched for run in tried.runs]
    return max((float(steps[-1]) for steps in curves if len(steps)), default=0.0)


def _censored(scaling: Scaling) -> str:
    """Batches that did not reach the target; after smaller ones everything is relative to the first that did."""
    if not scaling.reached:
        longest = max(item.steps for item in scaling.found)
        return f"Choose an easier target, or give more than {counted(longest, 'step')} by --steps."
    first, lines = scaling.reached[0], []
    smaller = [item for item in scaling.found if item.batch_size < first.batch_size]
    larger = [item for item in scaling.found if item.batch_size > first.batch_size and not item.reached]
    if smaller:
        lines.append(
            f"Within {counted(smaller[-1].steps, 'step')} the target was not reached at {_listed(smaller)}, so all "
            f"factors are relative to {first.batch_size}; more --steps may show those, too."
        )
    if larger:
        lines.append(
            f"At {_listed(larger)} the target was not reached within {counted(larger[-1].steps, 'step')}, in which a "
            "smaller batch reached it."
        )
    return " ".join(lines)


def _edges(scaling: Scaling) -> str:
    """Batch sizes whose best rate is at an end of the rates."""
    found = [
        f"At {_listed(items)} the best rate is the {end} that was tried, so a better one may be beyond it."
        for end in ("highest", "lowest")
        if (items := [item for item in scaling.reached if item.edge == end])
    ]
    return " ".join(found)


def _coarse(scaling: Scaling) -> str:
    """Batch sizes whose steps are known from few evaluations."""
    items = [item for item in scaling.reached if item.steps_to_target / item.every < COARSE]
    if not items:
        return ""
    coarse = max(items, key=lambda item: item.every / item.steps_to_target)
    part = coarse.every / coarse.steps_to_target
    return (
        f"At {_listed(items)} the target may have been reached up to {part:.0%} of the steps earlier, between two "
        "evaluations."
    )


def _warmup(spec: BatchScaling, found: Sequence[BatchOutcome]) -> str:
    warmup = spec.prepended_warmup
    items = [item for item in found if item.reached and warmup >= MUCH_WARMUP * item.steps_to_target]
    if not items:
        return ""
    return (
        f"The warmup of {counted(warmup, 'step')} is most of the training at {_listed(items)}: without it, a larger "
        "batch may save more."
    )


def _seeds(spec: BatchScaling) -> str:
    one = "Each batch size has one seed, so it is not known which differences are noise."
    return one if spec.options.seeds == 1 else ""


def _listed(items: Iterable[BatchOutcome]) -> str:
    sizes = list(dict.fromkeys(str(item.batch_size) for item in items))
    listed = sizes[0] if len(sizes) == 1 else f"{', '.join(sizes[:-1])} and {sizes[-1]}"
    return f"a batch of {listed}" if len(sizes) == 1 else f"batches of {listed}"
