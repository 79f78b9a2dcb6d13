"""That all ranks of a trial begin with the same model and data, go on from one state, and keep the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.records import TrialRequest
from tunectl.training.checkpoints import UnusableResume, load, load_resume
from tunectl.training.rank_states import parts_of_rank
from tunectl.training.ranks import Ranks
from tunectl.workloads.workload import Workload

_T = TypeVar("_T")


def begin_alike(ranks: Ranks, workload: Workload) -> None:
    """Give the model of every rank the weights and buffers of rank 0, bit for bit.

    Raises WorkloadError where the ranks have built different models, or data of different sizes.
    """
    if ranks.count == 1:
        return
    model = workload.model
    parts = {
        "model": [(name, tuple(item.shape), str(item.dtype)) for name, item in [*_named(model)]],
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
    ranks.broadcast_([item for _, item in _named(model)])


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


def refuse_drift(ranks: Ranks, parameters: Sequence[nn.Parameter]) -> None:
    """Raise WorkloadError where the weights are not the same, bit for bit, on every rank."""
    if ranks.count == 1:
        return
    norms = torch._foreach_norm([parameter.detach() for parameter in parameters])
    # Read at once, for each device and type that there is.
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for norm in norms:
        kinds.setdefault((norm.device, norm.dtype), []).append(norm)
    found = ranks.gathered(repr([torch.stack(alike).tolist() for alike in kinds.values()]))
    for rank, others in enumerate(found):
        if others != found[0]:
            raise WorkloadError(
                f"the weights on device {rank} of the trial differ from those on device 0, though the gradients are the"
                " same: an optimizer must not draw random numbers, and nothing else may change the weights"
            )


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
