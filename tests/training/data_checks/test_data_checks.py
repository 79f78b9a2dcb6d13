"""What is wrong with planted data is found, and nothing else.

Tests training/data_checks/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from training_builders import Augmented, labelled

from tunectl.core.data_report import DataFinding, DataReport
from tunectl.training.data_checks.data_checks import data_report
from tunectl.training.streams import StreamedExamples
from tunectl.workloads.workload import Workload

CLASSES = 4


def loss(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0].float().nan_to_num()), batch[1], reduction="none")


def splits(seed: int = 0, **sizes: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Images of noise in 8 bits and labels, by split: every class in each of them."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randint(0, 256, (size, 1, 8, 8), generator=generator, dtype=torch.uint8),
            torch.arange(size) % CLASSES,
        )
        for name, size in ({"train": 200, "valid": 60, "test": 60} | sizes).items()
    }


def report(data: dict[str, Any], **options: Any) -> DataReport:
    sets = {name: TensorDataset(*part) if isinstance(part, tuple) else part for name, part in data.items()}
    return data_report(Workload(nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)), sets, loss), 0, **options)


def found(data: dict[str, Any], **options: Any) -> list[tuple[str, str, int]]:
    return [(item.check, item.split, item.count) for item in report(data, **options).findings]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    for seed in range(20):
        whole = report(splits(seed))
        assert whole.findings == ()
        assert whole.looked_at == {"train": (200, 200), "valid": (60, 60), "test": (60, 60)}
        assert not whole.is_partial


def test_examples_of_train_in_valid_and_test_are_counted_with_their_labels_and_a_pair_is_named() -> None:
    data = splits()
    data["valid"][0][7:10] = data["train"][0][107:110]  # 107 % 4 == 7 % 4
    data["test"][0][5] = data["valid"][0][30]
    first, second = report(data).findings
    assert (first.check, first.split, first.count, first.doubt) == ("duplicates", "valid", 3, True)
    assert first.message.startswith(
        "3 of the 60 examples of valid are in train too, with the same values (such as valid["
    )
    assert "another label" not in first.message
    assert second.message == (
        "1 of the 60 examples of test is in valid too, with the same values (such as test[5], which is valid[30]);"
        " 1 of them with another label"
    )


RESCALED: dict[str, Callable[[Tensor], Tensor]] = {
    "to fractions": lambda image: image.float() / 255,
    "around zero": lambda image: image.float() / 127.5 - 1,
    "standardised": lambda image: (image.float() - 33.3) / 78.6,
    "darker and in 8 bits again": lambda image: (image.float() * 0.8).round().to(torch.uint8),
    "float64": lambda image: image.double() * 1e-6 + 5,
    "half": lambda image: (image.float() / 255).half(),
}


@pytest.mark.parametrize("change", RESCALED.values(), ids=RESCALED)
def test_examples_that_were_rescaled_in_one_of_the_splits_are_found(change: Callable[[Tensor], Tensor]) -> None:
    data = splits()
    images = change(data["valid"][0])
    images[11:21] = change(data["train"][0][31:41])
    (finding,) = report({**data, "valid": (images, data["valid"][1])}).findings
    assert (finding.check, finding.split, finding.count) == ("duplicates", "valid", 10)
    assert "in train too, apart from scale and shift" in finding.message


def test_each_channel_may_be_scaled_by_itself() -> None:
    random = torch.Generator().manual_seed(1)
    train = torch.rand(100, 3, 6, 6, generator=random)
    valid = torch.rand(50, 3, 6, 6, generator=random)
    scale, shift = torch.tensor([2.0, 0.5, 3.0]), torch.tensor([-1.0, 0.1, 0.4])
    valid[:4] = train[20:24]
    valid = valid * scale[:, None, None] + shift[:, None, None]
    labels = (torch.arange(100) % CLASSES, torch.arange(50) % CLASSES)
    data = {"train": (train, labels[0]), "valid": (valid, labels[1])}
    sets = {name: TensorDataset(*part) for name, part in data.items()}
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, CLASSES))
    (finding,) = data_report(Workload(model, sets, loss), 0).findings
    assert (finding.check, finding.count) == ("duplicates", 4)


def test_examples_that_are_only_similar_are_not_called_the_same() -> None:
    """One pixel of 64 is one shade of 17 brighter: an example of its own in digits of 8x8 pixels."""
    random = np.random.default_rng(3)
    train = torch.from_numpy(random.integers(0, 17, (200, 1, 8, 8)).astype(np.float32))
    valid = train[:60].clone()
    pixel = random.integers(0, 8, (60, 2))
    for number, (row, column) in enumerate(pixel):
        value = valid[number, 0, row, column]
        valid[number, 0, row, column] = value + 1 if value < 16 else value - 1
    data = {"train": (train, torch.arange(200) % CLASSES), "valid": (valid, torch.arange(60) % CLASSES)}
    assert found(data) == []
    flipped = {**data, "valid": (train[:60].flip(3), data["valid"][1])}
    assert found(flipped) == [], "mirrored ones are other examples"


def test_images_of_one_colour_are_the_same_only_where_the_colour_is() -> None:
    data = splits()
    data["train"][0][3] = 0
    data["valid"][0][4] = 255
    assert found(data) == []
    data["valid"][0][4] = 0
    assert found(data) == [("duplicates", "valid", 1)]


class Items(Dataset[Any]):
    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def sentences(words: Sequence[str]) -> Items:
    return Items([{"text": word, "label": number % 2} for number, word in enumerate(words)])


def test_text_is_compared_without_case_and_spaces() -> None:
    train = sentences([f"Sentence  number {number}" for number in range(40)])
    valid = sentences(["sentence NUMBER 3 ", "Sentence  number 5", "sentencenumber 7", "Other 1", "Other 2"])
    (first, second) = report({"train": train, "valid": valid}).findings[:2]
    assert (first.count, second.count) == (1, 1)
    assert "with the same values (such as valid[1], which is train[5])" in first.message
    assert "(such as valid[0], which is train[3])" in second.message


def test_tokens_are_names_and_not_rescaled() -> None:
    tokens = torch.arange(12).repeat(30, 1) + torch.arange(30)[:, None]
    assert found({"train": (tokens, torch.arange(30) % 2), "valid": (tokens[:9] + 500, torch.arange(9) % 2)}) == []


def test_dicts_arrays_numbers_and_pictures_are_read_and_what_is_not_is_said() -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (6, 6, 3)).astype(np.uint8) for _ in range(80)]
    train = Items(
        [{"x": (Image.fromarray(array), [1, 2]), "y": np.int64(n % 2)} for n, array in enumerate(arrays[:60])]
    )
    valid = Items(
        [{"x": (Image.fromarray(array), [1, 2]), "y": np.int64(n % 2)} for n, array in enumerate(arrays[55:])]
    )
    assert found({"train": train, "valid": valid})[0] == ("duplicates", "valid", 5)
    (finding,) = report({"train": Items([(object(), 1)] * 60), "valid": valid}).findings
    assert finding == DataFinding(
        "not looked at", "train", "not all of train was looked at: item[0] is a object", 0, False
    )


def test_a_data_set_that_fails_is_said_and_the_others_are_looked_at() -> None:
    class Broken(Items):
        def __getitem__(self, index: int) -> Any:
            raise OSError(2, "No such file", "picture-7.png")

    data = splits()
    whole = report({**data, "test": Broken([1, 2])})
    assert [item.message for item in whole.findings] == [
        "an example of test cannot be read: FileNotFoundError: [Errno 2] No such file: 'picture-7.png'"
    ]
    assert set(whole.looked_at) == {"train", "valid"}


def test_random_examples_are_not_compared_and_that_is_said() -> None:
    whole = report({"train": Augmented(labelled(50)), "valid": labelled(20), "test": labelled(20)})
    (random, same) = [item for item in whole.findings if item.check in ("not looked at", "duplicates")]
    assert (random.split, random.doubt) == ("train", False)
    assert (same.split, same.count) == ("test", 20)


def test_numbers_that_are_none_are_found_in_inputs_and_targets() -> None:
    x, y = torch.rand(60, 9).double(), torch.rand(60)
    x[9] = 1e300  # no number of float32, but finite
    x[3, 2], x[5, 1], y[7] = float("nan"), float("inf"), float("nan")
    data = {"train": (x, y), "valid": (torch.rand(20, 9).double(), torch.rand(20))}
    assert found(data) == [("not finite", "train", 2), ("not finite", "train", 1)]
    assert "infinite values in item[0] (such as train[" in report(data).findings[0].message


def test_classes_that_a_split_lacks_are_named_from_both_sides() -> None:
    data = splits()
    data["train"][1][data["train"][1] == 2] = 1
    data["valid"][1][data["valid"][1] == 3] = 0
    messages = [item.message for item in report(data).findings]
    assert messages == [
        "valid has no example of class 3 of item[1], which train has",
        "valid has examples of class 2 of item[1], and train has none",
        "test has examples of class 2 of item[1], and train has none",
    ]


def test_numbers_of_examples_are_no_classes() -> None:
    data = splits()
    numbered = {
        name: (images, labels, torch.arange(len(labels)) + 1000 * len(name)) for name, (images, labels) in data.items()
    }
    assert found(numbered) == []


@pytest.mark.parametrize("label", [CLASSES, -1])
def test_labels_for_which_the_loss_fails_are_named_but_not_those_of_test(label: int) -> None:
    data = splits()
    for name in ("train", "valid", "test"):
        data[name][1][8:12] = label
    (first, second) = report(data).findings
    assert (first.check, first.split, second.split) == ("labels", "train", "valid")
    assert f"the loss fails for class {label} of item[1] in train (such as train[" in first.message
    assert "Target" in first.message


def test_labels_that_the_loss_leaves_out_are_right() -> None:
    data = splits()
    for name in data:
        data[name][1][8:12] = -100  # torch's ignore_index
    assert found(data) == []


def test_features_that_are_constant_in_train_are_a_doubt_where_another_split_has_others() -> None:
    random = torch.Generator().manual_seed(0)
    train, valid = torch.rand(80, 20, generator=random), torch.rand(30, 20, generator=random)
    train[:, 3:5] = 1.0
    labels = torch.arange(80) % 2, torch.arange(30) % 2
    (finding,) = report({"train": (train, labels[0]), "valid": (valid, labels[1])}).findings
    assert finding.message == "2 of the 20 features of item[0] are constant in train, but not in valid"
    valid[:, 3:5] = 1.0
    (finding,) = report({"train": (train, labels[0]), "valid": (valid, labels[1])}).findings
    assert (finding.count, finding.doubt) == (2, False)


def test_single_pixels_may_be_constant_but_no_channel() -> None:
    data = splits()
    data["train"][0][:, :, 0] = 0
    assert found(data) == []
    three = {name: (torch.rand(len(part[1]), 3, 5, 5), part[1]) for name, part in data.items()}
    for images, _ in three.values():
        images[:, 2] = 0.5
    sets: dict[str, Dataset[Any]] = {name: TensorDataset(*part) for name, part in three.items()}
    model = nn.Sequential(nn.Flatten(), nn.Linear(75, CLASSES))
    (finding,) = data_report(Workload(model, sets, loss), 0).findings
    assert finding.message == "1 of the 3 channels of item[0] are constant in train"


def test_a_data_set_that_takes_too_long_is_looked_at_in_part_and_the_part_is_said() -> None:
    times = iter(range(10_000))
    data = splits(train=2000, valid=640, test=640)
    whole = report(data, seconds=20.0, now=lambda: float(next(times)))
    assert whole.is_partial
    looked_at, size = whole.looked_at["train"]
    assert 64 <= looked_at < size
    assert whole.findings == (), "no class is called missing for that"


def test_duplicates_in_a_part_are_counted_in_what_was_looked_at() -> None:
    data = splits(train=2000, valid=640, test=640)
    data["valid"] = (data["train"][0][:640], data["train"][1][:640])
    times = iter(range(10_000))
    finding = report(data, seconds=20.0, now=lambda: float(next(times))).findings[0]
    assert finding.check == "duplicates"
    assert 0 < finding.count < 640
    assert "examples of valid that were looked at are in train too" in finding.message


def test_valid_with_the_transforms_of_train_is_no_split_of_its_own() -> None:
    data = splits()
    assert found({**data, "valid_for_training": data["valid"]}) == []


def test_a_report_is_read_as_it_was_written() -> None:
    data = splits()
    data["valid"][0][0] = data["train"][0][0]
    whole = report(data)
    assert DataReport.from_json(whole.to_json()) == whole


def test_the_global_generators_are_as_before() -> None:
    workload = Workload(nn.Linear(6, 3), {"train": Augmented(labelled(50)), "valid": labelled(20)}, loss)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    data_report(workload, 0)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]


def test_whole_numbers_that_are_counts_are_no_classes() -> None:
    random = torch.Generator().manual_seed(0)
    data = {
        name: (images, labels, torch.randint(0, 90, (len(labels),), generator=random))
        for name, (images, labels) in splits().items()
    }
    assert found(data) == []


def test_a_split_of_examples_of_train_on_purpose_is_no_doubt() -> None:
    data = splits()
    (finding,) = report({**data, "clean": (data["train"][0][:30], data["train"][1][:30])}).findings
    assert (finding.check, finding.split, finding.doubt) == ("duplicates", "clean", False)


def test_a_slow_loss_is_tried_for_the_first_and_the_last_labels_alone() -> None:
    images, labels = torch.rand(400, 1, 8, 8), torch.arange(400) % 80
    labels[labels == 79] = 500
    tried: list[int] = []

    def slow(model: nn.Module, batch: Any) -> Tensor:
        time.seconds += 2.0
        tried.extend(batch[1].tolist())
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    class Time:
        seconds = 0.0

    time = Time()
    sets: dict[str, Dataset[Any]] = {name: TensorDataset(images, labels) for name in ("train", "valid")}
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 80))
    sets["valid"] = TensorDataset(torch.rand(400, 1, 8, 8), labels)
    whole = data_report(Workload(model, sets, slow), 0, now=lambda: time.seconds)
    (finding,) = [item for item in whole.findings if item.check == "labels"]
    assert finding.message.startswith("the loss fails for class 500 of item[1] in train")
    assert len(tried) < 80


def test_a_stream_is_read_once_in_its_order_and_copies_in_it_are_found() -> None:
    class Rows:
        reads = 0

        def __init__(self, images: Tensor, labels: Tensor) -> None:
            self.images, self.labels = images, labels

        def __len__(self) -> int:
            return len(self.labels)

        def __iter__(self) -> Iterator[Any]:
            for item in zip(self.images, self.labels, strict=True):
                Rows.reads += 1
                yield item

    data = splits()
    data["valid"][0][7:10] = data["train"][0][107:110]
    streams: dict[str, Any] = {name: StreamedExamples(Rows(*part)) for name, part in data.items()}
    assert found(streams) == [("duplicates", "valid", 3)]
    # Once to look at, and the first of each twice to see whether they are the same each time.
    assert Rows.reads <= 200 + 60 + 60 + 2 * 3 * 33


def test_examples_that_are_dataclasses_are_looked_at_and_the_order_of_a_sampler_is_described() -> None:
    @dataclass
    class Record:
        image: Tensor
        label: int

    data = splits()
    sets: dict[str, Any] = {
        name: [Record(image, int(label)) for image, label in zip(*part, strict=True)] for name, part in data.items()
    }
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    workload = Workload(
        model,
        sets,
        loss,
        collate=lambda items: (
            torch.stack([item.image for item in items]),
            torch.tensor([item.label for item in items]),
        ),
        sampler=lambda dataset, epoch, generator: [0, 0, 5],
    )
    whole = data_report(workload, 0)
    (finding,) = whole.findings
    assert (finding.check, finding.doubt) == ("sampler", False)
    assert finding.message.endswith("its first epoch has 3 places, of 2 of the 200 examples")
    assert whole.looked_at["train"] == (200, 200)
