"""Loss curves by formula, healthy and sick, for the tests of detection."""

from __future__ import annotations

import numpy as np

LN_10 = float(np.log(10.0))


def healthy(generator: np.random.Generator, updates: int | None = None) -> np.ndarray:
    """A loss that falls, or stays, with the noise of minibatches."""
    updates = updates or int(np.exp(generator.uniform(np.log(60), np.log(1500))))
    t = np.arange(updates)
    start = LN_10 * np.exp(0.5 * generator.normal())
    floor = start * 10 ** generator.uniform(-2.5, -0.3)
    level: np.ndarray = [
        floor + (start - floor) * np.exp(-t / (updates * generator.uniform(0.02, 0.5))),
        start * (1 + t / generator.uniform(5, 50)) ** -generator.uniform(0.1, 0.8),
        start * (1 - 0.3 * t / updates),
        np.full(updates, start),
        floor + 0.6 * (start - floor) * (t < updates / 2) + 0.4 * start * np.exp(-t / (0.02 * updates + 1)),
    ][generator.integers(5)]
    loss: np.ndarray = level * noise(generator, updates)
    return loss


def noise(generator: np.random.Generator, updates: int) -> np.ndarray:
    """Factors with a mean near 1: lognormal, gamma, or correlated from update to update."""
    kind = generator.integers(3)
    if kind == 0:
        return np.exp(generator.uniform(0.02, 0.3) * generator.normal(size=updates))
    if kind == 1:
        shape = generator.uniform(4, 30)
        return generator.gamma(shape, 1 / shape, size=updates)
    share, values = generator.uniform(0.3, 0.6), generator.normal(size=updates)
    for place in range(1, updates):
        values[place] = share * values[place - 1] + np.sqrt(1 - share**2) * values[place]
    factors: np.ndarray = np.exp(generator.uniform(0.03, 0.15) * values)
    return factors


def bump(updates: int, first: int, length: int, factor: float) -> np.ndarray:
    """Factors that rise to `factor` for `length` updates from `first` on, with flanks of a third."""
    t = np.arange(updates)
    height = np.clip(np.minimum(t - first + 1, first + length - t) / (length / 3), 0, 1)
    factors: np.ndarray = np.exp(np.log(factor) * height)
    return factors


def calm(generator: np.random.Generator, updates: int, noise_deviation: float = 0.1) -> np.ndarray:
    """A descent from ln 10 to a twentieth of it."""
    level = LN_10 * (0.05 + 0.95 * np.exp(-np.arange(updates) / (0.2 * updates)))
    return level * np.exp(noise_deviation * generator.normal(size=updates))


def catapult(generator: np.random.Generator) -> tuple[np.ndarray, int]:
    updates = int(generator.integers(300, 1500))
    first, length = int(generator.integers(0, 8)), int(generator.integers(6, 30))
    return calm(generator, updates) * bump(updates, first, length, generator.uniform(4, 100)), first


def mid_rise(generator: np.random.Generator) -> tuple[np.ndarray, int]:
    updates = int(generator.integers(400, 1500))
    first, length = int(generator.uniform(0.3, 0.7) * updates), int(generator.uniform(0.04, 0.2) * updates)
    return calm(generator, updates) * bump(updates, first, max(length, 20), generator.uniform(4, 30)), first


def dies(generator: np.random.Generator) -> tuple[np.ndarray, int]:
    updates = int(generator.integers(400, 1500))
    first = int(generator.uniform(0.3, 0.8) * updates)
    loss = calm(generator, updates)
    loss[first:] = LN_10 + 0.01 * generator.normal(size=updates - first)
    return loss, first


def climbs(generator: np.random.Generator) -> tuple[np.ndarray, int]:
    updates = int(generator.integers(400, 1500))
    first = int(generator.uniform(0.3, 0.6) * updates)
    loss = calm(generator, updates)
    loss[first:] *= np.exp(np.log(generator.uniform(5, 20)) * np.arange(updates - first) / (updates - first))
    return loss, first
