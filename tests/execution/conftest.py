"""Toy trials under a real fork server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy_trials import Toys


@pytest.fixture
def make_toys(tmp_path: Path) -> Iterator[Callable[..., Toys]]:
    made: list[Toys] = []

    def make(factory: str = "loads", text: str = "toy:loads") -> Toys:
        toys = Toys(tmp_path / "trials", factory, text)
        made.append(toys)
        toys.start()
        return toys

    yield make
    for toys in made:
        toys.backend.close()


@pytest.fixture
def toys(make_toys: Callable[..., Toys]) -> Toys:
    return make_toys()
