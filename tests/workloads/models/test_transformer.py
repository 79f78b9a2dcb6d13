"""The Transformers: sizes, masks, placements and derivatives. Tests transformer.py and attention.py."""

from __future__ import annotations

import copy
import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, pad
from transformer_shapes import shape_of

from tunectl.workloads.models.attention import Attention
from tunectl.workloads.models.residual_branches import NORM_PLACEMENTS
from tunectl.workloads.models.transformer import Branch, TransformerLM, Translator, sinusoids


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _model(**changes: Any) -> TransformerLM:
    torch.manual_seed(0)
    return TransformerLM(11, shape_of(**changes)).eval()


def _translator(*, shared_embeddings: bool = False, **changes: Any) -> Translator:
    torch.manual_seed(0)
    return Translator(11, 11, shape_of(**changes), shared_embeddings=shared_embeddings).eval()


def test_the_paper_s_language_model_has_as_many_parameters_as_by_hand():
    size, mlp, words = 512, 1024, 30_000
    attention = 4 * size * size
    layer = attention + (size * mlp + mlp) + (mlp * size + size) + 2 * 2 * size
    with torch.device("meta"):
        model = TransformerLM(words, shape_of(num_layers=6, size=size, num_heads=8, mlp_size=mlp))
    assert layer == 2_100_736
    assert _size(model) == words * size + 6 * layer + 2 * size + (size * words + words) == 43_355_440


def test_transformer_base_has_as_many_parameters_as_by_hand():
    size, mlp, words = 512, 2048, 32_000
    attention, norm = 4 * size * size, 2 * size
    perceptron = (size * mlp + mlp) + (mlp * size + size)
    encoder, decoder = attention + perceptron + 2 * norm, 2 * attention + perceptron + 3 * norm
    shape = shape_of(num_layers=6, size=size, num_heads=8, mlp_size=mlp)
    with torch.device("meta"):
        model = Translator(words, words, shape, shared_embeddings=False)
    separate = 3 * words * size + words  # source, target and output, which has biases
    assert _size(model) == separate + 6 * (encoder + decoder) + 2 * norm == 93_287_680


@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
def test_only_placements_that_begin_with_a_norm_have_one_after_the_last_layer(placement):
    model = _model(norm_placement=placement)
    assert not any(name.endswith("scalar") for name, _ in model.named_parameters())
    norms = {"pre": 2 * 2 + 1, "branch_end": 2 * 2, "post": 2 * 2, "sandwich": 2 * 4 + 1, "none": 0}
    found = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert len(found) == norms[placement]


class _Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x + 1


# x = (1, 3): N(x) = (-1, 1), f(x) = (3, 7), N(f(x)) = (-1, 1), f(N(x)) = (-1, 3), x + f(x) = (4, 10).
@pytest.mark.parametrize(
    ("placement", "result"),
    [("pre", (0, 6)), ("branch_end", (0, 4)), ("post", (-1, 1)), ("sandwich", (0, 4)), ("none", (4, 10))],
)
def test_each_placement_gives_what_the_formula_gives(placement, result):
    branch = Branch(_Double(), shape_of(norm_placement=placement, size=2, num_heads=1))
    found = branch(torch.tensor([[[1.0, 3.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[float(number) for number in result]]]), atol=1e-5, rtol=0)


def test_attention_is_softmax_of_scaled_products():
    torch.manual_seed(0)
    attention = Attention(6, 2, dropout=0.0)
    x, other = torch.randn(2, 3, 6), torch.randn(2, 4, 6)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    expected = torch.zeros(2, 3, 6)
    for example, head in product(range(2), range(2)):
        part = slice(3 * head, 3 * head + 3)
        query = x[example] @ attention.query.weight.T[:, part]
        key, value = (other[example] @ layer.weight.T[:, part] for layer in (attention.key, attention.value))
        scores = (query @ key.T / math.sqrt(3)).masked_fill(~mask[example], -math.inf)
        expected[example, :, part] = scores.softmax(1) @ value
    found = attention(x, attention.keys_and_values(other), mask[:, None, None, :])
    torch.testing.assert_close(found, expected @ attention.output.weight.T)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_later_token_changes_no_earlier_score(positions):
    tokens = torch.randint(11, (3, 8))
    changed = tokens.clone()
    changed[:, 5] = (tokens[:, 5] + 1) % 11
    for model, source in ((_model(positions=positions), ()), (_translator(positions=positions), (tokens[:, :4],))):
        before, after = model(*source, tokens), model(*source, changed)
        assert torch.equal(before[:, :5], after[:, :5])
        assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-3)


def test_padding_changes_no_score():
    tokens = torch.randint(11, (2, 6))
    source = torch.randint(11, (2, 4))
    padded = pad(tokens, (0, 3), value=-1)
    torch.testing.assert_close(_model()(padded)[:, :6], _model()(tokens))
    model = _translator()
    torch.testing.assert_close(model(pad(source, (0, 5), value=-1), padded)[:, :6], model(source, tokens))


def test_positions_have_the_sines_and_cosines_of_the_paper():
    table = sinusoids(50, 6)
    assert table.shape == (50, 6)
    for position, wave in product((0, 1, 49), range(3)):
        angle = position / 10_000 ** (2 * wave / 6)
        assert table[position, 2 * wave].item() == pytest.approx(math.sin(angle), abs=1e-5)
        assert table[position, 2 * wave + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    assert sinusoids(4, 5).shape == (4, 5)


def test_tied_embeddings_are_one_tensor_also_after_loading():
    model = _translator(tied_embeddings=True, shared_embeddings=True)
    separate = _translator()
    assert _size(separate) - _size(model) == 2 * 11 * 8 + 11
    state = copy.deepcopy(model.state_dict())
    other = Translator(11, 11, shape_of(tied_embeddings=True), shared_embeddings=True)
    other.load_state_dict(state)
    for each in (model, other):
        assert each.scores.tied is not None
        assert each.scores.tied.weight is each.embedding.tokens.weight is each.source_embedding.tokens.weight
    assert torch.equal(other.embedding.tokens.weight, model.embedding.tokens.weight)


def test_scores_of_tied_embeddings_have_the_size_of_the_others():
    # Vectors with elements of variance 1 have a product of variance `size` with one of them; it is divided by sqrt.
    torch.manual_seed(0)
    model = TransformerLM(500, shape_of(size=64, num_heads=1, tied_embeddings=True)).eval()
    assert 0.8 < model(torch.arange(10)[None]).std().item() < 1.3


def test_the_scale_of_the_init_multiplies_every_variable():
    for changes in ({}, {"init": "rezero", "norm_placement": "none"}, {"positions": "learned"}):
        whole, quarter = _model(**changes), _model(**changes, init_scale=0.25)
        for one, other in zip(whole.parameters(), quarter.parameters(), strict=True):
            torch.testing.assert_close(other, 0.25 * one)


def test_rezero_begins_as_the_identity_and_only_its_scalars_have_a_gradient_in_the_branches():
    model = _model(init="rezero", norm_placement="none")
    tokens = torch.randint(11, (2, 5))
    torch.testing.assert_close(model(tokens), model.scores(model.embedding(tokens)))
    model(tokens).square().sum().backward()
    for name, parameter in model.layers.named_parameters():
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).any()) == name.endswith("scalar"), name


@pytest.mark.parametrize("init", ["lecun_normal", "he_normal", "xavier"])
def test_matrices_have_the_variance_of_their_init_and_embeddings_that_of_one(init):
    torch.manual_seed(0)
    model = TransformerLM(300, shape_of(size=64, num_heads=2, mlp_size=256, init=init))
    variances = {"lecun_normal": 1 / 64, "he_normal": 2 / 64, "xavier": 2 / (64 + 256)}
    branch = model.layers[0].get_submodule("mlp.function.0")
    assert isinstance(branch, nn.Linear)
    assert branch.weight.var().item() == pytest.approx(variances[init], rel=0.05)
    assert bool((branch.bias == 0).all())
    assert model.embedding.tokens.weight.var().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("kind", ["lm", "nmt"])
def test_the_hessian_by_double_backward_agrees_with_differences_of_gradients(kind):
    model = (_model(activation="gelu") if kind == "lm" else _translator(activation="gelu")).double()
    tokens, source = torch.randint(11, (2, 5)), torch.tensor([[1, 2, 3], [4, -1, -1]])
    names = dict(model.named_parameters())
    vector = [torch.randn_like(parameter) for parameter in names.values()]

    def gradient(step: float) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        moved = [one.detach() + step * part for one, part in zip(names.values(), vector, strict=True)]
        weights = [one.requires_grad_() for one in moved]
        inputs = (tokens,) if kind == "lm" else (source, tokens)
        scores = functional_call(model, dict(zip(names, weights, strict=True)), inputs)
        loss = cross_entropy(scores[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        return torch.autograd.grad(loss, weights, create_graph=True), weights

    with sdpa_kernel(SDPBackend.MATH):
        grads, weights = gradient(0.0)
        products = torch.autograd.grad(grads, weights, vector)
        (above, _), (below, _) = gradient(1e-5), gradient(-1e-5)
    for found, one, other in zip(products, above, below, strict=True):
        torch.testing.assert_close(found, (one - other) / 2e-5, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_layers": 0}, "num_layers: expected a whole number, at least 1, got 0"),
        ({"size": 10, "num_heads": 4}, "embedding_size: expected a multiple of num_heads, 4, got 10"),
        ({"norm_placement": "middle"}, "norm_placement: expected one of pre, branch_end, post, sandwich, none"),
        ({"init": "fixup"}, "init: expected one of lecun_normal, he_normal, xavier, orthogonal, rezero, got 'fixup'"),
        ({"attention_dropout": 1.0}, "attention_dropout: expected a number, at least 0 and below 1"),
        ({"tied_embeddings": "yes"}, "tied_embeddings: expected true or false, got 'yes'"),
        ({"positions": "rotary"}, "positions: expected one of sinusoidal, learned"),
        ({"mlp_size": 2.5}, "mlp_size: expected a whole number, at least 1, got 2.5"),
    ],
)
def test_a_wrong_keyword_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        shape_of(**wrong)
