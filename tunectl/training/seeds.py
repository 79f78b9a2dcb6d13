"""Random numbers of a trial: a seed for each purpose, and generator states that can be saved and restored."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np
import torch


class Purpose(IntEnum):
    """The purpose of a seed. The numbers are part of every trial's result and never change."""

    MODEL = 1
    ORDER = 2
    EXAMPLES = 3
    TRAINING = 4
    EVALUATION = 5
    CURVATURE = 6
    AUGMENTATION = 7
    INITIALISATION = 8
    STATISTICS = 9
    AGREEMENT = 10


TRAIN_SAMPLE_SEED = 20230119
"""The seed for the evaluated examples of a split: the same in every trial, so that trials are compared on them."""

EXAMPLES_SEED = 20261127
"""The seed for the examples whose predictions are kept, which are the same in every trial."""


def sequence(seed: int, purpose: Purpose, *indices: int) -> np.random.SeedSequence:
    """The seed sequence of (trial seed, purpose, indices); `seed` may be any int."""
    return np.random.SeedSequence((seed % 2**64, int(purpose), *indices))


def short_seed(seed: int, purpose: Purpose) -> int:
    """An int in [0, 2^32) for a workload's factory, as numpy's legacy seeding and scikit-learn accept it."""
    return int(sequence(seed, purpose).generate_state(1, np.uint32)[0])


def seed_host(seeds: np.random.SeedSequence) -> None:
    """Seed the host's global generators: torch (CPU), numpy and random, each with different words."""
    words = seeds.generate_state(8, np.uint32)
    torch.default_generator.manual_seed(int(words[0]) | int(words[1]) << 32)
    np.random.seed(words[2:6])
    random.seed(int(words[6]) | int(words[7]) << 32)


def seed_everything(seeds: np.random.SeedSequence, device: torch.device) -> None:
    """Seed the host's global generators and, on a GPU, the device's."""
    seed_host(seeds)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(int(seeds.generate_state(9, np.uint32)[8]))


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of all global generators as plain ints, floats, lists and tensors (loadable with weights_only=True)."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, python_gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.default_generator.get_state(),
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, torch.tensor(words, dtype=torch.int64), python_gauss],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore what `random_state` gave; without the GPU's state where the trial continues on a CPU, or the reverse."""
    torch.default_generator.set_state(state["torch"])
    keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, words, python_gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), python_gauss))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextlib.contextmanager
def host_randomness(seeds: np.random.SeedSequence) -> Iterator[None]:
    """Run the block with the host's generators seeded; afterwards their states are as before it."""
    torch_state, numpy_state, python_state = (
        torch.default_generator.get_state(),
        np.random.get_state(),
        random.getstate(),
    )
    seed_host(seeds)
    try:
        yield
    finally:
        torch.default_generator.set_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextlib.contextmanager
def randomness(seeds: np.random.SeedSequence, device: torch.device) -> Iterator[None]:
    """As `host_randomness`, and for the device's generator too."""
    cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        with host_randomness(seeds):
            if cuda_state is not None:
                torch.cuda.manual_seed(int(seeds.generate_state(9, np.uint32)[8]))
            yield
    finally:
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, device)
