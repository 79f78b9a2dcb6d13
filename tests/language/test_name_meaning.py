"""What names say: which hyperparameters regularise, are shares, sizes, or of the optimizer."""

from __future__ import annotations

import pytest
from each_case import each_case

from tunectl.core.records import Scalar
from tunectl.language.configuration import FIELDS
from tunectl.language.name_meaning import (
    chooses_optimizer,
    is_architecture,
    is_model_size,
    is_of_optimizer,
    is_of_schedule,
    is_off,
    is_share,
    off_value,
    regularises,
)

STRENGTHS = [
    "weight_decay",
    "wd",
    "l1",
    "l2",
    "l2_penalty",
    "dropout",
    "dropout_rate",
    "attn_dropout",
    "hidden_dropout_prob",
    "resid_pdrop",
    "drop_rate",
    "drop_path",
    "drop_path_rate",
    "layerdrop",
    "stochastic_depth",
    "label_smoothing",
    "label_smoothing_factor",
    "mixup",
    "mixup_alpha",
    "cutmix_alpha",
    "cutout",
    "random_erasing",
    "input_noise",
    "noise_std",
    "color_jitter",
    "dropoutRate",
    "model.weight-decay",
]
OTHERS = [
    "width",
    "num_layers",
    "depth",
    "hidden_size",
    "d_model",
    "n_layer",
    "num_heads",
    "activation",
    "normalization",
    "init",
    "init_scale",
    "init_scale_scope",
    "kernel_size",
    "lr",
    "lr_decay",
    "epochs",
    "batch_size",
    "seed",
    "data_dir",
    "hidden_act",
    "block_size",
    "optimizer_name",
]


@each_case("name", STRENGTHS)
def test_a_strength_of_regularisation_is_known_by_its_name_and_off_at_0(name: str) -> None:
    assert regularises(name) is True
    assert off_value(name, 0.3) == 0


@each_case("name", [*OTHERS, *(name for name in FIELDS if name != "weight_decay")])
def test_what_shapes_or_trains_the_network_does_not_regularise(name: str) -> None:
    assert regularises(name) is False
    assert off_value(name, 0.3) is None


@pytest.mark.parametrize("name", ["gamma", "kl_weight", "margin", "head_temperature", "patience"])
def test_a_name_that_does_not_say_is_left_open(name: str) -> None:
    assert regularises(name) is None


def test_where_regularisation_is_off_is_said_only_where_it_is_sure() -> None:
    assert off_value("augment", True) is False
    assert off_value("augment", "none") == "none"
    unsure: dict[str, Scalar] = {
        "augment": "rand",
        "keep_prob": 0.9,
        "survival_prob": 0.8,
        "randaugment_n": 2,
        "noise_dim": 64,
    }
    for name, value in unsure.items():
        assert regularises(name) is not False
        assert off_value(name, value) is None, name


def test_off_is_0_false_or_a_word_for_it() -> None:
    assert all(is_off(value) for value in (0, 0.0, False, "none", "Off"))
    assert not any(is_off(value) for value in (0.1, True, "rand"))


def test_a_share_lies_below_1_and_the_parameter_of_a_distribution_does_not() -> None:
    assert all(
        is_share(name) for name in ("dropout", "attn_dropout", "label_smoothing", "drop_path_rate", "mixup_prob")
    )
    assert not any(is_share(name) for name in ("mixup_alpha", "weight_decay", "keep_prob", "width"))


@pytest.mark.parametrize(
    ("means", "names", "others"),
    [
        (
            is_model_size,
            "width num_layers depth hidden_size hidden_dim model_dim d_model num_heads num_blocks num_units channels "
            "num_channels model_size n_layers numLayers model.width embed_dim hidden_width",
            "batch_size image_width kernel_size model learning_rate optimizer",
        ),
        (
            is_architecture,
            "width model model_name architecture arch backbone network normalization normalisation norm",
            "batch_size grad_norm model_path optimizer",
        ),
        (chooses_optimizer, "optimizer optimiser optim opt optimizer_name Optimizer", "optimizer_steps opts momentum"),
        (is_of_optimizer, "momentum rho beta1 beta2 beta_1 epsilon eps", "learning_rate bn_momentum optimizer"),
        (
            is_of_schedule,
            "schedule lr_schedule lr_scheduler scheduler decay_steps decay_factor end_learning_rate_factor",
            "warmup_steps weight_decay learning_rate",
        ),
    ],
)
def test_a_name_means_one_thing(means, names, others):
    assert [name for name in names.split() if not means(name)] == []
    assert [name for name in others.split() if means(name)] == []


def test_what_has_one_meaning_does_not_regularise():
    """Every field but weight_decay, and all sizes, are known not to regularise."""
    for name in [*FIELDS, "width", "n_layers", "d_model", "hidden_dim", "arch", "optim", "lr_schedule"]:
        assert regularises(name) is (name == "weight_decay"), name
