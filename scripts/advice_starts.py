"""Ten studies that begin badly, each in its own way, on MNIST-1D: what `bench_advice.py` begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RATE = "{role: nuisance, range: [1e-3, 1], scale: log}"


@dataclass(frozen=True)
class Start:
    """A study of the two-layer perceptron on MNIST-1D, and in a few words what is wrong with it.

    `trials` are those of a round, for each setting; `seed` is put into both seeds of the text.
    """

    wrong: str
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    steps: int = 600
    trials: int = 16

    def text(self, name: str, seed: int) -> str:
        """The study file."""
        entries = {"optimizer": "momentum", "momentum": "0.9", "batch_size": "64", "learning_rate": RATE}
        entries |= self.hyperparameters
        return "\n".join(
            [
                f"study: {name}",
                "workload: tunectl.workloads.mnist1d:mlp",
                "objective: {metric: valid/error_rate, direction: minimize}",
                f"training: {{max_train_steps: {self.steps}, eval_every: {max(1, self.steps // 20)}, "
                f"keep_checkpoints: 1, seed: {seed}}}",
                "hyperparameters:",
                *(f"  {key}: {entry}" for key, entry in entries.items() if entry),
                f"search: {{trials: {self.trials}, seed: {seed}}}",
                "",
            ]
        )


STARTS: Mapping[str, Start] = {
    "too-narrow": Start(
        "the learning rate is searched far below the best",
        {"learning_rate": "{role: nuisance, range: [1e-5, 1e-3], scale: log}"},
    ),
    "too-wide": Start(
        "both ranges reach over ten decades and more",
        {
            "learning_rate": "{role: nuisance, range: [1e-9, 1e3], scale: log}",
            "weight_decay": "{role: nuisance, range: [1e-10, 10], scale: log}",
        },
    ),
    "edge-of-stability": Start(
        "large initial weights make training unstable where it is best",
        {"init_scale": "3.0", "learning_rate": "{role: nuisance, range: [1e-3, 10], scale: log}"},
    ),
    "wrong-scale": Start(
        "the learning rate and the weight decay have linear scales",
        {
            "learning_rate": "{role: nuisance, range: [1e-5, 3]}",
            "weight_decay": "{role: nuisance, range: [0.0, 1.0]}",
        },
    ),
    "too-short": Start("trials end long before they have learnt what they can", steps=60),
    "too-long": Start("few trials, which have finished long before their end", steps=6_000, trials=8),
    "useless": Start(
        "most of what is searched makes no difference",
        {
            "optimizer": "adam",
            "momentum": "",
            "learning_rate": "{role: nuisance, range: [1e-4, 1], scale: log}",
            "epsilon": "{role: nuisance, range: [1e-12, 1e-8], scale: log}",
            "beta2": "{role: nuisance, range: [0.99, 0.9999], scale: one_minus_log}",
            "weight_decay": "{role: nuisance, range: [1e-9, 1e-6], scale: log}",
            "label_smoothing": "{role: nuisance, range: [0.0, 0.01]}",
        },
        trials=40,
    ),
    "wrong-fixed-value": Start("a dropout of 0.7 is fixed", {"dropout": "0.7"}),
    "noise": Start(
        "batches of two examples and a high rate of dropout make trials noisy",
        {"batch_size": "2", "dropout": "0.3", "momentum": "", "optimizer": "sgd"},
    ),
    "two-settings": Start(
        "two optimizers are compared with one range of rates, which suits one of them",
        {
            "optimizer": "{role: scientific, values: [momentum, adam]}",
            "momentum": "{role: fixed, when: {optimizer: momentum}, value: 0.9}",
            "learning_rate": "{role: nuisance, range: [1e-2, 10], scale: log}",
        },
        trials=12,
    ),
}
