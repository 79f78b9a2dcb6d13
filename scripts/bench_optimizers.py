"""What an update of our own rules costs, beside the nearest optimizer of torch's with foreach=True in the same run.

Two models: many small parameters, where the calls count, and a few large ones, where memory does. Each pair is timed in
turns and the median of the rounds' ratios is printed; below 1.1 is as fast as torch's own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.optimizers import make_optimizer

MODELS: dict[str, Callable[[], nn.Module]] = {
    "60 of 64 x 64": lambda: nn.Sequential(*[nn.Linear(64, 64) for _ in range(30)]),
    "8 of 1024 x 1024": lambda: nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(4)]),
}
REFERENCES: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-3, foreach=True),
    "nadam_playbook": lambda p: torch.optim.NAdam(p, lr=1e-3, foreach=True),
    "adam_playbook": lambda p: torch.optim.Adam(p, lr=1e-3, foreach=True),
    "rmsprop_playbook": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, foreach=True),
    "lamb": lambda p: torch.optim.Adam(p, lr=1e-3, foreach=True),
    "lion": lambda p: torch.optim.Adam(p, lr=1e-3, foreach=True),
    "muon": lambda p: torch.optim.Muon([each for each in p[:-2] if each.ndim == 2], lr=1e-3),
}
"""LAMB, which torch has not, is Adam and two norms for each parameter; Lion has one moment less than Adam. Muon is
torch's for the matrices alone (since 2.9), without the AdamW for the others.
"""

ROUNDS, SECONDS = 9, 0.25
GOAL = 1.1


def seconds_per_update(optimizer: torch.optim.Optimizer) -> float:
    updates, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < SECONDS:
        optimizer.step()
        updates += 1
    return elapsed / updates


def with_gradients(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = make()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'rule':18}{'parameters':20}{'ours':>10}{'torch':>10}{'ratio':>8}  (goal: under {GOAL})")
    for name, reference in REFERENCES.items():
        for size, make in MODELS.items():
            ours = make_optimizer(
                with_gradients(make),
                TrainingConfiguration(learning_rate=1e-3, optimizer=name, momentum=0.9),  # type: ignore[arg-type]
            )
            theirs = reference(list(with_gradients(make).parameters()))
            rounds = [(seconds_per_update(ours), seconds_per_update(theirs)) for _ in range(ROUNDS)]
            mine, other = (statistics.median(times) * 1e6 for times in zip(*rounds, strict=True))
            ratio = statistics.median(one / two for one, two in rounds)
            print(f"{name:18}{size:20}{mine:7.0f} us{other:7.0f} us{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
