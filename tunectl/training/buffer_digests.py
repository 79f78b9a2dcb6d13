"""Digests of tensors, to see whether two processes have the same: without a copy of what may be large."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_AT_ONCE = 2**21
"""The number of words of a tensor on a GPU that are mixed at once: the memory for it is some times that."""

_ODD = 0x2545F4914F6CDD1D


def digest(values: Tensor) -> bytes:
    """A digest of the values of a tensor, with its type and shape."""
    found = hashlib.blake2b(f"{values.dtype} {list(values.shape)}".encode(), digest_size=16)
    found.update(_bytes(values).cpu().numpy().data)
    return found.digest()


def quick_digests(tensors: Sequence[Tensor]) -> list[int]:
    """Numbers that differ where the values of tensors of one type and shape do, by chance as good as always.

    They are computed where the tensors are, and read at once; so those of tensors on other devices are not comparable.
    """
    of_device: dict[torch.device, list[int]] = {}
    for place, tensor in enumerate(tensors):
        of_device.setdefault(tensor.device, []).append(place)
    found = [0] * len(tensors)
    for places in of_device.values():
        mixed = torch.stack([_mixed(_bytes(tensors[place])) for place in places])
        for place, number in zip(places, mixed.tolist(), strict=True):
            found[place] = number
    return found


def are_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one type, shape and layout, on one device, have the same bits."""
    return torch.equal(_bytes(one), _bytes(other))


def _bytes(values: Tensor) -> Tensor:
    parts = [part.resolve_conj().resolve_neg().contiguous().reshape(-1) for part in _parts(values.detach())]
    return parts[0].view(torch.uint8) if len(parts) == 1 else torch.cat([part.view(torch.uint8) for part in parts])


def _parts(values: Tensor) -> Sequence[Tensor]:
    """The tensors that make it up: a sparse one may be a matrix that is too large with its zeros."""
    match values.layout:
        case torch.strided:
            return (values,)
        case torch.sparse_coo:
            entries = values.coalesce()
            return entries.indices(), entries.values()
        case torch.sparse_csr | torch.sparse_bsr:
            return values.crow_indices(), values.col_indices(), values.values()
        case torch.sparse_csc | torch.sparse_bsc:
            return values.ccol_indices(), values.row_indices(), values.values()
        case _:
            return (values.to_dense(),)


def _mixed(content: Tensor) -> Tensor:
    """A digest of bytes, shape []: of each word its product with a number for its place, mixed before and after.

    A sum alone would not see two signs that change, whose bits are the highest ones.
    """
    whole = content.numel() // 8 * 8
    words = content[:whole]
    words = (words.clone() if words.storage_offset() % 8 else words).view(torch.int64)
    total = torch.zeros((), dtype=torch.int64, device=content.device)
    for first, part in enumerate([content[whole:].to(torch.int64), *torch.split(words, _AT_ONCE)]):
        odd = 2 * (torch.arange(len(part), device=content.device) + first) + 1
        product = (part ^ (part >> 31)) * (odd * _ODD)
        total = total * _ODD + (product ^ (product >> 29)).sum()
    return total
