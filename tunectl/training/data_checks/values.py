"""Checks of the values of splits: NaN and infinity, constant features, classes and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import default_collate

from tunectl.core.data_report import DataFinding
from tunectl.core.exception_text import exception_line
from tunectl.training.batches import fetched
from tunectl.training.data_checks.looked_at import LookedAt
from tunectl.training.evaluated_splits import is_evaluated
from tunectl.training.evaluation import evaluating
from tunectl.training.seeds import Purpose, host_randomness, sequence
from tunectl.workloads.workload import Workload

MOST_CLASSES = 1000
"""A whole number with more values than this is no class."""

SURELY = 20.0
"""A class is called missing in a sample of a split where as many examples of it were to be expected."""

FEWEST = 50
"""Of fewer examples of train, nothing is called constant."""

_MOST_NAMED = 10
_BATCH = 32


def not_finite(splits: Mapping[str, LookedAt]) -> Iterator[DataFinding]:
    """A finding for each split and place with NaN or infinite values."""
    for name, split in splits.items():
        for place, examples in split.not_finite.items():
            yield DataFinding(
                "not finite",
                name,
                f"{len(examples):,} of the {len(split.examples):,} examples of {name}{_looked(split)}"
                f" {'has' if len(examples) == 1 else 'have'} NaN or infinite values in {place}"
                f" (such as {name}[{examples[0]}])",
                len(examples),
            )


def constant_features(splits: Mapping[str, LookedAt]) -> Iterator[DataFinding]:
    """Features that are constant in train: a doubt where another split has other values of them, or all are constant.

    Single pixels of images often are, at the border: of images only channels count.
    """
    train = splits["train"]
    if len(train.examples) < FEWEST:
        return
    for place, span in train.spans.items():
        if span.low is None or span.high is None:
            continue
        axes = tuple(range(1, span.low.ndim)) if 2 <= span.low.ndim <= 3 else ()
        constant = (span.low == span.high).all(axis=axes) if axes else span.low == span.high
        count, whole = int(constant.sum()), constant.size
        if not count:
            continue
        what = f"{count:,} of the {whole:,} {'channels' if axes else 'features'} of {place}"
        varying = [name for name, split in splits.items() if _varies(split, place, constant, axes)]
        if varying:
            yield DataFinding("constant", "train", f"{what} are constant in train, but not in {varying[0]}", count)
        elif count == whole:
            yield DataFinding(
                "constant", "train", f"all values of {place} are constant in train{_looked(train)}", count
            )
        else:
            text = f"{what} are constant in train{_looked(train)}"
            yield DataFinding("constant", "train", text, count, doubt=False)


def _varies(split: LookedAt, place: str, constant: Any, axes: tuple[int, ...]) -> bool:
    span = split.spans.get(place)
    if span is None or span.low is None or span.high is None or span.low.ndim != constant.ndim + len(axes):
        return False
    varies = span.low != span.high
    varies = varies.any(axis=axes) if axes else varies
    return bool(varies.shape == constant.shape and (varies & constant).any())


def classes_of(split: LookedAt) -> dict[str, Counter[int]]:
    """How often each class was seen, by the place of the label: of whole numbers with few values."""
    counted = {place: Counter(values) for place, values in split.labels.items()}
    return {
        place: counts
        for place, counts in counted.items()
        if len(counts) <= min(MOST_CLASSES, max(2, counts.total() // 2))
    }


def missing_classes(splits: Mapping[str, LookedAt]) -> Iterator[DataFinding]:
    """Classes of train that another split lacks, and classes that train lacks."""
    known = classes_of(splits["train"])
    for name, split in splits.items():
        for place, counts in ({} if name == "train" else classes_of(split)).items():
            if place not in known:
                continue
            total, looked = known[place].total(), _looked(split)
            lacking = [
                label
                for label, count in sorted(known[place].items())
                if label not in counts and (split.is_whole or count / total * len(split.examples) >= SURELY)
            ]
            if lacking:
                text = f"{name} has no example{looked} of {_named(lacking)} of {place}, which train has"
                yield DataFinding("classes", name, text, len(lacking))
            train = splits["train"]
            unknown = [
                label
                for label, count in sorted(counts.items())
                if label not in known[place]
                and (train.is_whole or count / counts.total() * len(train.examples) >= SURELY)
            ]
            if unknown:
                text = f"{name} has examples of {_named(unknown)} of {place}, and train{_looked(train)} has none"
                yield DataFinding("classes", name, text, len(unknown))


def labels_out_of_range(splits: Mapping[str, LookedAt], workload: Workload, seed: int) -> Iterator[DataFinding]:
    """Labels for which the loss fails, although it does not for another one: one example of each class is tried.

    The test split is not evaluated.
    """
    for name, split in splits.items():
        for place in () if not is_evaluated(name) else classes_of(split):
            values = split.labels[place]
            first = {label: number for number, label in reversed(list(enumerate(values)))}
            labels = sorted(first, key=lambda label: -values.count(label))
            places = [split.examples[first[label]] for label in labels]
            if len(labels) < 2 or _failure(split, places[:1], workload, seed):
                continue  # nothing is known of what it needs
            batches = [range(start, min(start + _BATCH, len(labels))) for start in range(0, len(labels), _BATCH)]
            doubtful = [
                at for batch in batches if _failure(split, [places[at] for at in batch], workload, seed) for at in batch
            ]
            failed = [(at, why) for at in doubtful if (why := _failure(split, [places[at]], workload, seed))]
            if failed:
                wrong = sorted(labels[at] for at, _ in failed)
                at, why = failed[0]
                yield DataFinding(
                    "labels",
                    name,
                    f"the loss fails for {_named(wrong)} of {place} in {name} (such as {name}[{places[at]}]): {why}",
                    len(failed),
                )


def _failure(split: LookedAt, examples: list[int], workload: Workload, seed: int) -> str:
    """Why the loss of these examples cannot be computed, "" where it can."""
    seeds = sequence(seed, Purpose.EVALUATION)
    try:
        with host_randomness(sequence(seed, Purpose.EXAMPLES)):
            batch = default_collate([item for index in examples for item in fetched(split.dataset, [index])])
        with evaluating(workload.model, seeds, torch.device("cpu")):
            workload.loss(workload.model, batch)
    except Exception as error:
        return exception_line(error)
    return ""


def _named(labels: list[int]) -> str:
    listed = ", ".join(map(str, labels[:_MOST_NAMED]))
    more = f" and {len(labels) - _MOST_NAMED} others" if len(labels) > _MOST_NAMED else ""
    return f"class {listed}" if len(labels) == 1 else f"classes {listed}{more}"


def _looked(split: LookedAt) -> str:
    return "" if split.is_whole else " that were looked at"
