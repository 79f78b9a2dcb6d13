"""Checks of the values of splits: NaN and infinity, constant features, classes and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from tunectl.core.data_report import DataFinding
from tunectl.core.exception_text import exception_line
from tunectl.training.collation import Collate, collate_of, fetched
from tunectl.training.data_checks.looked_at import LookedAt
from tunectl.training.evaluated_splits import is_evaluated
from tunectl.training.evaluation import evaluating
from tunectl.training.seeds import Purpose, host_randomness, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

MOST_CLASSES = 1000
"""A whole number with more values than this is no class."""

FREQUENT = 5
"""... and neither is one whose values have fewer examples in train, on average: it may be a count, or a number of the
example."""

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


def classes_of(train: LookedAt) -> dict[str, Counter[int]]:
    """How often each class was seen in train, by the place of the label: of whole numbers of which each is frequent."""
    counted = {place: Counter(values) for place, values in train.labels.items()}
    return {
        place: counts
        for place, counts in counted.items()
        if len(counts) <= MOST_CLASSES and counts.total() >= FREQUENT * len(counts)
    }


def missing_classes(splits: Mapping[str, LookedAt]) -> Iterator[DataFinding]:
    """Classes of train that another split lacks, and classes that train lacks."""
    train = splits["train"]
    for place, known in classes_of(train).items():
        for name, split in splits.items():
            counts = Counter(split.labels.get(place, ()))
            if name == "train" or not counts:
                continue
            lacking = _lacking(known, counts, split)
            if lacking:
                text = f"{name} has no example{_looked(split)} of {_named(lacking)} of {place}, which train has"
                yield DataFinding("classes", name, text, len(lacking))
            unknown = _lacking(counts, known, train)
            if unknown:
                text = f"{name} has examples of {_named(unknown)} of {place}, and train{_looked(train)} has none"
                yield DataFinding("classes", name, text, len(unknown))


def _lacking(had: Counter[int], counts: Counter[int], split: LookedAt) -> list[int]:
    """The classes of one split that another one lacks; of a sample only those that were to be expected in it."""
    part = len(split.examples) / had.total()
    return [
        label
        for label, count in sorted(had.items())
        if label not in counts and (split.is_whole or count * part >= SURELY)
    ]


def labels_out_of_range(
    splits: Mapping[str, LookedAt], workload: Workload, seed: int, is_over: Callable[[], bool] = lambda: False
) -> Iterator[DataFinding]:
    """Labels for which the loss fails, although it does not for the most frequent one: an example of each is tried,
    the highest and the lowest labels first, until `is_over`.

    The test split is not evaluated.
    """
    for place in classes_of(splits["train"]):
        for name, split in splits.items():
            values = split.labels.get(place, [])
            if not is_evaluated(name) or len(set(values)) < 2 or isinstance(split.dataset, StreamedExamples):
                continue
            examples = {label: split.examples[number] for number, label in reversed(list(enumerate(values)))}
            usual = Counter(values).most_common(1)[0][0]
            failure = partial(_failure, split, collate_of(workload, name), workload=workload, seed=seed)
            if failure([examples[usual]]):
                continue  # nothing is known of what it needs
            tried = _from_the_ends(sorted(examples))[:MOST_CLASSES]
            failed = dict[int, str]()
            for start in range(0, len(tried), _BATCH):
                batch = tried[start : start + _BATCH]
                if is_over():
                    break
                if failure([examples[label] for label in batch]):
                    alone = {label: failure([examples[label]]) for label in batch if not is_over()}
                    failed |= {label: why for label, why in alone.items() if why}
            if failed:
                first = min(failed)
                text = (
                    f"the loss fails for {_named(sorted(failed))} of {place} in {name} (such as"
                    f" {name}[{examples[first]}]): {failed[first]}"
                )
                yield DataFinding("labels", name, text, len(failed))


def _from_the_ends(labels: list[int]) -> list[int]:
    """The labels, from the highest and the lowest to those in the middle: a range that is wrong is wrong at an end."""
    middle = (labels[0] + labels[-1]) / 2
    return sorted(labels, key=lambda label: -abs(label - middle))


def _failure(split: LookedAt, collate: Collate, examples: list[int], *, workload: Workload, seed: int) -> str:
    """Why the loss of these examples cannot be computed, "" where it can."""
    seeds = sequence(seed, Purpose.EVALUATION)
    try:
        with host_randomness(sequence(seed, Purpose.EXAMPLES)):
            batch = collate([item for index in examples for item in fetched(split.dataset, [index])])
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
