"""The kinds of measurements that a trial writes, and how each of them is shown.

A further kind is one record in MEASUREMENT_KINDS. A trial writes lines of it by `MeasurementKind.measurement`; the
index, measurements.parquet and the exports have its metrics by their names, the trials table those that `counting_at`
gives for the best step, and the page draws them by step in a section of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tunectl.core.measurements import Measurement

STEP = "step"
"""The name, behind the kind's, of the column with the step of the measurement that counts."""


@dataclass(frozen=True, slots=True)
class MeasuredMetric:
    """A metric of a kind: its name behind the kind's, and its title on an axis, with the unit.

    A `detail` says only how others were measured, and has no plot of its own.
    """

    name: str
    title: str
    detail: bool = False


@dataclass(frozen=True, slots=True)
class MeasurementKind:
    """A kind of line in measurements.jsonl.

    `name` is the line's `kind`. `metrics` are those that its lines may have, as `<kind>/<name>`; the metrics of
    evaluations are the study's own, as `<split>/<name>`. `heading` and `text` are those of its section in the page,
    "" for a kind without one. `counts_later`: its steps are others than those of the evaluations, so that a measurement
    counts for later steps too, until the next one; else it counts for its own step alone. `before_training`: its steps
    are no updates but iterations of a procedure before the first update, whose last measurement counts for every step.
    `asked_by` names what a study writes to measure it; then no split of a workload may have its name.
    """

    name: str
    metrics: tuple[MeasuredMetric, ...] = ()
    heading: str = ""
    text: str = ""
    counts_later: bool = False
    before_training: bool = False
    asked_by: str = ""

    @property
    def drawn(self) -> tuple[MeasuredMetric, ...]:
        """The metrics that have a plot of their own."""
        return tuple(metric for metric in self.metrics if not metric.detail)

    @property
    def has_own_steps(self) -> bool:
        """Whether its measurements are at other steps than the evaluations."""
        return self.counts_later or self.before_training

    def column(self, metric: str) -> str:
        """The name of a metric in files, tables and exports."""
        return f"{self.name}/{metric}"

    def measurement(self, step: int, values: Mapping[str, float], elapsed_seconds: float) -> Measurement:
        """What was measured after `step` updates (before training: iterations), by the names of the kind's metrics."""
        named = {self.column(name): value for name, value in values.items()}
        return Measurement(step, named, self.name, elapsed_seconds=elapsed_seconds)

    def counting_at(self, step: int, measurements: Iterable[Measurement]) -> dict[str, float]:
        """The metrics of this kind that count for a step, as the trials table has them beside those of the evaluation.

        Where a kind `counts_later`, they are those of its last measurement at or before the step, and where it is
        `before_training` those of its last one; its own step is beside them as `<kind>/step`. {} where none counts.
        """
        own = [item for item in measurements if item.measurement_kind == self.name]
        if not self.has_own_steps:
            return {name: value for item in own if item.step == step for name, value in item.metrics.items()}
        counting = [item for item in own if self.before_training or item.step <= step]
        last = max(counting, key=lambda item: item.step, default=None)
        return {} if last is None else {**last.metrics, self.column(STEP): last.step}

    def columns(self) -> set[str]:
        """The names that its metrics may have in tables."""
        return {self.column(metric.name) for metric in self.metrics} | (
            {self.column(STEP)} if self.has_own_steps else set()
        )


EVALUATION = MeasurementKind("evaluation")
"""The metrics of the splits: the only kind by which a trial is judged."""

THROUGHPUT = MeasurementKind(
    "throughput",
    (
        MeasuredMetric("examples_per_second", "examples per second"),
        MeasuredMetric("seconds_per_step", "seconds per step"),
        MeasuredMetric("data_wait_fraction", "part of the time spent waiting for data"),
        MeasuredMetric("data_workers", "data-loader processes"),
        MeasuredMetric("train_examples", "training examples"),
    ),
)
"""How fast a trial of `batch-size` trains; that procedure draws it by batch size."""

PROFILE = MeasurementKind(
    "profile",
    (
        # Of each block of updates.
        MeasuredMetric("seconds_per_step", "seconds per step"),
        MeasuredMetric("waiting", "seconds of a step without the next batch"),
        MeasuredMetric("reading", "seconds of reading the examples of a step, over all loader processes"),
        MeasuredMetric("busiest_worker", "part of the time that the busiest loader process reads", detail=True),
        MeasuredMetric("idlest_worker", "part of the time that the least busy loader process reads", detail=True),
        # Once, after the blocks.
        MeasuredMetric("collating", "seconds of making a batch of its examples"),
        MeasuredMetric("copying", "seconds of copying a batch to the device"),
        MeasuredMetric("evaluation", "seconds of an evaluation"),
        MeasuredMetric("checkpoint", "seconds of writing a checkpoint"),
        MeasuredMetric("resume", "seconds of writing resume.pt"),
        MeasuredMetric("resume_interval", "seconds between two writings of resume.pt, at least", detail=True),
        MeasuredMetric("data_workers", "loader processes", detail=True),
        MeasuredMetric("cores", "cores that the process may use", detail=True),
        MeasuredMetric("train_examples", "training examples", detail=True),
        MeasuredMetric("evaluated_examples", "examples of the largest evaluated split", detail=True),
        MeasuredMetric("kept_train", "whether train can be kept in memory, by CACHE_ANSWERS", detail=True),
        MeasuredMetric("kept_valid", "whether valid can be kept in memory, by CACHE_ANSWERS", detail=True),
        MeasuredMetric("kept_bytes", "bytes of the examples in memory", detail=True),
    ),
)
"""What the time of a trial of `profile` goes to; that procedure draws it."""

CACHE_ANSWERS = ("", "in memory", "random", "too large", "in order")
"""Why the examples of a split are not kept in memory: they could be, are there already, are not the same each time,
take too much, or can only be read in their order. A measurement has the number of the answer.
"""

MOST_EIGENVALUES = 20
"""The largest number of eigenvalues that a trial can measure; each has a column of its own."""

CURVATURE = MeasurementKind(
    "curvature",
    (
        MeasuredMetric("lambda_1", "largest eigenvalue of the Hessian, λ1"),
        MeasuredMetric("residual", "residual of λ1, |Hv − λv|", detail=True),
        MeasuredMetric("products", "Hessian-vector products for λ1", detail=True),
        MeasuredMetric("converged", "λ1 converged (1) or not (0)", detail=True),
        *(
            MeasuredMetric(f"lambda_{rank}", f"eigenvalue {rank} of the Hessian")
            for rank in range(2, MOST_EIGENVALUES + 1)
        ),
        MeasuredMetric("lambda_min", "smallest eigenvalue of the Hessian"),
        MeasuredMetric("lambda_min_residual", "residual of the smallest eigenvalue", detail=True),
        MeasuredMetric("lambda_min_products", "Hessian-vector products for the smallest eigenvalue", detail=True),
        MeasuredMetric("lambda_min_converged", "smallest eigenvalue converged (1) or not (0)", detail=True),
        MeasuredMetric("preconditioned_lambda_1", "largest eigenvalue of the preconditioned Hessian"),
        MeasuredMetric("preconditioned_lambda_1_residual", "residual of the preconditioned eigenvalue", detail=True),
        MeasuredMetric(
            "preconditioned_lambda_1_products", "Hessian-vector products for the preconditioned eigenvalue", detail=True
        ),
        MeasuredMetric(
            "preconditioned_lambda_1_converged", "preconditioned eigenvalue converged (1) or not (0)", detail=True
        ),
        MeasuredMetric("preconditioned_lambda_1_early", "preconditioned eigenvalue / (1 − β1^t)"),
        MeasuredMetric("lambda_1_with_decay", "largest eigenvalue with the L2 term, preconditioned where the bound is"),
        MeasuredMetric("lambda_1_with_decay_residual", "residual of the eigenvalue with the L2 term", detail=True),
        MeasuredMetric(
            "lambda_1_with_decay_products", "Hessian-vector products for the eigenvalue with the L2 term", detail=True
        ),
        MeasuredMetric(
            "lambda_1_with_decay_converged", "eigenvalue with the L2 term converged (1) or not (0)", detail=True
        ),
        MeasuredMetric("bound", "eigenvalue above which the optimizer is unstable"),
        MeasuredMetric("ratio", "eigenvalue / the optimizer's bound"),
        MeasuredMetric("paper_ratio", "λ1·η/2, or preconditioned·η/40 for Adam"),
        MeasuredMetric("critical_learning_rate", "critical learning rate"),
        MeasuredMetric("critical_multiple", "critical learning rate / learning rate"),
        MeasuredMetric(
            "critical_limit", "critical rate beyond a limit of the search (−1 below, 1 above, 0 found)", detail=True
        ),
        MeasuredMetric("critical_passes", "forward passes for the critical learning rate", detail=True),
        MeasuredMetric("directional", "directional sharpness g'Hg/g'g"),
        MeasuredMetric("gradient_quotient", "gradient quotient"),
        MeasuredMetric("gradient_norm", "gradient norm over the measured examples"),
        MeasuredMetric("loss", "loss over the measured examples"),
        MeasuredMetric("learning_rate", "learning rate of the update after the measurement"),
        MeasuredMetric("examples", "measured examples", detail=True),
        MeasuredMetric("chunks", "chunks into which the measured examples were divided", detail=True),
        MeasuredMetric("cold", "Lanczos began at a random vector (1) or at the last eigenvector (0)", detail=True),
        MeasuredMetric(
            "random_state", "the loss draws random numbers; measured under one fixed state (1)", detail=True
        ),
        MeasuredMetric("seconds", "seconds that the measurement took", detail=True),
    ),
    "Curvature",
    "The largest eigenvalue of the Hessian of the loss over a fixed sample of the training examples, and the stability "
    "bound of the optimizer, by step. Where the eigenvalue is above the bound for long, training is unstable.",
    counts_later=True,
    asked_by="training.curvature",
)
"""The curvature of the loss, which training.curvature measures."""

INITIALISATION = MeasurementKind(
    "initialisation",
    (
        MeasuredMetric("gradient_quotient", "gradient quotient"),
        MeasuredMetric("loss_after_step", "loss after one step of the optimizer"),
        MeasuredMetric("loss", "loss of the batch"),
        MeasuredMetric("gradient_norm", "gradient norm (of gradinit under Adam: the sum of the absolute values)"),
        MeasuredMetric("lambda_1", "largest eigenvalue of the Hessian, λ1"),
        MeasuredMetric("smallest_factor", "smallest factor on a weight tensor"),
        MeasuredMetric("largest_factor", "largest factor on a weight tensor"),
        MeasuredMetric("converged", "λ1 converged (1) or not (0)", detail=True),
        MeasuredMetric("constrained", "the gradient norm was made smaller (1), or the loss (0)", detail=True),
        MeasuredMetric("seconds", "seconds since the start of the initialisation", detail=True),
    ),
    "Initialisation",
    "What metainit or gradinit made of the weights before the first update, by iteration of the procedure (iterations "
    "are no training steps). Each iteration has a batch of its own, so the curves are noisy.",
    before_training=True,
    asked_by="the field initialisation",
)
"""The procedure that rescales the weights before step 0, which the field `initialisation` chooses."""

WHOLE = MeasurementKind("whole")
"""The metrics of whole splits of which only a sample is evaluated on the way, by the names in `whole_splits`."""

BOUNDED_EIGENVALUES = ("lambda_1", "preconditioned_lambda_1", "lambda_1_with_decay")
"""The eigenvalues that an optimizer's stability bound may be about."""


def search_metric(eigenvalue: str, what: str) -> str:
    """The metric with the `residual` of a measured eigenvalue, its `products`, or whether it `converged`."""
    return what if eigenvalue == "lambda_1" else f"{eigenvalue}_{what}"


MEASUREMENT_KINDS = {kind.name: kind for kind in (EVALUATION, THROUGHPUT, PROFILE, CURVATURE, INITIALISATION, WHOLE)}


def is_no_evaluation(metric: str) -> bool:
    """Whether a metric has the name of one that other measurements than evaluations have."""
    return any(metric in kind.columns() for kind in MEASUREMENT_KINDS.values())


def is_before_training(metric: str) -> bool:
    """Whether the steps at which a metric is measured are iterations before the first update, and no updates."""
    return any(kind.before_training and metric in kind.columns() for kind in MEASUREMENT_KINDS.values())


def counts_updates(measurement_kind: str) -> bool:
    """Whether the steps of a kind of this name, which may be unknown, are numbers of updates."""
    kind = MEASUREMENT_KINDS.get(measurement_kind)
    return kind is None or not kind.before_training


def is_detail(metric: str) -> bool:
    """Whether a metric says only how others were measured, and has no plot of its own."""
    return any(
        metric == kind.column(item.name) for kind in MEASUREMENT_KINDS.values() for item in kind.metrics if item.detail
    )
