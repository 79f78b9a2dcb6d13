"""The processes that train one trial together, one for each device: which part is whose, and what they exchange.

Each process is a rank, counted from 0. All of them run the same code on the same state; what they compute from their
own part of a batch, they reduce before anything depends on it, so that they never differ. A trial on one device has
`SINGLE`, whose operations give back what they get.
"""

from __future__ import annotations

import contextlib
import datetime
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from tunectl.core.errors import LostRankError

_torch_distributed: Any = dist
"""Of its groups and stores, torch declares only some for programs that are typed."""

_LOOPBACK = "127.0.0.1"

_TIME_LIMIT = datetime.timedelta(days=20)
"""For one exchange. A process that has ended is found in other ways; one that is slow, or was halted, is waited for."""


class Ranks(Protocol):
    """The ranks of a trial, as one of them sees them.

    All methods but `share` must be called by all ranks, in the same order and with tensors of the same shapes and
    types. They raise LostRankError where another rank has ended.
    """

    @property
    def rank(self) -> int:
        """The number of this rank, from 0. Rank 0 alone writes the trial's files."""

    @property
    def count(self) -> int:
        """The number of ranks."""

    def share(self, size: int, dealt: int = 0) -> slice:
        """The part of this rank of `size` examples: contiguous, and in rank order all parts together are the whole.

        They differ by at most one example. Those that are left are dealt to the ranks in turn, as `dealt` ones before
        them were; so of fewer examples than ranks, some have an empty part.
        """

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in place: the same bits on every rank.

        Dense tensors of any types on one device. Half-precision ones are summed in single precision, and then rounded.
        """

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums of numbers of the host over all ranks, in double precision: the same bits on every rank."""

    def gathered(self, item: Any) -> list[Any]:
        """What each rank gave, in rank order: small objects of the host that can be pickled."""

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of rank 0, in place, bit for bit."""

    def agreed(self, flag: bool) -> bool:
        """Whether the flag is true on any rank."""


class _OneRank:
    """The only rank."""

    rank = 0
    count = 1

    def share(self, size: int, dealt: int = 0) -> slice:  # noqa: ARG002
        return slice(0, size)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        pass

    def sums(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def gathered(self, item: Any) -> list[Any]:
        return [item]

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        pass

    def agreed(self, flag: bool) -> bool:
        return flag


SINGLE: Ranks = _OneRank()
"""The ranks of a trial on one device."""


class ProcessRanks:
    """Ranks in processes of this host, which exchange tensors by gloo through the loopback interface, and those of GPUs
    by NCCL.

    The processes meet in the file `meeting`, which is empty at first and that each of them can open. Two ranks on one
    GPU, which NCCL does not support, exchange through the memory of the host. There is no default process group:
    libraries that synchronise by themselves where there is one do nothing.
    """

    def __init__(self, rank: int, count: int, meeting: str, device: str) -> None:
        self.rank, self.count = rank, count
        with _lost_rank_raised():
            self._store = _torch_distributed.FileStore(meeting, count)
            self._host = self._gloo()
            self._on_gpu = self._nccl(device) if torch.device(device).type == "cuda" else None

    def share(self, size: int, dealt: int = 0) -> slice:
        """See Ranks."""
        return share_of_rank(self.rank, self.count, size, dealt)

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        for alike in _of_one_type(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            wide = flat.to(_wide(flat.dtype))
            with _lost_rank_raised():
                self._reduce(wide)
            parts = torch.split(wide.to(flat.dtype), [tensor.numel() for tensor in alike])
            for tensor, part in zip(alike, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def sums(self, values: Sequence[float]) -> list[float]:
        """See Ranks."""
        flat = torch.tensor(list(values), dtype=torch.float64)
        with _lost_rank_raised():
            self._host.allreduce([flat]).wait()
        found: list[float] = flat.tolist()
        return found

    def gathered(self, item: Any) -> list[Any]:
        """See Ranks."""
        content = pickle.dumps(item)
        sizes = [int(size) for size in self.sums([len(content) * (rank == self.rank) for rank in range(self.count)])]
        own = torch.zeros(max(sizes), dtype=torch.uint8)
        own[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        found = [torch.empty_like(own) for _ in sizes]
        with _lost_rank_raised():
            self._host.allgather([found], [own]).wait()
        return [pickle.loads(part[:size].numpy().tobytes()) for part, size in zip(found, sizes, strict=True)]

    @torch.no_grad()
    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        for alike in _of_one_type(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            with _lost_rank_raised():
                self._send_from_first(flat.view(torch.uint8))
            parts = torch.split(flat, [tensor.numel() for tensor in alike])
            for tensor, part in zip(alike, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def agreed(self, flag: bool) -> bool:
        """See Ranks."""
        return self.sums([float(flag)])[0] > 0

    def _gloo(self) -> Any:
        options = _torch_distributed.ProcessGroupGloo._Options()
        options._devices = [_torch_distributed.ProcessGroupGloo.create_device(hostname=_LOOPBACK)]
        options._timeout = _TIME_LIMIT
        return _torch_distributed.ProcessGroupGloo(
            _torch_distributed.PrefixStore("host", self._store), self.rank, self.count, options
        )

    def _nccl(self, device: str) -> Any:
        """The group for tensors on GPUs; None where two ranks are on one GPU, or torch was built without NCCL."""
        devices = self.gathered(str(torch.cuda.get_device_properties(device).uuid))
        if len(set(devices)) < self.count or not dist.is_nccl_available():
            return None
        options = _torch_distributed.ProcessGroupNCCL.Options()
        options._timeout = _TIME_LIMIT
        return _torch_distributed.ProcessGroupNCCL(
            _torch_distributed.PrefixStore("gpu", self._store), self.rank, self.count, options
        )

    def _reduce(self, flat: Tensor) -> None:
        if flat.device.type == "cpu":
            self._host.allreduce([flat]).wait()
        elif self._on_gpu is not None:
            self._on_gpu.allreduce([flat]).wait()
        else:
            on_host = flat.cpu()
            self._host.allreduce([on_host]).wait()
            flat.copy_(on_host)

    def _send_from_first(self, flat: Tensor) -> None:
        options = _torch_distributed.BroadcastOptions()
        options.rootRank = 0
        if flat.device.type == "cpu":
            self._host.broadcast([flat], options).wait()
        elif self._on_gpu is not None:
            self._on_gpu.broadcast([flat], options).wait()
        else:
            on_host = flat.cpu()
            self._host.broadcast([on_host], options).wait()
            flat.copy_(on_host)


def share_of_rank(rank: int, count: int, size: int, dealt: int = 0) -> slice:
    """The part of a rank of `count`; see Ranks.share."""
    least, more = divmod(size, count)
    sizes = [least + ((each - dealt) % count < more) for each in range(count)]
    first = sum(sizes[:rank])
    return slice(first, first + sizes[rank])


def _of_one_type(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors that have elements by their type, those of complex numbers as views of real ones."""
    found: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            found.setdefault((real.dtype, real.device), []).append(real)
    return list(found.values())


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which tensors of a type are summed."""
    if dtype.is_floating_point:
        return torch.promote_types(dtype, torch.float32)
    return torch.int64


@contextlib.contextmanager
def _lost_rank_raised() -> Iterator[None]:
    """Raise LostRankError in place of what an exchange raises when the process of another rank has ended."""
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(f"the process of another device of this trial has ended ({error})") from error
