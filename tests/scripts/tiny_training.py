"""What the scripts here train: a linear regression in plain Python, where all randomness comes from the seed."""

import json
import os
import random
import signal
import time
from pathlib import Path

STEP_SECONDS = 0.02  # an epoch of real training takes longer than a look at its files
WIDTH = 4


class Training:
    """Stochastic gradient descent with momentum and weight decay; `save` and `load` keep all of its state."""

    def __init__(self, seed: int, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.random = random.Random(seed)
        self.weights = [self.random.gauss(0, 1) for _ in range(WIDTH)]
        self.velocity = [0.0] * WIDTH
        data = random.Random(0)
        truth = [data.gauss(0, 1) for _ in range(WIDTH)]
        rows = [[data.gauss(0, 1) for _ in range(WIDTH)] for _ in range(128)]
        self.data = [(row, sum(a * b for a, b in zip(row, truth, strict=True)) + data.gauss(0, 0.3)) for row in rows]

    def update(self) -> float:
        """One update with one example; its loss."""
        row, target = self.random.choice(self.data[:64])
        error = self.answer(row) - target
        for index, value in enumerate(row):
            slope = error * value + self.weight_decay * self.weights[index]
            self.velocity[index] = self.momentum * self.velocity[index] + slope
            self.weights[index] -= self.lr * self.velocity[index]
        return error * error

    def epoch(self, updates: int = 10) -> float:
        """Make some updates; return their mean loss."""
        time.sleep(STEP_SECONDS)
        return sum(self.update() for _ in range(updates)) / updates

    def valid(self) -> float:
        """The loss on what is not trained on."""
        return sum((self.answer(row) - target) ** 2 for row, target in self.data[64:]) / 64

    def right(self) -> float:
        """The part of it whose sign is right."""
        return sum((self.answer(row) > 0) == (target > 0) for row, target in self.data[64:]) / 64

    def answer(self, row: list[float]) -> float:
        return sum(a * b for a, b in zip(row, self.weights, strict=True))

    def save(self, path: str | Path, **more: object) -> None:
        state = {"weights": self.weights, "velocity": self.velocity, "random": self.random.getstate(), **more}
        Path(path).write_text(json.dumps(state))

    def load(self, path: str | Path) -> dict[str, int]:
        state = json.loads(Path(path).read_text())
        self.weights, self.velocity = state["weights"], state["velocity"]
        version, numbers, gauss = state["random"]
        self.random.setstate((version, tuple(numbers), gauss))
        return dict(state)


def wait_at(step: int) -> None:
    """Where a test asks for it: say that this step is reached, and wait for a signal."""
    at, _, folder = os.environ.get("WAIT_AT", "").partition(":")
    if at == str(step):
        (Path(folder) / f"reached-{os.getpid()}").touch()
        signal.pause()
