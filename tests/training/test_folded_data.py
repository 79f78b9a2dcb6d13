from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, SequentialSampler, TensorDataset
from training_builders import Augmented, labelled, plain_workload, stochastic_workload

from tunectl.core.errors import WorkloadError
from tunectl.training.folded_data import folded, folded_data, joined
from tunectl.workloads.data.parallel_text import parallel_text
from tunectl.workloads.data.text_data import text_data


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


def test_a_data_set_with_a_sum_of_its_own_is_added_by_it_and_batches_of_text_stay_as_short(tmp_path: Path) -> None:
    numbers: Any = parallel_text(
        "numbers", tokenizer="bytes", source_language="en", target_language="de", sequence_length=128
    ).splits
    (tmp_path / "train.txt").write_text("a line\n" * 30 + "a somewhat longer line\n")
    (tmp_path / "valid.txt").write_text("another line\n" * 5)
    lines: Any = text_data(str(tmp_path), tokenizer="bytes", examples="lines", sequence_length=64).splits
    for splits in (numbers, lines):
        train, valid = splits["train"], splits["valid"]
        both: Any = joined(train, valid)
        assert type(both) is type(train)
        assert len(both) == len(train) + len(valid)
        chosen = [0, 7, len(train) - 1, len(train), len(both) - 1]
        for index in chosen:
            part, place = (train, index) if index < len(train) else (valid, index - len(train))
            assert all(map(torch.equal, both[index], part[place]))
            assert all(map(torch.equal, both.__getitems__([index])[0], part.__getitems__([place])[0]))
        # A batch with examples of both has one length, which is that of the longest of them.
        batch = both.__getitems__(chosen)
        assert len({example[0].shape for example in batch}) == 1
        assert len(batch[0][0]) < len(both[0][0])
        assert type(joined(train, labelled(2))) is ConcatDataset


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (
            SequentialSampler(labelled(50)),
            "a SequentialSampler has the places of the examples of 'train' alone",
        ),
        (lambda dataset, epoch, generator: generator.permutation(50), "whose places now follow the 50 of 'train'"),
    ],
)
def test_a_sampler_that_never_takes_an_example_of_valid_is_refused(sampler: Any, expected: str) -> None:
    workload = replace(plain_workload(), sampler=sampler)
    for work in (folded, folded_data):
        with pytest.raises(WorkloadError, match=expected):
            work(workload)
    sound = replace(workload, sampler=lambda dataset, epoch, generator: generator.permutation(len(dataset))[:5])
    assert folded(sound).sampler is sound.sampler


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
