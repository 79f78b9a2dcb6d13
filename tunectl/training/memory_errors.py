"""Recognises errors that mean that memory ran out."""

from __future__ import annotations

import errno

import torch

_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Cuda failure 2 'out of memory'",  # by NCCL
)
"""The texts of memory errors that torch raises as plain RuntimeErrors."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the device or the host had not enough memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def has_asked_for_too_much(error: BaseException) -> bool:
    """Whether a computation needed more memory than there is, which is a result of its hyperparameters.

    An OSError, where the system had no memory left for a process or a file, is not.
    """
    return is_out_of_memory(error) and not isinstance(error, OSError)
