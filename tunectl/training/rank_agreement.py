"""That all ranks of a trial begin with the same model and data, go on from one state, and keep the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.records import TrialRequest
from tunectl.training.buffer_digests import digest, quick_digests
from tunectl.training.checkpoints import UnusableResume, load, load_resume
from tunectl.training.rank_states import parts_of_rank
from tunectl.training.ranks import Ranks
from tunectl.training.shared_buffers import own_memory
from tunectl.workloads.workload import Workload

_T = TypeVar("_T")

_OTHER_LOSSES = (
    "the model or the loss depends on what the devices of the trial do not share, as a mean of losses that a variable"
    " keeps, and that differs between them: the trial is another one than on one device"
)


def begin_alike(ranks: Ranks, workload: Workload) -> None:
    """Give the model of every rank the weights and buffers of rank 0, bit for bit.

    Raises WorkloadError where the ranks have built different models, or data of different sizes.
    """
    if ranks.count == 1:
        return
    model = workload.model
    own_memory(model)
    parts = {
        "model": [_description(name, item) for name, item in _named(model)],
        **{f"data[{name!r}]": len(split) for name, split in workload.data.items()},  # type: ignore[arg-type]
        "baseline_loss": workload.baseline_loss,
    }
    found = ranks.gathered({name: repr(part) for name, part in parts.items()})
    for rank, others in enumerate(found):
        wrong = [name for name in {**found[0], **others} if found[0].get(name) != others.get(name)]
        if wrong:
            raise WorkloadError(
                f"the factory built another workload on device {rank} of the trial than on device 0, with another"
                f" {wrong[0]}; it must build the same one in each process: draw what is random from its argument `seed`"
            )
    ranks.broadcast_([item for _, item in _named(model) if item.layout is torch.strided])


def _description(name: str, item: Tensor) -> tuple[Any, ...]:
    """What must be the same on all ranks: of a tensor that is exchanged its kind, of a sparse one its content."""
    content = None if item.layout is torch.strided else digest(item).hex()
    return name, tuple(item.shape), str(item.dtype), str(item.layout), content


def _named(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, item.detach()) for name, item in [*model.named_parameters(), *model.named_buffers()]]


def unlike_gpus(ranks: Ranks, device: torch.device) -> str:
    """The types of the trial's GPUs where they are not of one type, "" otherwise; to be called by all ranks.

    Their sums differ in the last digits, and the one with the least memory has the limit of all.
    """
    if ranks.count == 1 or device.type != "cuda":
        return ""
    types = dict.fromkeys(ranks.gathered(torch.cuda.get_device_name(device)))
    return ", ".join(types) if len(types) > 1 else ""


def refuse_drift(ranks: Ranks, model: nn.Module, trained: Sequence[nn.Parameter]) -> None:
    """Raise WorkloadError where the weights are not the same on every rank: the trained ones, or others of the model,
    which the user's code may change.
    """
    if ranks.count == 1:
        return
    known = {id(parameter) for parameter in trained}
    others = {name: item for name, item in model.named_parameters() if id(item) not in known}
    frozen = dict(zip(others, _fingerprints(list(others.values())), strict=True))
    found = ranks.gathered((_fingerprints(trained), frozen))
    first, first_frozen = found[0]
    for rank, (own, own_frozen) in enumerate(found):
        if own != first:
            raise WorkloadError(
                f"the weights on device {rank} of the trial differ from those on device 0, though the gradients are the"
                " same: an optimizer must not draw random numbers, and nothing else may change weights by such numbers"
                " or by the examples of a device's share, as an embedding with max_norm does"
            )
        names = {**first_frozen, **own_frozen}
        wrong = next((name for name in names if own_frozen.get(name) != first_frozen.get(name)), None)
        if wrong is not None:
            raise WorkloadError(
                f"the parameter {wrong!r}, which is not trained, differs between devices {rank} and 0 of the trial:"
                " what changes it does so by the examples of each device's own share; make it a buffer, which becomes"
                " the average over the devices after each update"
            )


def _fingerprints(parameters: Sequence[nn.Parameter]) -> list[str]:
    """What is the same for each parameter where its values are: their norm, or a digest where there is none."""
    values = [parameter.detach() for parameter in parameters]
    # Computed together and read at once, for each device and type that there is.
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for place, value in enumerate(values):
        kinds.setdefault((value.device, value.dtype), []).append(place)
    found = dict[int, str]()
    for (_, dtype), places in kinds.items():
        alike = [values[place] for place in places]
        if not (dtype.is_complex or (dtype.is_floating_point and dtype.itemsize > 1)):
            numbers: Sequence[float] = quick_digests(alike)
        else:
            # A norm in half precision would not show what changes a weight by less than a hundredth.
            wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else None
            numbers = torch.stack(torch._foreach_norm(alike, dtype=wide)).tolist()
        found |= zip(places, map(repr, numbers), strict=True)
    return [found[place] for place in range(len(values))]


def note_other_losses(ranks: Ranks, losses: Sequence[Tensor], *, in_half: bool) -> dict[str, str]:
    """A note for the trial where the ranks have other losses, of the same examples by the same weights.

    `losses` are those of each rank in evaluation mode, of any shapes; none on all of them, or on none. With `in_half`
    they were computed in half precision.
    """
    if ranks.count == 1 or not losses:
        return {}
    own = torch.cat([item.double().reshape(-1) for item in losses]).tolist()
    found = [torch.tensor(item, dtype=torch.float64) for item in ranks.gathered(own)]
    bound = 1e-2 if in_half else 1e-4  # on a GPU two calls may differ by rounding
    others = [
        rank
        for rank, own in enumerate(found)
        if len(own) != len(found[0]) or not torch.allclose(own, found[0], rtol=bound, atol=bound**2, equal_nan=True)
    ]
    if not others:
        return {}
    return {_OTHER_LOSSES: f"device {others[0]} has other losses of the same examples than device 0"}


def together(ranks: Ranks, call: Callable[[], _T]) -> _T:
    """What the call gives on this rank; raises UnusableResume on every rank where it does on one of them."""
    if ranks.count == 1:
        return call()
    reason, found = "", list[_T]()
    try:
        found.append(call())
    except UnusableResume as error:
        reason = str(error)
    reasons = [item for item in ranks.gathered(reason) if item]
    if reasons:
        raise UnusableResume(reasons[0])
    return found[0]


def saved_parts(
    ranks: Ranks, folder: TrialFolder, request: TrialRequest, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The parts of `resume.pt` for this rank, None where there is none; see `load_resume`, which rank 0 calls."""
    parts = together(ranks, lambda: load_resume(folder, request, say) if ranks.rank == 0 else None)
    is_there: bool = ranks.gathered(parts is not None)[0]
    if not is_there:
        return None
    return parts_of_rank(ranks, together(ranks, lambda: load(folder.resume) if parts is None else parts))
