from __future__ import annotations

import torch
from measured_builders import CPU, points
from torch.utils.data import Dataset, Subset, TensorDataset
from training_builders import Augmented

from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.evaluated_splits import sample


def rows(examples: MeasuredExamples) -> torch.Tensor:
    return torch.cat([examples.batch(chunk)[0] for chunk in range(examples.chunks)])


def test_the_examples_are_the_sample_that_every_trial_has_whatever_their_division():
    data = points(50)
    expected = sample(data, 20).tensors[0]  # type: ignore[attr-defined]
    for chunks in (1, 3, 20, 100):
        examples = MeasuredExamples(data, 20, CPU, chunks=chunks)
        assert torch.equal(rows(examples), expected)
        assert sum(examples.sizes()) == 20
        assert max(examples.sizes()) - min(examples.sizes()) <= 1
    assert torch.equal(rows(MeasuredExamples(Subset(data, range(50)), 20, CPU)), expected)


def test_at_most_all_examples_are_measured():
    examples = MeasuredExamples(points(7), 1024, CPU)
    assert (examples.count, len(rows(examples))) == (7, 7)


def test_augmented_examples_are_drawn_with_fixed_seeds_and_no_generator_is_changed():
    torch.manual_seed(0)
    first = rows(MeasuredExamples(Augmented(points()), 20, CPU))
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(rows(MeasuredExamples(Augmented(points()), 20, CPU, chunks=4)), first)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)


def test_a_batch_is_a_copy():
    data = points()
    examples = MeasuredExamples(data, 100, CPU)
    examples.batch(0)[0].zero_()
    assert examples.batch(0)[0].any()
    assert data.tensors[0].any()


def test_they_are_divided_until_each_chunk_has_one_and_halved_down_to_two_of_the_same():
    examples = MeasuredExamples(points(11), 11, CPU)
    assert [examples.divide() and examples.chunks for _ in range(5)] == [2, 4, 8, 11, False]
    examples = MeasuredExamples(points(11), 11, CPU)
    whole = {tuple(row) for row in rows(examples).tolist()}
    assert examples.halve()
    assert {tuple(row) for row in rows(examples).tolist()} < whole
    assert (examples.count, examples.halve(), examples.count, examples.halve()) == (5, True, 2, False)


def test_batches_that_are_no_tensors_are_collated_as_in_training():
    class Named(Dataset[dict[str, object]]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> dict[str, object]:
            return {"x": torch.full((2,), float(index)), "name": str(index)}

    examples = MeasuredExamples(Named(), 6, CPU, chunks=2)
    batch = examples.batch(1)
    assert batch["x"].tolist() == [[3.0, 3.0], [4.0, 4.0], [5.0, 5.0]]
    assert batch["name"] == ["3", "4", "5"]


def test_batches_of_some_sizes_are_the_first_examples():
    data = TensorDataset(torch.arange(10.0))
    found = [batch[0].tolist() for batch in MeasuredExamples(data, 10, CPU).batches_of(1, 2)]
    assert found == [[0.0], [1.0, 2.0]]


def test_a_study_that_now_asks_for_another_number_of_examples_gets_it_after_a_resume() -> None:
    few, more, same = (MeasuredExamples(points(24), count, torch.device("cpu")) for count in (8, 16, 8))
    assert few.halve()
    more.load_state(few.state())
    same.load_state(few.state())
    assert (more.count, same.count) == (16, 4)
