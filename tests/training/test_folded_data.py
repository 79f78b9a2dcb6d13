from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import ConcatDataset, TensorDataset
from training_builders import Augmented, labelled, plain_workload, stochastic_workload

from tunectl.training.folded_data import folded, folded_data, joined


def test_plain_tensors_are_joined_to_plain_tensors_in_their_order() -> None:
    first, second = labelled(5), labelled(3, seed=1)
    found: Any = joined(first, second)
    assert type(found) is TensorDataset
    assert [int(label) for label in found.tensors[1]] == [
        int(part[index][1]) for part in (first, second) for index in range(len(part))
    ]
    assert torch.equal(found.tensors[0][5:], second.tensors[0])


def test_other_data_sets_and_tensors_that_do_not_fit_are_joined_example_by_example() -> None:
    longer = TensorDataset(torch.zeros(2, 9), torch.zeros(2, dtype=torch.int64))
    halves = TensorDataset(torch.zeros(2, 6, dtype=torch.float16), torch.zeros(2, dtype=torch.int64))
    for second in (longer, halves, TensorDataset(torch.zeros(2, 6)), Augmented(labelled(2))):
        found: Any = joined(labelled(5), second)
        assert type(found) is ConcatDataset
        assert len(found) == 7
        assert len(found[6]) == len(second[1])


def test_valid_goes_into_train_and_is_no_split_any_more() -> None:
    workload = plain_workload()
    found = folded(replace(workload, data={**workload.data, "other": labelled(4)}))
    assert {name: len(data) for name, data in found.data.items()} == {"train": 70, "test": 20, "other": 4}  # type: ignore[arg-type]
    assert [len(data) for data in workload.data.values()] == [50, 20, 20]  # type: ignore[arg-type]


def test_valid_is_trained_on_with_the_transforms_of_train_where_the_workload_has_them() -> None:
    workload = plain_workload()
    data = {**workload.data, "valid_for_training": Augmented(labelled(20, seed=1))}
    train: Any = folded(replace(workload, data=data)).data["train"]
    assert train.datasets[1] is data["valid_for_training"]
    assert folded_data(replace(workload, data=data)).fold == "given"
    assert folded_data(workload).fold == "alike"
    assert folded_data(stochastic_workload()).fold == "as_evaluated"
    assert folded_data(replace(workload, data=data)).splits == {"train": 50, "valid": 20, "test": 20}
    assert folded_data(workload).trained_examples == 70


def test_the_hash_of_test_is_that_of_its_examples_alone() -> None:
    workload = plain_workload()

    def digest(test: Any) -> str:
        return folded_data(replace(workload, data={**workload.data, "test": test})).test_digest

    assert digest(labelled(20, seed=2)) == folded_data(plain_workload(width=3)).test_digest
    assert len({digest(labelled(20, seed=2)), digest(labelled(20, seed=3)), digest(labelled(21, seed=2))}) == 3
    # One that is drawn at random is the same split each time.
    assert digest(Augmented(labelled(20))) == digest(Augmented(labelled(20)))
    assert digest(["a", "b"]) == ""
    assert folded_data(stochastic_workload()).test_digest == ""
    assert not folded_data(stochastic_workload()).has_test
