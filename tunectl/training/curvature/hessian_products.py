"""Products of a loss's Hessian with vectors, by double backward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tunectl.training.curvature.double_backward import Gradients, flat_vector, gradient_with_graph, hessian_product
from tunectl.training.curvature.measured_loss import ChunkLosses, MeasuredLoss, NotMeasured, checked_weight
from tunectl.training.curvature.needed_memory import fit_to_memory


class HessianProducts:
    """The gradient g of a mean loss over n trained weights, and products of its Hessian H [n, n] with vectors.

    Vectors are flat, float64, in the order of `parameters`, on their device; the products themselves are computed in
    the precision of the weights. A weight that the loss does not use has zeros in g and H; one in which it is linear,
    in H. Where the examples fit the memory at once, the graph of the gradient is kept for all products (Pearlmutter,
    "Fast exact multiplication by the Hessian", 1994); else each product goes through the chunks and builds it anew.

    To be used while the model is in its measured state, and the weights must not change: after all products, release it
    before they do. Attributes: `size` is n; `gradient` g [n]; `loss` the mean loss; `gradient_product` H g [n];
    `products` counts the products, H g not among them; `reached` is, by parameter, whether the loss depends on it.

    Raises NotMeasured where the memory is too small even for a part of the examples, where gradients are sparse, and
    for exceptions of the workload's code.
    """

    def __init__(self, loss: MeasuredLoss, parameters: Sequence[nn.Parameter]) -> None:
        self._loss, self._parameters = loss, list(parameters)
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self.size, self.products = sum(self._sizes), 0
        self.reached = [False] * len(self._parameters)
        self._kept: Gradients | None = None
        self._weight: float | None = None
        # With the first product, which takes the most memory: to halve the examples later would change the gradient.
        self.loss, self.gradient, self.gradient_product = loss.fitting(
            self._begun, may_halve=True, release=self.release
        )

    def product(self, vector: Tensor) -> Tensor:
        """H vector, shape [n]; raises NotMeasured where the memory has become too small."""
        self.products += 1
        return self._loss.fitting(lambda: self._product(vector), may_halve=False, release=self.release)

    def release(self) -> None:
        """Free the graph of the gradient; another product would build it anew."""
        self._kept = None

    def _begun(self) -> tuple[float, Tensor, Tensor]:
        fit_to_memory(self._loss, self._parameters)
        total, weight, gradient, chunks = 0.0, 0.0, self._zeros(), self._loss.examples.chunks
        self._weight = None
        for chunk in range(chunks):
            losses = self._loss.losses(chunk)
            total += float(losses.values.detach().to(torch.float64).sum())
            weight += losses.weight
            grads = self._gradients(losses)
            gradient += self._flat(grads)
            self.reached = [reached or part is not None for reached, part in zip(self.reached, grads, strict=True)]
            self._kept = grads if chunks == 1 else None
            del losses, grads  # the graph of this chunk goes before the next one is built
        if chunks > 1:
            # Divided by the number of examples: what their weights sum to is known only now.
            gradient *= self._loss.examples.count / checked_weight(weight)
        self._weight = weight
        return total / weight, gradient, self._product(gradient)

    def _product(self, vector: Tensor) -> Tensor:
        scale = vector.abs().max()
        if not bool(scale > 0):
            return vector * 0.0
        # A power of two, which changes no digit: entries near 1 neither overflow nor vanish in float32.
        scale = torch.exp2(torch.floor(torch.log2(scale)))
        shaped = [
            part.view(parameter.shape)
            for part, parameter in zip(torch.split(vector / scale, self._sizes), self._parameters, strict=True)
        ]
        if self._kept is not None:
            return self._flat(hessian_product(self._kept, self._parameters, shaped, keep=True)) * scale
        total = self._zeros()
        for chunk in range(self._loss.examples.chunks):
            grads = self._gradients(self._loss.losses(chunk))
            total += self._flat(hessian_product(grads, self._parameters, shaped, keep=False))
            del grads
        return total * scale

    def _gradients(self, losses: ChunkLosses) -> Gradients:
        divisor = self._weight
        if divisor is None:
            examples = self._loss.examples
            divisor = checked_weight(losses.weight) if examples.chunks == 1 else examples.count
        return gradient_with_graph(losses.values, self._parameters, divisor)

    def _flat(self, parts: Gradients) -> Tensor:
        if any(part is not None and part.layout is not torch.strided for part in parts):
            raise NotMeasured("a gradient is sparse (nn.Embedding(sparse=True)?)")
        return flat_vector(parts, self._parameters)

    def _zeros(self) -> Tensor:
        return torch.zeros(self.size, dtype=torch.float64, device=self._parameters[0].device)
