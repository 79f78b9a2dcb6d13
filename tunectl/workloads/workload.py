"""The Workload type: a model, its data, its loss and its metrics. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch
    from numpy.random import Generator
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

ExampleSampler: TypeAlias = "Iterable[int] | Callable[[Any, int, Generator], Any]"
"""What orders the examples of `train`: a function of the data set, the epoch and a generator, or a sampler of torch."""


def no_loss(_model: Any, _batch: Any) -> Any:
    """The loss of a workload that gives none, which cannot be trained."""
    raise TypeError("Workload(loss=...) is missing")


@dataclass(frozen=True, slots=True)
class Workload:
    """What a factory returns: the model, the data and the functions with which a trial trains and measures.

    Attributes:
        model: a torch module on the CPU; the trial moves it to its device.
        data: torch data sets by split: `train`, `valid`, and further ones; `test` is not evaluated during a study.
        `valid_for_training`, if it is there, is no split but the examples of `valid` with the transforms of `train`:
        `train-final` trains on them. A map-style data set has a length and gives an example by its place. An
        IterableDataset must have a length, too: the number of examples in a pass. Of such a `train`, updates take the
        examples as they come, one pass after the other; `set_epoch(number)` is called before each pass, if it is there.
        A trial that goes on reads the pass again up to its place, or from there by `iter_from(place)`, if it is there,
        which gives the same examples. What is measured on `train` is measured on its first examples, kept in memory.
        loss: `loss(model, batch)` gives one value per example, shape [B], or a tuple (values, weights) of two tensors
        of one shape: both [B], or both [B, ...] where an example has several parts, as the tokens of a sequence. The
        loss of an update is then sum(weights * values) / sum(weights) over its whole batch, also with
        `accumulate_steps`, that of a split the same over the split, and so is the loss whose curvature is measured.
        Weights are finite, at least 0, and have no gradient. A value of weight 0 counts nothing, even where it is NaN,
        as padding often is. An update whose weights sum to 0 has the gradient 0. Neither loss nor `metrics` may write
        into the batch, which both get: work on a copy.
        metrics: `metrics(model, batch)` gives a dict of per-example values, shape [B], or of tuples (values, weights)
        by the same rule; they are averaged over the split by weight. None: only `loss`, which is always measured.
        baseline_loss: the loss of the best constant prediction (for labels their entropy), in the unit of `loss` and
        by the same weights. finalize: derives more metrics from a split's averages (`{"perplexity":
        exp(loss)}`); it returns a dict of numbers with new names without a slash. They are NaN where the averages of a
        ruined model are too large for it (ArithmeticError) or not finite (ValueError). blocks: modules of the model
        that are called one after the other; with `activation_checkpointing: blocks` they drop their activations and
        compute them again for the gradient. Their results must depend only on their inputs, parameters and buffers, and
        torch's random generators.
        augment: `augment(batch, generator)` gives the batch that an update trains on in place of `batch`, on the same
        device and with as many examples; `generator` is a numpy.random.Generator seeded for that update, from which all
        its random numbers come. Evaluations and measurements get batches that were not augmented. With
        `accumulate_steps` it is called for each micro-batch.
        predict: `predict(model, batch)` gives what `training.predictions` keeps of chosen examples: a dict of at most
        20 values by name, each with one entry for each example. A value is a list of texts, or a tensor: shape [B] are
        numbers; [B, C, H, W] with C 1 or 3, uint8, bool or floats, are images; any other shape [B, ...] are arrays. Of
        a text the first 2,000 characters are kept, of an array the first 1,000 numbers, of an image larger than 128
        pixels every n-th one. `input` and `target`, where it gives them, are kept once, since they do not change. Where
        `prediction` and `target` are both one whole number, correct predictions are counted by class. It is called in
        evaluation mode, without gradients.
        output: the output layer, as modules or parameters of the model, which muon and adaptive clipping treat in their
        own way. Empty: the layer that the model defines last, if the loss is computed from it; else the probe asks.
        parameter_groups: `parameter_groups(model)` gives the groups of the optimizer as torch takes them: a list of
        dicts with `params` and options such as `lr` and `weight_decay`, with each trained parameter in one group. A
        group's `lr` is its rate where the schedule's factor is 1, in place of the study's learning_rate. With a second
        parameter it also gets the training configuration: `{"params": head, "lr": 10 * configuration.learning_rate}`.
        collate: `collate(examples)` gives the batch of a list of examples, or a dict of such functions by split; None
        for torch's default. A batch may be nested: dicts, lists, tuples, named tuples, dataclasses, and objects with
        `to(device)`. With `accumulate_steps` it is called for each micro-batch.
        sampler: the order in which updates take the examples of `train`, in place of a random permutation in each
        epoch: `sampler(dataset, epoch, generator)` gives the places of the examples of an epoch, by random numbers of
        `generator` (numpy.random.Generator) alone; or a torch Sampler, read anew for each epoch with torch's random
        numbers seeded. An update has always `batch_size` examples, also across the end of an epoch. Evaluations and
        measurements of the curvature take the examples of `train` as they are in the data set.
        loaders: torch DataLoaders by split, for splits that are not in `data`. Of each the data set, the collate_fn
        and, of `train`, the order are used. The study decides on the size of batches and on loader processes.
        evaluate: `evaluate(model, dataset, device)` gives metrics of a whole split that are no averages over examples,
        as an area under a curve, an F1 or a BLEU score: a dict of numbers by new names without a slash. It is called
        for each evaluated split, with the examples that are evaluated, in evaluation mode without gradients; `finalize`
        gets what it gives. It may not change the model.
        on_evaluation: `on_evaluation(trial)` is called after each evaluation with a `tunectl.EvaluatedTrial`, and may
        write pictures and other files into `trial.folder`, which the page shows by trial and step. It may not change
        the model.
    """

    model: nn.Module
    data: Mapping[str, Dataset[Any]] = field(default_factory=dict)
    loss: Callable[[Any, Any], Any] = no_loss
    metrics: Callable[[Any, Any], Mapping[str, Any]] | None = None
    baseline_loss: float | None = None
    finalize: Callable[[dict[str, float]], Mapping[str, float]] | None = None
    blocks: Sequence[nn.Module] = ()
    augment: Callable[[Any, Generator], Any] | None = None
    predict: Callable[[Any, Any], Mapping[str, Any]] | None = None
    output: Sequence[nn.Module | nn.Parameter] = ()
    parameter_groups: Callable[..., Sequence[Mapping[str, Any]]] | None = None
    collate: Callable[[list[Any]], Any] | Mapping[str, Callable[[list[Any]], Any]] | None = None
    sampler: ExampleSampler | None = None
    loaders: Mapping[str, DataLoader[Any]] = field(default_factory=dict)
    evaluate: Callable[[Any, Any, torch.device], Mapping[str, Any]] | None = None
    on_evaluation: Callable[[Any], object] | None = None
