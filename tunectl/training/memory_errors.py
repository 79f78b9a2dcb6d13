"""How memory that runs out reads."""

from __future__ import annotations

import errno

import torch

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""How errors of memory read that torch raises as plain RuntimeErrors."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device's or the host's memory did not suffice."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def has_asked_for_too_much(error: BaseException) -> bool:
    """Whether a computation asked for more memory than there is, which is a result of its hyperparameters.

    A system that had none left for a process or a file (OSError) says nothing about them.
    """
    return is_out_of_memory(error) and not isinstance(error, OSError)
