"""Which parameters muon trains by its own rule, and which by AdamW's, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from tunectl.core.wording import first_listed
from tunectl.training.output_layer import OutputLayer, is_weight

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NORMALIZATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_MATRIX_LAYERS = (nn.Linear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Placed:
    """A trained parameter, by its first name in the model; `why` it is a matrix for muon, or why it is not."""

    name: str
    parameter: nn.Parameter
    is_matrix: bool
    why: str


@dataclass(frozen=True, slots=True)
class MuonSplit:
    """All trained parameters of a model in its order, each once."""

    placed: tuple[Placed, ...]

    def parameters(self, *, matrices: bool) -> list[nn.Parameter]:
        """Those that are trained by Muon's rule, or the others."""
        return [item.parameter for item in self.placed if item.is_matrix == matrices]

    def in_words(self) -> str:
        """On one line: the matrices, the others by their reason, and what was decided by the shape alone."""
        matrices = [item for item in self.placed if item.is_matrix]
        parts = [f"muon trains {_counted(matrices) if matrices else 'nothing, as there is no hidden matrix'}"]
        others: dict[str, list[Placed]] = {}
        for item in self.placed:
            if not item.is_matrix:
                others.setdefault(item.why, []).append(item)
        parts += [f"adamw {why}: {_counted(items)}" for why, items in others.items()]
        unsure = [item for item in matrices if item.why == _BY_SHAPE]
        if unsure:
            parts.append(f"taken for matrices by their shape alone: {_counted(unsure)}")
        return "; ".join(parts)


_BY_SHAPE = "by its shape"


def muon_split(model: nn.Module, parameters: Sequence[nn.Parameter], output: OutputLayer) -> MuonSplit:
    """The split of these trained parameters of a model: Muon's rule is for the matrices of hidden layers.

    AdamW trains the output layer, embeddings (also where another layer has the same weight), weights of
    normalizations, vectors (a matrix of one row is one), and tensors with three axes or more: which of them would be
    rows, is not known. The weights of convolutions are matrices [outputs, inputs * kernel]. A matrix that is no weight
    of torch's own layers is one by its shape alone, which `in_words` says.
    """
    owners: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(module)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return MuonSplit(
        tuple(
            Placed(names[id(parameter)], parameter, *_place(parameter, owners[id(parameter)], output))
            for parameter in parameters
        )
    )


def _place(parameter: nn.Parameter, owners: Sequence[nn.Module], output: OutputLayer) -> tuple[bool, str]:
    if any(isinstance(owner, _EMBEDDINGS) for owner in owners):
        return False, "embedding" if parameter not in output else "embedding, also output layer"
    if parameter in output:
        return False, "output layer"
    if any(isinstance(owner, _NORMALIZATIONS) for owner in owners):
        return False, "normalizations"
    if not is_weight(parameter):
        return False, "vectors"
    if any(isinstance(owner, _ConvNd) for owner in owners):
        return True, "a convolution"
    if parameter.ndim > 2:
        return False, "tensors with more than two axes"
    return True, "a layer" if any(isinstance(owner, _MATRIX_LAYERS) for owner in owners) else _BY_SHAPE


def _counted(items: Sequence[Placed]) -> str:
    numbers = sum(item.parameter.numel() for item in items)
    return f"{first_listed([item.name for item in items], _MOST_NAMED)} ({numbers:,} numbers)"
