"""Which GPUs are found: masks by index, GPU-UUID and MIG-UUID, and what a study asks for, with a made-up driver.

Tests devices.py and nvml.py.
"""

from __future__ import annotations

import sys
import types

import pytest

from tunectl.core.errors import UsageError
from tunectl.execution import nvml
from tunectl.execution.devices import CPU, find_devices
from tunectl.execution.nvml import Gpu, GpuUse, MigInstance

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-8932aaaa-0000-4106-c12f-20bd9faed9f6"
C = "GPU-1b2c3d4e-0000-4106-c12f-20bd9faed9f6"
M1, M2 = "MIG-11111111-aaaa-5555-8888-000000000000", "MIG-22222222-aaaa-5555-8888-000000000000"
OLD1 = f"MIG-{C}/1/0"
PLAIN = (Gpu(A, "H100"), Gpu(B, "H100"), Gpu(C, "A100"))
MIXED = (Gpu(A, "H100"), Gpu(C, "A100", (MigInstance(M1, 1, 0, "A100 MIG 3g.20gb"), MigInstance(M2, 2, 0))))
OLD_DRIVER = (Gpu(C, "A100", (MigInstance(OLD1, 1, 0), MigInstance(f"MIG-{C}/2/0", 2, 0))),)


def visible(mask, gpus=PLAIN, wanted="auto"):
    environ = {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    return [device.visible for device in find_devices(wanted, environ, lambda: gpus)]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (None, [A, B, C]),
        ("0,2", [A, C]),
        ("2,0", [C, A]),
        (" 1 , 0", [B, A]),
        ("+1", [B]),
        ("1gpu,2", [B, C]),
        ("0,2,-1,1", [A, C]),
        ("0,7,1", [A]),
        ("0,,1", [A]),
        ("0,x,1", [A]),
        ("0," + A, [A]),
        ("0,1,", [A, B]),
        (A, [A]),
        (f"{C},{A}", [C, A]),
        ("GPU-8932f937", [A]),
        ("GPU-1b", [C]),
        (f"{A},GPU-ffffffff,{B}", [A]),
        (f"{A},1", [A]),
        (f"{A},GPU-8932", [A]),
    ],
)
def test_a_mask_shows_the_gpus_that_cuda_would_show(mask, expected):
    assert visible(mask) == expected


@pytest.mark.parametrize(
    "mask",
    [
        "",
        "-1",
        "-1,0",
        "NoDevFiles",
        "none",
        "3",
        "GPU-8932",
        "GPU-ffffffff",
        "gpu-8932f937",
        "0,0",
        "0,1,0",
        f"{A},{A}",
        f"{A},GPU-8932f",
    ],
)
def test_a_mask_that_hides_all_gpus_leaves_the_cpu(mask):
    # Empty and -1, an invalid or ambiguous first entry, and a device named twice, under whatever names.
    assert find_devices("auto", {"CUDA_VISIBLE_DEVICES": mask}, lambda: PLAIN) == (CPU,)


@pytest.mark.parametrize(
    ("mask", "gpus", "expected"),
    [
        (None, MIXED, [A, M1, M2]),
        ("1", MIXED, [M1, M2]),
        ("0,1", MIXED, [A, M1, M2]),
        (C, MIXED, [M1, M2]),
        (M1, MIXED, [M1]),
        (f"{M2},{M1}", MIXED, [M2, M1]),
        ("MIG-22222222", MIXED, [M2]),
        (f"MIG-{C}/2/0", MIXED, [M2]),
        (f"MIG-{C[:12]}/1/0", MIXED, [M1]),
        (f"{M1},{A}", MIXED, [M1]),
        (f"{M1},MIG-99999999,{M2}", MIXED, [M1]),
        (OLD1, OLD_DRIVER, [OLD1]),
        (f"MIG-{C}/2/0,{OLD1}", OLD_DRIVER, [f"MIG-{C}/2/0", OLD1]),
    ],
)
def test_mig_instances_take_the_place_of_their_gpu_and_have_both_forms_of_their_uuid(mask, gpus, expected):
    assert visible(mask, gpus) == expected


@pytest.mark.parametrize("mask", ["MIG-", f"MIG-{C}/7/0", f"MIG-{A}/1/0", f"{M1},MIG-{C}/1/0", "1,1"])
def test_a_mig_mask_that_names_nothing_or_one_twice_leaves_the_cpu(mask):
    assert visible(mask, MIXED) == [""]


def test_a_gpu_with_mig_on_and_no_instance_gives_no_device():
    assert visible(None, (Gpu(A, "", ()), Gpu(B))) == [B]


def test_a_gpu_that_does_not_answer_keeps_its_index():
    assert visible(None, (Gpu(""), Gpu(B))) == [B]
    assert visible("1", (Gpu(""), Gpu(B))) == [B]


def test_devices_are_counted_and_named():
    first, second, third = find_devices("auto", {}, lambda: MIXED)
    assert [device.index for device in (first, second, third)] == [0, 1, 2]
    assert (first.device_type, first.name, first.label) == ("cuda", "H100", A)
    assert (second.name, third.name) == ("A100 MIG 3g.20gb", "A100")
    assert (CPU.device_type, CPU.label, CPU.visible) == ("cpu", "cpu", "")


def test_the_cpu_is_had_without_asking_the_driver():
    def driver():
        raise AssertionError("the driver was asked")

    assert find_devices("cpu", {}, driver) == (CPU,)
    assert find_devices("auto", {}, lambda: ()) == (CPU,)


@pytest.mark.parametrize(
    ("wanted", "mask", "expected"),
    [
        ((0,), None, [A]),
        ((1,), "2,0", [A]),
        ((2, 0), None, [C, A]),
        (("1",), None, [B]),
        ((C,), "0,2", [C]),
        (("GPU-8932f",), None, [A]),
        (C, None, [C]),
    ],
)
def test_a_study_chooses_among_the_visible_gpus(wanted, mask, expected):
    assert visible(mask, PLAIN, wanted) == expected


def test_a_study_chooses_a_mig_instance():
    assert visible(None, MIXED, (M2,)) == [M2]


@pytest.mark.parametrize(
    ("wanted", "mask", "said"),
    [
        ((3,), None, f"3 was not found; the visible GPUs are: 0 ({A}, H100), 1 ({B}, H100), 2 ({C}, A100)"),
        ((2,), "0", f"2 was not found; the visible GPUs are: 0 ({A}, H100)"),
        ((B,), "0", "was not found"),
        (("GPU-8932",), None, "is the beginning of more than one UUID"),
        (("cuda:0",), None, "cuda:0 was not found"),
        ((0, A), None, "expected each device once"),
        ((), None, "got an empty list"),
        ((0,), "", "the visible GPUs are: none"),
        ((-1,), None, "-1 was not found"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(wanted, mask, said):
    with pytest.raises(UsageError) as caught:
        visible(mask, PLAIN, wanted)
    assert said in str(caught.value)


class FakeError(Exception):
    def __init__(self, value):
        super().__init__(f"error {value}")
        self.value = value


def fake_driver(monkeypatch, gpus=(), init_error=None, bytes_as_text=False, used=None):
    """A pynvml that knows these GPUs, each (uuid, name, mig): None (unsupported), False, or a list of instances.

    `used` has the memory and the processes in use by UUID, each None where the driver does not say it.
    """
    used = used or {}
    driver = types.SimpleNamespace()
    driver.NVMLError = FakeError
    driver.NVML_ERROR_LIBRARY_NOT_FOUND, driver.NVML_ERROR_DRIVER_NOT_LOADED, driver.NVML_ERROR_NOT_FOUND = 12, 9, 6
    driver.NVML_DEVICE_MIG_ENABLE = 1
    driver.open = 0
    text = (lambda value: value.encode()) if bytes_as_text else (lambda value: value)

    def raises(value):
        raise FakeError(value)

    def init():
        if init_error is not None:
            raise FakeError(init_error)
        driver.open += 1

    def shutdown():
        driver.open -= 1

    driver.nvmlInit, driver.nvmlShutdown = init, shutdown
    driver.nvmlDeviceGetCount = lambda: len(gpus)
    driver.nvmlDeviceGetHandleByIndex = lambda index: gpus[index] or raises(15)
    driver.nvmlDeviceGetUUID = lambda handle: text(handle[0])
    driver.nvmlDeviceGetName = lambda handle: text(handle[1])
    driver.nvmlDeviceGetMigMode = lambda handle: raises(3) if handle[2] is None else [int(handle[2] is not False), 0]
    driver.nvmlDeviceGetMaxMigDeviceCount = lambda handle: 7
    driver.nvmlDeviceGetMigDeviceHandleByIndex = lambda handle, index: (
        handle[2][index] if index < len(handle[2]) and handle[2][index] else raises(6)
    )
    driver.nvmlDeviceGetGpuInstanceId = lambda handle: handle[2]
    driver.nvmlDeviceGetComputeInstanceId = lambda handle: handle[3]
    driver.nvmlDeviceGetHandleByUUID = lambda uuid: uuid if uuid in used else raises(6)
    driver.nvmlDeviceGetMemoryInfo = lambda uuid: used[uuid][0] or raises(3)
    driver.nvmlDeviceGetComputeRunningProcesses = lambda uuid: raises(4) if used[uuid][1] is None else used[uuid][1]
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return driver


@pytest.mark.parametrize("bytes_as_text", [False, True])
def test_the_driver_s_answers_are_read(monkeypatch, bytes_as_text):
    instances = [None, (M1, "A100 MIG", 1, 0)]
    driver = fake_driver(
        monkeypatch, [(A, "GTX", None), None, (B, "H100", False), (C, "A100", instances)], bytes_as_text=bytes_as_text
    )
    expected = (Gpu(A, "GTX"), Gpu(""), Gpu(B, "H100"), Gpu(C, "A100", (MigInstance(M1, 1, 0, "A100 MIG"),)))
    assert nvml.read_gpus() == expected
    assert driver.open == 0, "the driver is let go of"


@pytest.mark.parametrize("error", [12, 9, 6])
def test_no_driver_means_no_gpus(monkeypatch, error):
    fake_driver(monkeypatch, init_error=error)
    assert nvml.read_gpus() == ()


def test_no_pynvml_means_no_gpus(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.read_gpus() == ()


def test_a_driver_that_does_not_answer_is_an_error_not_a_silent_cpu(monkeypatch):
    fake_driver(monkeypatch, init_error=18)
    with pytest.raises(UsageError, match=r"NVML: error 18; .*devices: cpu"):
        nvml.read_gpus()


def memory(total, free):
    return types.SimpleNamespace(total=total, free=free, used=total - free)


def test_what_others_use_of_a_gpu_or_an_instance_is_read(monkeypatch):
    processes = [types.SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in (20, 7, 20)]
    used = {A: (memory(80, 20), processes), M1: (memory(10, 10), []), B: (None, None), C: (memory(0, 0), None)}
    driver = fake_driver(monkeypatch, used=used)
    assert nvml.read_use(A) == GpuUse(0.25, (7, 20))
    assert nvml.read_use(M1) == GpuUse(1.0, ())
    assert nvml.read_use(B) == GpuUse(None, None), "no permission, or a virtual GPU"
    assert nvml.read_use(C) == GpuUse(None, None)
    assert nvml.read_use("GPU-that-was-taken-out") == GpuUse(None, None)
    assert driver.open == 0, "the driver is let go of"


def test_a_driver_that_does_not_answer_says_nothing_of_what_is_used(monkeypatch):
    fake_driver(monkeypatch, init_error=18)
    assert nvml.read_use(A) == GpuUse(None, None)


def test_the_real_pynvml_has_every_name_that_is_used():
    import pynvml

    for name in fake_driver.__code__.co_names:
        if name.startswith(("nvml", "NVML")):
            assert hasattr(pynvml, name), name
