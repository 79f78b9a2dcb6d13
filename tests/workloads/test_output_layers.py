"""The output layers of the built-in workloads are what their losses are computed from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch.utils.data import default_collate

from tunectl.training.output_layer import check_output_layer, is_weight, output_layer, weights_of_loss
from tunectl.workloads import digits, images, text
from tunectl.workloads.workload import Workload

SMALL: dict[str, Any] = {"num_layers": 1, "embedding_size": 8, "num_heads": 2, "mlp_size": 8, "sequence_length": 8}


@pytest.mark.parametrize(
    "factory",
    [
        digits.mlp,
        digits.cnn,
        lambda: images.resnet(depth=18, width=4, data="digits"),
        lambda: text.transformer_lm(**SMALL),
        lambda: text.transformer_lm(**SMALL, tied_embeddings=True),
    ],
    ids=["mlp", "cnn", "resnet", "transformer", "tied transformer"],
)
def test_the_layer_that_a_built_in_workload_declares_or_defines_last_is_that_of_its_loss(
    factory: Callable[[], Workload],
) -> None:
    workload = factory()
    losses = workload.loss(workload.model, default_collate([workload.data["train"][place] for place in range(2)]))
    values = losses[0] if isinstance(losses, tuple) else losses
    layer = output_layer(workload.model, workload.output)
    check_output_layer(workload.model, layer, values, "the test")
    (weight,) = weights_of_loss(values)
    assert [id(parameter) for parameter in layer.parameters if is_weight(parameter)] == [id(weight)]
