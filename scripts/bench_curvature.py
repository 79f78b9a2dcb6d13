"""What curvature costs. A product of the Hessian with a vector, beside a gradient over the same examples as training
computes it, for a small convolutional network and a small transformer: times in turns, medians of the rounds' ratios.

The goal for a product is at most 3.5 gradients. Each measurement is a function that prints its lines; `main` calls them
in turn.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tunectl.training.curvature.hessian_products import HessianProducts
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import MeasuredLoss
from tunectl.training.curvature.measured_model import measured_model
from tunectl.training.optimizers import trainable_parameters
from tunectl.workloads import digits
from tunectl.workloads.workload import Workload

CPU = torch.device("cpu")
ROUNDS = 9
PRODUCT_GOAL = 3.5
LETTERS, LENGTH, WIDTH = 64, 32, 64


class Transformer(nn.Module):
    """Two blocks of attention over sequences of letters; predicts each next letter."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(LETTERS, WIDTH), nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        block = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.scores = nn.Linear(WIDTH, LETTERS)

    def forward(self, letters: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(letters.shape[1])
        values = self.blocks(self.table(letters) + self.places[: letters.shape[1]], mask=mask, is_causal=True)
        scores: Tensor = self.scores(values)
        return scores


def transformer() -> Workload:
    torch.manual_seed(0)
    sequences = torch.randint(0, LETTERS, (128, LENGTH + 1))

    def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
        scores = model(batch[0][:, :-1]).transpose(1, 2)
        return nn.functional.cross_entropy(scores, batch[0][:, 1:], reduction="none").mean(dim=1)

    return Workload(Transformer(), {"train": TensorDataset(sequences)}, loss)


def cnn() -> Workload:
    torch.manual_seed(0)
    return digits.cnn(num_layers=3, width=24)


@dataclass(frozen=True, slots=True)
class Case:
    """A workload that is measured on this number of examples."""

    name: str
    make: Callable[[], Workload]
    examples: int


CASES = (Case("CNN", cnn, 1024), Case("transformer", transformer, 128))


@contextmanager
def products(workload: Workload, examples: int) -> Iterator[HessianProducts]:
    with measured_model(workload.model, "train", CPU) as model:
        loss = MeasuredLoss(workload, MeasuredExamples(workload.data["train"], examples, CPU), model)
        yield HessianProducts(loss, trainable_parameters(workload.model))


def seconds(call: Callable[[], object], least: float = 0.2) -> float:
    """The seconds of a call, by calls that take at least `least` seconds together."""
    calls, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < least:
        call()
        calls += 1
    return elapsed / calls


def gradient(workload: Workload, batch: list[Tensor], parameters: list[nn.Parameter]) -> object:
    return torch.autograd.grad(workload.loss(workload.model, batch).mean(), parameters)


def product_cost() -> None:
    print(f"{'one product':16}{'weights':>10}{'examples':>10}{'gradient':>12}{'product':>12}{'ratio':>8}{'begin':>8}")
    for case in CASES:
        workload = case.make()
        workload.model.train()
        parameters = trainable_parameters(workload.model)
        batch = MeasuredExamples(workload.data["train"], case.examples, CPU).batch(0)

        rounds = []
        for _ in range(ROUNDS):
            one = seconds(partial(gradient, workload, batch, parameters))
            began = time.perf_counter()
            with products(workload, case.examples) as made:
                begun = time.perf_counter() - began
                rounds.append((one, seconds(partial(made.product, made.gradient)), begun))
        ones, others, begins = zip(*rounds, strict=True)
        ratio = statistics.median(other / one for one, other in zip(ones, others, strict=True))
        begin = statistics.median(begun / one for one, begun in zip(ones, begins, strict=True))
        print(
            f"{case.name:16}{sum(p.numel() for p in parameters):10,}{case.examples:10,}"
            f"{statistics.median(ones) * 1e3:9.1f} ms{statistics.median(others) * 1e3:9.1f} ms{ratio:8.2f}{begin:8.1f}",
            flush=True,
        )
    print(
        f"ratio: product / gradient, goal at most {PRODUCT_GOAL}; begin: the gradient's graph, the first product, and"
    )
    print("what is put back, in gradients (the first time with the test of memory)")


def main() -> None:
    torch.set_num_threads(1)
    product_cost()


if __name__ == "__main__":
    main()
