"""Reduced precision: torch's autocast around the loss, and the loss scaling that float16 needs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tunectl.language.configuration import Precision

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_FIRST_SCALE, _GROWTH, _BACKOFF, _GROWTH_UPDATES = 2.0**16, 2.0, 0.5, 2000
"""As in torch.amp.GradScaler: the scale doubles after 2,000 updates without an overflow and halves at each one."""

_LEAST_SCALE = 1.0
"""Below this scale, a gradient that is not finite has another cause than the scale."""


def casting(precision: Precision, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context in which a loss or a metric is computed; it can be entered again, but not within itself.

    float32 changes nothing. Raises RuntimeError where the device has no autocast.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


class LossScaler:
    """Dynamic loss scaling: gradients are computed from the loss times `scale`, so that they do not vanish in float16.

    An update whose gradient overflows is skipped: neither the weights nor the optimizer's state change. Unlike torch's
    GradScaler, this does not wait for the device at every update: fused optimizers skip by themselves, and the scale is
    adapted on the device. For other optimizers `step` waits, as GradScaler does.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), _FIRST_SCALE, device=device)
        self._good_updates = torch.zeros((), dtype=torch.int32, device=device)
        self._overflow = torch.zeros_like(self.scale)

    def unscale(self, grads: Sequence[Tensor]) -> None:
        """Divide the gradients in place by the scale, and note on the device whether all of them are finite."""
        self._overflow = torch.zeros_like(self.scale)
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for grad in grads:
            by_dtype.setdefault(grad.dtype, []).append(grad._values() if grad.is_sparse else grad)
        for alike in by_dtype.values():
            torch._amp_foreach_non_finite_check_and_unscale_(alike, self._overflow, 1.0 / self.scale)

    def step(self, optimizer: torch.optim.Optimizer, grads: Sequence[Tensor]) -> Tensor:
        """Let the optimizer update its parameters unless the unscaled gradients overflowed, and adapt the scale.

        Gives 1 where the update was skipped because of the scale, else 0, shape [].
        """
        overflow = self._overflow
        # As torch's GradScaler asks: an option of this name does not say that an optimizer skips by itself.
        fused = getattr(optimizer, "_step_supports_amp_scaling", False) and all(
            group.get("fused") for group in optimizer.param_groups
        )
        if fused and not any(grad.is_sparse for grad in grads):
            owner: Any = optimizer
            owner.grad_scale, owner.found_inf = None, overflow
            try:
                optimizer.step()
            finally:
                del owner.grad_scale, owner.found_inf
        elif not overflow.item():
            optimizer.step()
        skipped = overflow * (self.scale >= _LEAST_SCALE)
        torch._amp_update_scale_(self.scale, self._good_updates, overflow, _GROWTH, _BACKOFF, _GROWTH_UPDATES)
        return skipped

    def state(self) -> dict[str, Tensor]:
        """The scale and the updates since it last changed, on the CPU."""
        return {"scale": self.scale.cpu(), "good_updates": self._good_updates.cpu()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` gave."""
        self.scale.copy_(state["scale"])
        self._good_updates.copy_(state["good_updates"])
