"""What the benchmarks compare with: training the digits' perceptron 64-128-10 by a plain loop that indexes tensors.

It starts from the weights of a trial of the same seed and takes its batches, so it ends where the trial ends.
`python scripts/plain_training.py FIRST LAST` trains the trials of `bench_runner.py` from FIRST up to LAST - 1.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tunectl.training.seeds import Purpose, seed_everything, sequence
from tunectl.workloads import digits

WIDTH = 128
BATCH_SIZE = 64
EVALUATION_BATCH_SIZE = 1024
MOMENTUM = 0.9
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how a model is trained; `fused` picks torch's fused kernels, as a trial does, or its default."""

    steps: int
    eval_every: int
    learning_rate: float = 0.05
    max_norm: float | None = None
    fused: bool = True


@dataclass(slots=True)
class Trained:
    """The valid loss at the end, and where the time went, in seconds of wall."""

    valid_loss: float = 0.0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    evaluations: list[dict[str, float]] = field(default_factory=list)


def train(plan: Plan, seed: int) -> Trained:
    """Train one model, evaluating it at step 0, every `eval_every` steps and at the end."""
    seed_everything(sequence(seed, Purpose.MODEL), CPU)
    model = digits.mlp(num_layers=1, width=WIDTH).model
    inputs, labels = digits.load().splits["train"].tensors
    splits = {"train": (inputs[:300], labels[:300]), "valid": digits.load().splits["valid"].tensors}
    parameters = list(model.parameters())
    # Left alone, torch takes a slower loop over the parameters on the CPU.
    kernels = True if plan.fused else None
    optimizer = torch.optim.SGD(parameters, lr=plan.learning_rate, momentum=MOMENTUM, fused=kernels)
    trained, order, place, epoch = Trained(), _permutation(seed, 0, len(labels)), 0, 0
    began = time.perf_counter()
    model.train()
    for step in range(plan.steps + 1):
        if step % plan.eval_every == 0 or step == plan.steps:
            now = time.perf_counter()
            trained.train_seconds += now - began
            trained.evaluations.append({name: _evaluate(model, *split) for name, split in splits.items()})
            began = time.perf_counter()
            trained.eval_seconds += began - now
        if step == plan.steps:
            break
        examples = order[place : place + BATCH_SIZE]
        place += BATCH_SIZE
        if len(examples) < BATCH_SIZE:
            epoch += 1
            order, place = _permutation(seed, epoch, len(labels)), BATCH_SIZE - len(examples)
            examples = torch.cat([examples, order[:place]])
        optimizer.zero_grad(set_to_none=True)
        scores = model(inputs.index_select(0, examples))
        cross_entropy(scores, labels.index_select(0, examples)).backward()
        if plan.max_norm is not None:
            nn.utils.clip_grad_norm_(parameters, plan.max_norm)
        optimizer.step()
    trained.valid_loss = trained.evaluations[-1]["valid"]
    return trained


def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    generator = np.random.Generator(np.random.PCG64(sequence(seed, Purpose.ORDER, epoch)))
    return torch.from_numpy(generator.permutation(size))


def _evaluate(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The mean loss over a split; the error rate is computed, as a trial does, and forgotten."""
    loss_sum, errors = 0.0, 0
    model.eval()
    with torch.no_grad():
        for start in range(0, len(labels), EVALUATION_BATCH_SIZE):
            scores, right = model(inputs[start : start + EVALUATION_BATCH_SIZE]), labels[start:][:EVALUATION_BATCH_SIZE]
            loss_sum += cross_entropy(scores, right, reduction="sum").item()
            errors += (scores.argmax(dim=1) != right).sum().item()
    model.train()
    return loss_sum / len(labels)


def main() -> None:
    torch.set_num_threads(1)
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        train(Plan(steps=100, eval_every=10, fused=False), seed)


if __name__ == "__main__":
    main()
