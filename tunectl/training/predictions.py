"""The predictions for chosen examples at each evaluation, and the correct ones by class at the end of a trial."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tunectl.core import jsontext
from tunectl.core.errors import WorkloadError
from tunectl.core.example_predictions import KEPT_ONCE, PredictionSettings
from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile, opened_lines
from tunectl.core.wording import counted
from tunectl.training.batch_values import copied, moved
from tunectl.training.built_workload import nearest
from tunectl.training.collation import Collate, batch_tensors, collate_of, drawn, fetched
from tunectl.training.evaluated_splits import is_evaluated
from tunectl.training.evaluation import evaluating
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.precision import casting
from tunectl.training.prediction_values import checked_values, kept_values
from tunectl.training.seeds import EXAMPLES_SEED, Purpose, host_randomness, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

MOST_BYTES = 4_000_000
"""The largest size of the predictions of one evaluation."""

PREDICTIONS = "training.predictions"


class PredictionKeeper:
    """Predicts the chosen examples of a split, and has the file of their predictions."""

    def __init__(self, settings: PredictionSettings, evaluator: Evaluator, lines: LineFile) -> None:
        self.settings = settings
        self._evaluator = evaluator
        dataset = split_of(evaluator.workload, settings)
        self._examples = chosen_examples(dataset, settings)
        # Those of a stream once: later, only the updates may read it.
        self._dataset = ChosenExamples(dataset, self._examples) if isinstance(dataset, StreamedExamples) else dataset
        self.lines = lines

    @classmethod
    def of_request(
        cls,
        settings: PredictionSettings | None,
        evaluator: Evaluator,
        folder: TrialFolder,
        parts: Mapping[str, Any],
        *,
        writes: bool = True,
    ) -> PredictionKeeper | None:
        """That of a trial, whose file is cut to its length in these parts of `resume.pt`; None where it keeps none.

        Without `writes` the file is another process's.
        """
        if settings is None:
            return None
        split_of(evaluator.workload, settings)  # it may raise, and the file is opened afterwards
        offset = parts.get("predictions_offset", 0)
        return cls(settings, evaluator, opened_lines(folder.predictions, offset, writes=writes))

    def line(self, step: int) -> dict[str, Any]:
        """The line of predictions.jsonl for the weights of this step, which the model has.

        The model, its mode and all generators are as before afterwards. What does not change is kept at step 0 alone.
        """
        return kept_examples(self._evaluator, self._dataset, self._examples, step, split=self.settings.split)


class ChosenExamples(Dataset[Any]):
    """Some examples of another data set, by their places there, kept in memory."""

    def __init__(self, dataset: Dataset[Any], places: Sequence[int]) -> None:
        with host_randomness(sequence(EXAMPLES_SEED, Purpose.EXAMPLES)):
            self._items = {place: copy.deepcopy(fetched(dataset, [place])[0]) for place in sorted(places)}

    def __getitem__(self, place: int) -> Any:
        return self._items[place]


def split_of(workload: Workload, settings: PredictionSettings) -> Dataset[Any]:
    """The data whose examples are predicted; raises WorkloadError where that cannot be done with this workload."""
    if workload.predict is None:
        raise WorkloadError(f"{PREDICTIONS}: the workload has no predict(model, batch); add one, or leave this out")
    found = workload.data.get(settings.split)
    if found is None:
        given = ", ".join(name for name in workload.data if is_evaluated(name))
        hint = nearest(settings.split, workload.data)
        raise WorkloadError(f"{PREDICTIONS}.split: expected one of {given}, got {settings.split!r}{hint}")
    return found


def chosen_examples(dataset: Dataset[Any], settings: PredictionSettings) -> list[int]:
    """The places of the examples: those that are given, or a fixed random choice without repetition, in order.

    The choice depends on the size of the split alone, so that it is the same in all trials of a study. Raises
    WorkloadError where the split has no such example.
    """
    size = len(dataset)  # type: ignore[arg-type]
    if isinstance(settings.examples, int):
        generator = np.random.Generator(np.random.PCG64(EXAMPLES_SEED))
        chosen: list[int] = np.sort(generator.permutation(size)[: settings.examples]).tolist()
        return chosen
    beyond = [place for place in settings.examples if place >= size]
    if beyond:
        raise WorkloadError(
            f"{PREDICTIONS}.examples: expected places from 0 to {size - 1}, as the split {settings.split!r} has"
            f" {counted(size, 'example')}, got {beyond[0]}"
        )
    return list(settings.examples)


def predicted(
    evaluator: Evaluator, dataset: Dataset[Any], examples: Sequence[int], *, split: str
) -> Iterator[tuple[Sequence[int], Mapping[str, Sequence[Any] | Tensor]]]:
    """What the model predicts for these examples of a split's data, a batch at a time, with the examples of the batch.

    Raises WorkloadError where `predict` does not give what `Workload` requires.
    """
    workload, device, size = evaluator.workload, evaluator.device, evaluator.batch_size
    collate = collate_of(workload, split)
    assert workload.predict is not None
    for number, start in enumerate(range(0, len(examples), size)):
        places = examples[start : start + size]
        seeds = sequence(evaluator.seed, Purpose.EVALUATION, number)
        batch = moved(_batch(dataset, places, seeds, collate), device)
        with evaluating(workload.model, seeds, device), casting(evaluator.precision, device):
            # A copy: the tensors of a data set may be the batch itself.
            given = workload.predict(workload.model, copied(batch))
        yield places, checked_values(given, len(places))


def _batch(dataset: Dataset[Any], places: Sequence[int], seeds: np.random.SeedSequence, collate: Collate) -> Any:
    tensors = batch_tensors(dataset, collate)
    if tensors is None:
        return drawn(dataset, list(places), seeds, collate)
    chosen = torch.tensor(places)
    return [tensor.detach().index_select(0, chosen.to(tensor.device)) for tensor in tensors]


def kept_examples(
    evaluator: Evaluator, dataset: Dataset[Any], examples: Sequence[int], step: int = 0, *, split: str
) -> dict[str, Any]:
    """The line of predictions.jsonl for these examples, after `step` updates.

    Raises WorkloadError as `predicted` does, and where the line is too large to be kept at every evaluation.
    """
    left_out = KEPT_ONCE if step > 0 else ()
    kept: list[dict[str, Any]] = []
    for places, values in predicted(evaluator, dataset, examples, split=split):
        changing = {name: items for name, items in values.items() if name not in left_out}
        kept += [{"example": place, "values": kept_values(changing, row)} for row, place in enumerate(places)]
    line = {"step": step, "examples": kept}
    size = len(jsontext.encode(line))
    if size > MOST_BYTES:
        raise WorkloadError(
            f"{PREDICTIONS}: predict(model, batch) gives {size / 1e6:.1f} MB for the chosen examples, of at most"
            f" {MOST_BYTES / 1e6:.0f} MB at an evaluation; choose fewer examples, or give smaller values"
        )
    return line
