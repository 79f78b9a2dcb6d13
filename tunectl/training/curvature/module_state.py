"""All that a forward and a backward pass can change in a model, so that it can be put back."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

from torch import Tensor, nn

from tunectl.training.buffers import BufferValues

_CONTAINERS = (dict, OrderedDict, list, set, deque)


class ModuleState:
    """The attributes of each module of a model, as they are now: flags, counters, caches, buffers, parameters.

    Tensors and built-in containers among the attributes are restored with their contents. Objects of other types are
    restored as the same objects: what they hold is not known here.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(module, module.training, dict(vars(module))) for module in model.modules()]
        values = [value for _, _, attributes in self._modules for value in attributes.values()]
        self._contents = [(value, _elements(value)) for value in values if type(value) in _CONTAINERS]
        self._buffers = BufferValues(model)
        self._tensors = [
            (module, name, value, value.detach().clone())
            for module, _, attributes in self._modules
            for name, value in attributes.items()
            if isinstance(value, Tensor) and not value.requires_grad
        ]

    def put_back(self) -> None:
        """Restore all of it."""
        for container, elements in self._contents:
            container.clear()
            (container.update if isinstance(container, (dict, set)) else container.extend)(elements)
        for module, training, attributes in self._modules:
            now = vars(module)
            for name in now.keys() - attributes.keys():
                del now[name]
            now.update(attributes)
            if module.training != training:
                module.training = training
        self._buffers.put_back()
        for _, _, tensor, values in self._tensors:
            tensor.data.copy_(values)

    def lend_copies(self) -> None:
        """Give the modules copies of the buffers and of other tensors without a gradient, until `put_back`."""
        self._buffers.lend_copies()
        for module, name, _, values in self._tensors:
            vars(module)[name] = values.clone()


def _elements(container: Any) -> Any:
    return list(container.items()) if isinstance(container, dict) else list(container)


class ParameterState:
    """The values, gradients, flags and hooks of a model's parameters, as they are now.

    Until `put_back` the parameters have no gradient and no backward hooks, and neither have the modules: a hook that
    changes gradients would change the products, and one that writes them down would count the measurement, too.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept: list[tuple[Any, Tensor, Tensor, bool, Tensor | None, Any]] = []
        for parameter in model.parameters():
            hooks = parameter._backward_hooks
            storage, values = parameter.data, parameter.detach().clone()
            self._kept.append((parameter, storage, values, parameter.requires_grad, parameter.grad, hooks))
            parameter.grad = None
            if hooks is not None:
                parameter._backward_hooks = None
        for module in model.modules():
            # The dicts' contents are among the containers of ModuleState.
            for name in ("_backward_hooks", "_backward_pre_hooks"):
                getattr(module, name, {}).clear()

    def put_back(self) -> None:
        """Restore all of it but the modules' hooks, which are among their attributes."""
        for parameter, storage, values, requires_grad, grad, hooks in self._kept:
            if parameter.data_ptr() != storage.data_ptr():
                parameter.data = storage
            parameter.data.copy_(values)
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)
            parameter.grad = grad
            if hooks is not None:
                parameter._backward_hooks = hooks
