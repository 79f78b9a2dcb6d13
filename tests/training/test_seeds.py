from __future__ import annotations

import io
import random

import numpy as np
import torch

from tunectl.training.seeds import (
    Purpose,
    host_randomness,
    random_state,
    randomness,
    seed_everything,
    sequence,
    set_random_state,
    short_seed,
)

CPU = torch.device("cpu")


def draws() -> list[float]:
    return [float(torch.rand(())), float(np.random.normal()), random.gauss(0, 1), float(torch.randn(()))]


def test_the_same_seed_gives_the_same_draws_and_every_purpose_its_own():
    seen = []
    for purpose in Purpose:
        seed_everything(sequence(7, purpose), CPU)
        first = draws()
        seed_everything(sequence(7, purpose), CPU)
        assert draws() == first
        seen += first
    assert len(set(seen)) == len(seen)


def test_seeds_that_follow_each_other_share_no_draws():
    seeds = {short_seed(seed, Purpose.MODEL) for seed in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_purposes_numbers_are_pinned_since_they_are_part_of_every_outcome():
    assert [(purpose.name, int(purpose)) for purpose in Purpose] == [
        ("MODEL", 1),
        ("ORDER", 2),
        ("EXAMPLES", 3),
        ("TRAINING", 4),
        ("EVALUATION", 5),
        ("CURVATURE", 6),
        ("AUGMENTATION", 7),
        ("INITIALISATION", 8),
        ("STATISTICS", 9),
        ("AGREEMENT", 10),
    ]
    assert short_seed(0, Purpose.MODEL) == 3964924996


def test_randomness_inside_a_block_is_fixed_and_leaves_the_generators_as_they_were():
    seed_everything(sequence(1, Purpose.TRAINING), CPU)
    untouched = draws()
    for block in (
        lambda: host_randomness(sequence(3, Purpose.EXAMPLES)),
        lambda: randomness(sequence(3, Purpose.EXAMPLES), CPU),
    ):
        seed_everything(sequence(1, Purpose.TRAINING), CPU)
        with block():
            inside = draws()
        assert draws() == untouched
        with block():
            assert draws() == inside


def test_generators_come_back_also_when_the_block_raises():
    seed_everything(sequence(1, Purpose.TRAINING), CPU)
    expected = draws()
    seed_everything(sequence(1, Purpose.TRAINING), CPU)
    try:
        with host_randomness(sequence(3, Purpose.EXAMPLES)):
            draws()
            raise KeyError
    except KeyError:
        pass
    assert draws() == expected


def test_a_saved_state_goes_through_weights_only_loading_and_continues_the_stream():
    seed_everything(sequence(5, Purpose.TRAINING), CPU)
    draws()
    random.gauss(0, 1)  # leaves half a pair behind
    np.random.normal()
    buffer = io.BytesIO()
    torch.save(random_state(CPU), buffer)
    expected = [*draws(), *draws()]
    buffer.seek(0)
    set_random_state(torch.load(buffer, weights_only=True), CPU)
    assert [*draws(), *draws()] == expected
