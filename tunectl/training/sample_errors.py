"""Whole splits of which a sample is evaluated on the way: their values, and the standard errors of the sample's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from tunectl.core.whole_splits import sample_error_metric, whole_metric
from tunectl.training.averages import Averages
from tunectl.training.evaluation import evaluate_split, evaluating, with_derived
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.seeds import Purpose, sequence
from tunectl.workloads.workload import Workload

_MOMENTS, _EXAMPLES = "moments", "examples"

_STEP = 1e-3
"""How much a metric is changed, in its own size or by itself, to see what is derived from it."""


class ExampleMoments(Averages):
    """Averages that also know how much the values differ from example to example.

    An example may have several values, with weights: its part in the mean m of all is a / b, with a the sum of its
    weights times its values, and b that of its weights. Then sum (a - m b)^2 over the examples is what the error of the
    mean over a sample of them follows from, as that of a ratio (Cochran, "Sampling Techniques", 1977, section 6.3).
    """

    def add(self, name: str, values: Any, weights: Any = None) -> None:
        """As Averages.add; the first axis is that of the examples."""
        super().add(name, values, weights)
        numbers = torch.as_tensor(values).detach().to(torch.float64)
        factors = torch.ones_like(numbers) if weights is None else torch.as_tensor(weights).to(numbers)
        numbers = torch.where(factors == 0, torch.zeros_like(numbers), numbers)
        shift, unit = self.sums.scale((_MOMENTS, name), numbers)
        rows = len(numbers)
        b = factors.reshape(rows, -1).sum(dim=1)
        a = (factors * (numbers - shift) / unit).reshape(rows, -1).sum(dim=1)
        # Two triples as SplitSums has them, by the weights b and b^2; the third number of the first is not used.
        of_b = torch.stack([b.sum(), a.sum(), b.new_zeros(())])
        of_squares = torch.stack([(b * b).sum(), (a * b).sum(), (a * a).sum()])
        self.sums.add((_MOMENTS, name), torch.cat([of_b, of_squares]))
        self.sums.add((_EXAMPLES, name), b.new_tensor([float(rows)]))

    def sample_errors(self, sampled: int) -> dict[str, float]:
        """The standard error of each mean over `sampled` of the examples that were added, drawn without replacement."""
        found = {}
        totals, units = self.sums.totals(), self.sums.units()
        for (what, name), sums in totals.items():
            if what != _MOMENTS:
                continue
            b, a, _, bb, ab, aa = sums
            whole = int(totals[_EXAMPLES, name][0])
            if b == 0 or whole < 2 or sampled < 1:
                found[name] = math.nan
                continue
            mean = a / b
            variance = max(aa - 2 * mean * ab + mean * mean * bb, 0.0) / (whole - 1)
            left_out = max(1 - sampled / whole, 0.0)
            found[name] = units[_MOMENTS, name] * math.sqrt(variance / sampled * left_out) * whole / b
        return found


def sampled_sizes(evaluator: Evaluator) -> dict[str, int]:
    """The sizes of the samples of splits that are not evaluated whole, by split; `train` never is."""
    return {
        name: len(dataset)  # type: ignore[arg-type]
        for name, dataset in evaluator.splits.items()
        if name != "train" and len(dataset) < len(evaluator.workload.data[name])  # type: ignore[arg-type]
    }


def whole_metrics(evaluator: Evaluator, sizes: Mapping[str, int]) -> dict[str, float]:
    """The metrics of whole splits, of which samples of these sizes are evaluated on the way, and the samples' standard
    errors, by the names in `whole_splits`; of the weights that the model has.
    """
    whole = replace(evaluator, splits={name: evaluator.workload.data[name] for name in sizes})
    found: dict[str, float] = {}
    for split, size in sizes.items():
        with evaluating(evaluator.workload.model, sequence(evaluator.seed, Purpose.EVALUATION), evaluator.device):
            evaluated = evaluate_split(whole, split, averaging=ExampleMoments)
        moments = evaluated.averages
        assert isinstance(moments, ExampleMoments)
        errors = moments.sample_errors(size)
        errors |= _derived_errors(evaluator.workload, moments.means(), errors, whole=evaluated.whole)
        found |= {whole_metric(f"{split}/{name}"): value for name, value in evaluated.metrics.items()}
        found |= {sample_error_metric(f"{split}/{name}"): value for name, value in errors.items()}
    return found


def _derived_errors(
    workload: Workload, averages: Mapping[str, float], errors: Mapping[str, float], *, whole: Mapping[str, float]
) -> dict[str, float]:
    """The standard errors of what `finalize` derives: half of how much it changes between one error below and one above
    each mean, added up over the means, which is the error where they go together and more where they do not.

    The error of the metrics of `evaluate`, in `whole`, is not known, and so is none of what is derived from them.
    """
    if workload.finalize is None:
        return {}
    means = {**averages, **whole}
    found: dict[str, float] = {}
    try:
        for name, error in errors.items():
            low, high = (with_derived(workload, means | {name: means[name] + side * error}) for side in (-1, 1))
            for derived in high.keys() - means.keys():
                found[derived] = found.get(derived, 0.0) + abs(high[derived] - low.get(derived, math.nan)) / 2
        unknown = _changed(workload, means, whole) if whole else set()
    except (ArithmeticError, ValueError):
        return {}
    return {name: error for name, error in found.items() if name not in unknown}


def _changed(workload: Workload, means: dict[str, float], whole: Mapping[str, float]) -> set[str]:
    """The names of what `finalize` derives from these metrics: it changes with them."""
    now = with_derived(workload, means)
    found: set[str] = set()
    for name, value in whole.items():
        other = with_derived(workload, means | {name: value + _STEP * max(1.0, abs(value))})
        found |= {item for item in now.keys() - means.keys() if other.get(item) != now[item]}
    return found
