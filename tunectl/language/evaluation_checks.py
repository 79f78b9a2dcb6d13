"""What `training:` says about evaluations, beside the rest of a study: what is wrong with it."""

from __future__ import annotations

from tunectl.core.errors import PathKey
from tunectl.core.objective import Objective
from tunectl.core.records import WorkloadKind
from tunectl.core.whole_splits import sampled_metric
from tunectl.language.document import Document
from tunectl.language.study_spec import TrainingSection


def check_evaluation(
    document: Document, training: TrainingSection, objective: Objective, workload_kind: WorkloadKind
) -> None:
    """Note in the document what is wrong with the sections on evaluations, whose values are right one by one."""
    if workload_kind != "workload":
        by_itself = f"a {workload_kind} trains by itself; leave it out"
        asked: dict[str, tuple[object, str]] = {
            "batch_norm_statistics": (
                training.batch_norm_statistics,
                f"only tunectl's own training loop gathers statistics of batch normalisation, and {by_itself}",
            ),
            "predictions": (
                training.predictions,
                f"only tunectl's own training loop keeps predictions of examples, and {by_itself}, and write "
                "predictions from your code, such as into the trial's folder of files",
            ),
            "split_examples": (
                training.split_examples,
                f"only tunectl's own training loop evaluates a sample of a split, and {by_itself}, and print the "
                "metric of the whole split under another name",
            ),
            "compile": (training.compile, f"only tunectl's own training loop compiles the model, and {by_itself}"),
            "sync_batch_norm": (
                training.sync_batch_norm,
                f"only tunectl's own training loop synchronises batch normalisation, and {by_itself}",
            ),
        }
        for key, (value, message) in asked.items():
            if value:
                document.report(("training", key), message, at_key=True)
        return
    if training.split_examples and training.keep_checkpoints == 0:
        message = "expected at least 1 with split_examples, which evaluates whole splits at the kept checkpoints; got 0"
        document.report(("training", "keep_checkpoints"), message)
    place: PathKey = ("objective", "metric")
    metric = sampled_metric(objective.metric, training.split_examples)
    if metric:
        document.report(
            place,
            f"expected {metric}, the metric of the sample, by which trials are judged, got '{objective.metric}', which "
            "is measured only at the kept checkpoints; to judge by the whole split, leave it out of "
            "training.split_examples",
        )


def check_synchronised(document: Document, training: TrainingSection, devices: int) -> None:
    """Note in the document where the model of a trial on several devices cannot be compiled."""
    if training.compile and training.sync_batch_norm and devices > 1:
        message = (
            "expected false with sync_batch_norm, as the devices of a trial exchange statistics within the model, which"
            " cannot be compiled, got true; leave one of the two out"
        )
        document.report(("training", "compile"), message)
