"""A compiled trial is the eager one up to rounding, goes on bit for bit, and says what cannot be compiled.

Tests compiled.py, compile_note.py. The backend here is aot_eager: torch's compiler without its code generation.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_builders import (
    StopAt,
    comparable,
    cross_entropy,
    make_request,
    plain_workload,
    stochastic_workload,
    train_trial,
)

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.training import compile_note, compiled
from tunectl.training.compile_note import _in_words
from tunectl.training.probe import probe


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    monkeypatch.setattr(compile_note, "_TIMED", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, while it is imported
        import torch._dynamo
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def folder_in(path: Path, name: str) -> TrialFolder:
    folder = TrialFolder(path / name)
    folder.path.mkdir()
    return folder


def test_a_compiled_trial_is_the_eager_one_and_goes_on_bit_for_bit(tmp_path: Path):
    request = make_request(compile=True)
    whole, stopped = folder_in(tmp_path, "whole"), folder_in(tmp_path, "stopped")
    assert train_trial(request, whole, stochastic_workload) is not None
    assert compiled.compiled_graphs() == 1, "evaluations are eager: they would be further graphs"
    assert train_trial(request, stopped, stochastic_workload, stop=StopAt(11)) is None
    torch._dynamo.reset()
    assert train_trial(request, stopped, stochastic_workload) is not None
    assert comparable(stopped) == comparable(whole)
    # aot_eager runs torch's own operations, so that the numbers are those of eager mode.
    eager = folder_in(tmp_path, "eager")
    assert train_trial(make_request(), eager, stochastic_workload) is not None
    kept, other = (torch.load(folder.resume, weights_only=True)["model"] for folder in (whole, eager))
    assert kept.keys() == other.keys(), "checkpoints of compiled models have no names of their own"
    torch.testing.assert_close(kept, other, rtol=1e-4, atol=1e-5)


def test_micro_batches_of_two_sizes_are_compiled_each(tmp_path: Path):
    request = make_request(compile=True, accumulate_steps=3)
    assert train_trial(request, folder_in(tmp_path, "trial"), plain_workload) is not None
    assert compiled.compiled_graphs() == 2, "3, 3 and 2 of 8 examples"


def test_more_shapes_than_are_compiled_end_the_trial_with_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiled, "MOST_SHAPES", 3)
    model = nn.Linear(6, 3)
    loss = compiled.update_loss(model, cross_entropy, compiled=True)

    def of_sizes(*sizes: int) -> None:
        for size in sizes:
            loss(model, (torch.zeros(size, 6), torch.zeros(size, dtype=torch.long)))

    of_sizes(2, 3, 4)
    with pytest.raises(WorkloadError, match="compiled for each shape of a batch, and there are more than 3"):
        of_sizes(5)
    assert model._compiled_call_impl is None, "it is eager for all others"


def test_an_exception_of_the_user_s_code_is_its_own():
    def failing(model: Any, batch: Any) -> Tensor:
        raise KeyError("mine")

    model = nn.Linear(6, 3)
    with pytest.raises(KeyError, match="mine"):
        compiled.update_loss(model, failing, compiled=True)(model, None)
    assert compiled.update_loss(model, failing, compiled=False) is failing


def test_the_probe_compiles_and_says_what_it_costs_and_gains():
    (note,) = probe(make_request(compile=True), plain_workload, device="cpu").notes
    assert note.startswith("compile: ")
    assert " ms without: it " in note


def test_a_loss_that_does_not_call_the_model_itself_is_refused_since_nothing_would_be_compiled():
    def loss(model: Any, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model[2](model[1](model[0](batch[0]))), batch[1], reduction="none")

    with pytest.raises(WorkloadError, match="does not call the model itself"):
        probe(make_request(compile=True), lambda: replace(plain_workload(), loss=loss), device="cpu")


def test_a_compiler_that_is_missing_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    def no_compiler(*_: Any) -> Any:
        from torch._inductor.exc import InvalidCxxCompiler

        raise InvalidCxxCompiler

    monkeypatch.setattr(compiled, "BACKEND", no_compiler)
    with pytest.raises(WorkloadError, match=r"compile: the model cannot be compiled: .*needs a C\+\+ compiler"):
        probe(make_request(compile=True), plain_workload, device="cpu")


def test_what_it_gains_is_put_beside_the_length_of_a_trial():
    said = (
        "compile: 10 s at the start of each trial (less where torch has cached it); a forward and backward pass takes"
    )
    assert _in_words(10.0, 4e-3, 3e-3, 20_000) == (
        f"{said} 3 ms, and 4 ms without: it pays, as it gains from 10,000 passes on, and a trial has 20,000"
    )
    assert "it does not pay" in _in_words(10.0, 4e-3, 3e-3, 2_000)
    assert (
        _in_words(10.0, 4e-3, 4e-3, 2_000) == f"{said} 4 ms, and 4 ms without: it gains nothing here; leave compile out"
    )
