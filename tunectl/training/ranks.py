"""The processes that train one trial together, one for each device: which part is whose, and what they exchange.

Each process is a rank, counted from 0. All of them run the same code on the same state; what they compute from their
own part of a batch, they reduce before anything depends on it, so that they never differ. A trial on one device has
`SINGLE`, whose operations give back what they get.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from tunectl.core.errors import LostRankError
from tunectl.core.rank_exchanges import RankExchanges

_torch_distributed: Any = dist
"""Of its groups and stores, torch declares only some for programs that are typed."""

_LOOPBACK = "127.0.0.1"

_TIME_LIMIT = datetime.timedelta(days=20)
"""For one exchange. A process that has ended is found in other ways; one that is slow, or was halted, is waited for."""

_BUCKET_BYTES = 2**25
"""Of the tensors that are exchanged together: enough for the speed of one exchange, and little beside the tensors."""

_OF_LOSS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Socket closed",
    "ncclRemoteError",
    "NCCL communicator was aborted",
)
"""The texts of torch's errors where another process has ended; their class is RuntimeError for all that can happen."""


_kept: list[Any] = []
"""Groups of NCCL: to destroy one may wait for other processes, and the end of this one, which has no finalizers, ends
it as well.
"""


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

    def finish(self) -> None:
        """End the exchanges, where all ranks have come to the end of the trial: none ends before the others have."""


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

    def finish(self) -> None:
        pass


SINGLE: Ranks = _OneRank()
"""The ranks of a trial on one device."""


class ProcessRanks:
    """Ranks in processes of this host, which exchange tensors by gloo through the loopback interface, and those of GPUs
    by NCCL.

    The processes meet in the file `meeting`, which is empty at first and that each of them can open, and note in
    `exchanges` what they come to. Two ranks on one GPU, which NCCL does not support, exchange through the memory of the
    host. There is no default process group: libraries that synchronise by themselves where there is one do nothing.

    An exchange raises WorkloadError where another rank came to another one in its place, and what torch raises in it,
    except that the loss of another process is LostRankError. After an exception the ranks are not at one place any
    more: all later exchanges raise it again.
    """

    def __init__(self, rank: int, count: int, meeting: str, device: str, exchanges: RankExchanges) -> None:
        self.rank, self.count = rank, count
        self._exchanges = exchanges
        self._failed: Exception | None = None
        with self._exchange("the meeting of the processes", "ProcessRanks"):
            self._store = _torch_distributed.FileStore(meeting, count)
            self._store.set_timeout(_TIME_LIMIT)
            self._host = self._gloo()
        self._on_gpu = self._nccl(device) if torch.device(device).type == "cuda" else None

    def share(self, size: int, dealt: int = 0) -> slice:
        """See Ranks."""
        return share_of_rank(self.rank, self.count, size, dealt)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        self._on_buckets("a sum", tensors, self._summed)

    def sums(self, values: Sequence[float]) -> list[float]:
        """See Ranks."""
        with self._exchange(f"a sum of {len(values)} numbers", _caller()):
            return self._sums(values)

    def gathered(self, item: Any) -> list[Any]:
        """See Ranks."""
        content = pickle.dumps(item)
        with self._exchange("a gathering of objects", _caller()):
            sizes = [int(size) for size in self._sums([len(content) * (rank == self.rank) for rank in self._all()])]
            own = torch.zeros(max(sizes), dtype=torch.uint8)
            own[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            found = [torch.empty_like(own) for _ in sizes]
            self._host.allgather([found], [own]).wait()
        return [pickle.loads(part[:size].numpy().tobytes()) for part, size in zip(found, sizes, strict=True)]

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        self._on_buckets("a sending", tensors, self._sent)

    def agreed(self, flag: bool) -> bool:
        """See Ranks."""
        with self._exchange("a question", _caller()):
            return self._sums([float(flag)])[0] > 0

    def finish(self) -> None:
        """End the exchanges, to be called by all ranks where they have come to the end of the trial together.

        No process ends while another one still needs it for the last exchange, which on a GPU may be under way. Raises
        WorkloadError where another rank does not come to its end.
        """
        if self._on_gpu is not None:
            torch.cuda.synchronize()
        # One that has ended for another reason can change nothing of what this one has come to.
        with contextlib.suppress(LostRankError), self._exchange("the end of the trial", "ProcessRanks.finish"):
            self._sums([0.0])

    def _all(self) -> range:
        return range(self.count)

    @contextlib.contextmanager
    def _exchange(self, what: str, where: str) -> Iterator[None]:
        """The block of an exchange of this kind; `where` is the place in the code that wants it."""
        if self._failed is not None:
            raise self._failed
        try:
            self._exchanges.begin(self.rank, what, where)
            yield
        except Exception as error:
            self._failed = error
            if not _is_loss(error):
                raise
            self._failed = LostRankError(
                f"the process of another device of this trial has ended, or the connection to it was lost ({error})"
            )
            raise self._failed from error
        self._exchanges.end(self.rank)

    def _on_buckets(self, verb: str, tensors: Sequence[Tensor], exchange: Callable[[Tensor], None]) -> None:
        """Call `exchange` with the values of the tensors, [n] each time, and give them back what it made of these."""
        alike = _of_one_type(tensors)
        if not alike:
            return
        sizes = [f"{sum(map(torch.numel, each))} x {_name(each[0].dtype)} on {each[0].device.type}" for each in alike]
        with torch.no_grad(), self._exchange(f"{verb} of tensors: {'; '.join(sizes)}", _caller(depth=3)):
            for bucket in (bucket for each in alike for bucket in _buckets(each)):
                if len(bucket) == 1 and bucket[0].is_contiguous():
                    exchange(bucket[0].view(-1))
                    torch.autograd.graph.increment_version(bucket[0])
                    continue
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                exchange(flat)
                parts = torch.split(flat, [tensor.numel() for tensor in bucket])
                for tensor, part in zip(bucket, parts, strict=True):
                    tensor.copy_(part.view(tensor.shape))

    def _summed(self, flat: Tensor) -> None:
        wide = flat.to(summed_type(flat.dtype))
        self._reduce(wide)
        if wide is not flat:
            flat.copy_(wide)

    def _sent(self, flat: Tensor) -> None:
        self._send_from_first(flat.view(torch.uint8))

    def _sums(self, values: Sequence[float]) -> list[float]:
        flat = torch.tensor(list(values), dtype=torch.float64)
        self._host.allreduce([flat]).wait()
        found: list[float] = flat.tolist()
        return found

    def _gloo(self) -> Any:
        options = _torch_distributed.ProcessGroupGloo._Options()
        options._devices = [_torch_distributed.ProcessGroupGloo.create_device(hostname=_LOOPBACK)]
        options._timeout = _TIME_LIMIT
        return _torch_distributed.ProcessGroupGloo(
            _torch_distributed.PrefixStore("host", self._store), self.rank, self.count, options
        )

    def _nccl(self, device: str) -> Any:
        """The group for tensors on GPUs; None where two ranks are on one GPU, or torch was built without NCCL.

        Each process sees its own GPU alone, so that the group needs no device. NCCL's communicator is made at the first
        exchange of tensors.
        """
        devices = self.gathered(gpu_place(torch.cuda.get_device_properties(device)))
        if len(set(devices)) < self.count or not dist.is_nccl_available():
            return None
        # The process that watches the ranks ends those that cannot go on; torch's own watch would end all after it was
        # halted for eight minutes.
        os.environ.setdefault("TORCH_NCCL_ENABLE_MONITORING", "0")
        options = _torch_distributed.ProcessGroupNCCL.Options()
        options._timeout = _TIME_LIMIT
        group = _torch_distributed.ProcessGroupNCCL(
            _torch_distributed.PrefixStore("gpu", self._store), self.rank, self.count, options
        )
        _kept.append(group)
        return group

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


def summed_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which tensors of a type are summed."""
    if dtype.is_floating_point:
        # Torch promotes none of the types of one byte.
        return torch.promote_types(dtype, torch.float32) if dtype.itemsize > 1 else torch.float32
    return torch.int64


def gpu_place(properties: Any) -> str:
    """The place of a GPU with these properties on the PCI bus, by which NCCL finds two ranks on one GPU: the instances
    of a GPU (MIG) share it. Its UUID where torch does not know the place.
    """
    places = [getattr(properties, name, None) for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")]
    return str(properties.uuid) if places[1] is None else ":".join(map(str, places))


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors that go together, in order: of at most _BUCKET_BYTES when they are summed, or a larger one alone."""
    found: list[list[Tensor]] = []
    left = 0
    for tensor in tensors:
        size = tensor.numel() * summed_type(tensor.dtype).itemsize
        if size > left or not found:
            found.append([])
            left = _BUCKET_BYTES
        found[-1].append(tensor)
        left -= size
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _caller(depth: int = 2) -> str:
    """The name of the function that called the one that calls this, or of one further up."""
    return sys._getframe(depth).f_code.co_qualname


def _is_loss(error: Exception) -> bool:
    """Whether an exception of torch means that the process of another rank has ended, or the connection to it."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OF_LOSS)
