"""The GPUs of this machine as the driver's library NVML lists them; replaced in tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunectl.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class MigInstance:
    """A MIG instance: a part of a GPU that CUDA treats as a GPU."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU. `instances` is None where MIG mode is off; `uuid` is "" for a GPU that does not respond."""

    uuid: str
    name: str = ""
    instances: tuple[MigInstance, ...] | None = None


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What is used of a GPU, or of a MIG instance.

    `free_memory` is the free part of its memory, from 0 to 1, None where the driver does not say it. `processes` are
    the pids of the programs that compute on it, None where the driver cannot list them.
    """

    free_memory: float | None
    processes: tuple[int, ...] | None


def read_use(uuid: str) -> GpuUse:
    """What is used of the GPU or MIG instance with this UUID now; nothing is known where the driver does not answer.

    Programs that only draw, such as a desktop, are not among the processes.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # ImportError, or an NVMLError, whose class is in the module
        return GpuUse(None, None)
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return GpuUse(_free_memory(pynvml, handle), _processes(pynvml, handle))
    except pynvml.NVMLError:
        return GpuUse(None, None)
    finally:
        pynvml.nvmlShutdown()


def _free_memory(nvml: Any, handle: Any) -> float | None:
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        return None
    return memory.free / memory.total if memory.total else None


def _processes(nvml: Any, handle: Any) -> tuple[int, ...] | None:
    try:
        return tuple(sorted({int(process.pid) for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)}))
    except nvml.NVMLError:
        return None


def read_gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine in the order of the PCI bus; empty where there is no NVIDIA driver.

    Raises UsageError where the driver is installed and does not respond (it was updated while the system runs).
    """
    try:
        import pynvml
    except ImportError:
        return ()
    absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_NOT_FOUND)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value in absent:
            return ()
        raise UsageError(
            f"resources.devices: the GPUs cannot be listed: NVML: {error}; "
            "repair the driver, or train on the CPU with `devices: cpu`"
        ) from error
    try:
        return tuple(_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    # A GPU that failed, or that this user may not open, keeps its index, so that the others keep theirs.
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        return Gpu(
            _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle)), _instances(nvml, handle)
        )
    except nvml.NVMLError:
        return Gpu("")


def _instances(nvml: Any, handle: Any) -> tuple[MigInstance, ...] | None:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # a GPU without MIG
        return None
    if current != nvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # an unused place
            continue
        found.append(
            MigInstance(
                _text(nvml.nvmlDeviceGetUUID(mig)),
                int(nvml.nvmlDeviceGetGpuInstanceId(mig)),
                int(nvml.nvmlDeviceGetComputeInstanceId(mig)),
                _text(nvml.nvmlDeviceGetName(mig)),
            )
        )
    return tuple(found)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
