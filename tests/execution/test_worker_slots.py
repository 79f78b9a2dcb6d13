"""What a worker takes to be its own, and what others may use, too. Tests worker_slots.py, divided_places.py and
given_gpus.py.

The GPUs are made up. Each worker opens its lock files itself, so that two in one process exclude each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from tunectl.commands.worker import WorkerRequest
from tunectl.core.errors import UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.parent_death import MARK
from tunectl.execution import worker_slots
from tunectl.execution.backends.backend import Backend, ProcessEnded
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.devices import CPU, Device
from tunectl.execution.divided_places import DividedPlaces, UnknownPlaces, open_divided
from tunectl.execution.engines.slurm_jobs import NAME_PREFIX
from tunectl.execution.given_gpus import given_gpus
from tunectl.execution.held_trials import HeldTrial, WorkerName
from tunectl.execution.nvml import GpuUse
from tunectl.execution.place_locks import PlaceLocks
from tunectl.execution.shared_places import Places, SharedPlaces, SharingRules, sharing_rules
from tunectl.execution.slots import Slot, make_slots
from tunectl.execution.worker_engine import GPUS_VARIABLE, JOB_VARIABLE
from tunectl.execution.worker_options import WorkerOptions
from tunectl.execution.worker_slots import WorkerSlots, chosen_slots
from tunectl.language.study_spec import ResourcesSection
from tunectl.store.claimed_trials import ClaimedTrial
from tunectl.store.offered_trials import Offer

FREE = GpuUse(1.0, ())
NOT_OURS = 2**22  # no pid on Linux is as large
GPUS = (Device("cuda", 0, "A", "GPU-a"), Device("cuda", 1, "A", "GPU-b"))
RULES = SharingRules(("core-0", "core-1"), 1, 0.1)


@dataclass
class Host:
    """A host with these devices, on which workers share a folder for locks."""

    folder: Path
    devices: Sequence[Device]
    use: dict[str, GpuUse] = field(default_factory=dict)
    now: float = 1e9
    opened: list[Places] = field(default_factory=list)

    def clock(self) -> float:
        self.now += 1e-4  # no two workers begin to wait at the same time
        return self.now

    def on_host(self, kind: type[SharedPlaces], rules: SharingRules) -> SharedPlaces:
        locks = PlaceLocks(self.folder, now=self.clock)
        made = kind(locks, rules, print, clock=self.clock, gpu_use=lambda uuid: self.use.get(uuid, FREE))
        self.opened.append(made)
        return made

    def worker(self, engine: str = "", gpus: float | None = None, slots: int | None = None) -> WorkerSlots:
        options = WorkerOptions(WorkerName("w", engine, "1" if engine else ""), slots, gpus=gpus)
        return chosen_slots(cast("Backend", BackendThere(self)), ResourcesSection(), options, print, {})

    def close(self) -> None:
        for places in self.opened:
            places.close()

    def run(self) -> SharedPlaces:
        """Another `tunectl run` on this host."""
        return self.on_host(SharedPlaces, RULES)


@dataclass
class BackendThere:
    host: Host

    def slots(self, resources: ResourcesSection, count: int | None = None) -> tuple[Slot, ...]:
        return make_slots(self.host.devices, resources.trials_per_device, 1, count, 2)

    def places(
        self, resources: ResourcesSection, slots: Sequence[Slot], say: Callable[[str], None], *, waits: bool
    ) -> Places:
        return self.host.on_host(SharedPlaces, sharing_rules(resources, slots, waits=waits))

    def hold(self, fd: int) -> None: ...


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Host]]:
    with ExitStack() as stack:

        def make(*devices: Device) -> Host:
            made = Host(tmp_path, devices)
            stack.callback(made.close)

            def opened(_environ: object, rules: SharingRules, *_: object) -> Places:
                return made.on_host(DividedPlaces, rules)

            monkeypatch.setattr(worker_slots, "open_divided", opened)
            return made

        yield make


def waits(worker: WorkerSlots | SharedPlaces) -> bool:
    places = worker.places if isinstance(worker, WorkerSlots) else worker
    return places.end_round(jobs_left=True, running=0)


def held(worker: WorkerSlots, trial: int, slot: Slot, *, alone: bool = False) -> HeldTrial:
    """Note that the worker has a trial in this slot."""
    claimed = ClaimedTrial(StudyFolder(Path("/nowhere")), trial, f"{trial:05d}.w")
    made = HeldTrial(claimed, slot, 0.0, Offer(trial, 1, alone=alone))
    cast("dict[int, HeldTrial]", worker.held)[trial] = made
    return made


def had_company(worker: WorkerSlots, slot: Slot) -> bool:
    """What a worker writes of company when a trial that may share its device has ended there by itself."""
    ended = ProcessEnded(7, 0, None, 1.0)
    return held(worker, 7, slot).ending(ended, "", has_company=worker.places.has_company(slot)).had_company


def test_workers_that_share_a_gpu_by_parts_train_at_the_same_time_and_always_have_company(host: Any) -> None:
    there: Host = host(GPUS[0])
    first, second = there.worker("ray", gpus=0.5), there.worker("ray", gpus=0.5)
    there.use["GPU-a"] = GpuUse(0.3, (NOT_OURS,))
    slots = [first.take_free(), second.take_free()]
    assert all(slot is not None and had_company(first, slot) for slot in slots)


def test_a_trial_that_must_be_alone_on_a_gpu_of_parts_waits_for_all_others_there_and_none_starts_beside_it(
    host: Any,
) -> None:
    there: Host = host(GPUS[0])
    first, second, third = (there.worker("ray", gpus=0.5) for _ in range(3))
    (slot,) = second.slots
    assert first.take_free()
    alone = held(second, 1, slot, alone=True)
    alone.has_places = False
    assert not second.take_alone(alone)
    assert waits(second)
    assert third.take_free() is None, "the one that must be alone has waited longer"
    assert waits(third)
    first.places.give_back(slot)
    assert second.take_alone(alone)
    assert first.take_free() is None
    assert waits(first)
    second.give_back(alone)
    assert third.take_free()
    assert first.take_free(), "parts are used beside each other again"


def test_a_trial_that_must_be_alone_waits_for_strangers_on_its_gpu_and_one_that_need_not_only_for_memory(
    host: Any,
) -> None:
    there: Host = host(GPUS[0])
    first = there.worker("ray", gpus=0.5)
    there.use["GPU-a"] = GpuUse(0.3, (NOT_OURS,))
    assert not first.places.take(first.slots[0], alone=True)
    there.now += 2.0
    assert first.take_free()
    first.places.give_back(first.slots[0])
    there.use["GPU-a"] = GpuUse(0.05, (NOT_OURS,))
    assert first.take_free() is None, "less than min_free_memory"


def test_a_run_of_this_machine_and_workers_that_share_a_gpu_by_parts_exclude_each_other(host: Any) -> None:
    there: Host = host(GPUS[0])
    worker, run = there.worker("ray", gpus=0.5), there.run()
    assert worker.take_free()
    assert not run.take(worker.slots[0])
    assert waits(run)
    worker.places.give_back(worker.slots[0])
    assert worker.take_free() is None, "the run has waited longer"
    assert run.take(worker.slots[0])


@pytest.mark.parametrize("engine", ["", "ray", "slurm"])
def test_workers_to_which_no_gpu_was_given_alone_take_each_another_one_by_locks(host: Any, engine: str) -> None:
    """As with two workers in one `salloc`, Slurm without GPUs as resources, or a local Ray beside another run."""
    there: Host = host(*GPUS)
    first, second, third = (there.worker(engine, slots=1) for _ in range(3))
    slots = [first.take_free(), second.take_free()]
    assert [slot.device.visible for slot in slots if slot is not None] == ["GPU-a", "GPU-b"]
    assert third.take_free() is None
    assert waits(third)
    assert slots[0] is not None
    held(first, 0, slots[0])
    assert not first.has_free(), "one trial at a time, on any of the GPUs"
    there.use["GPU-a"] = GpuUse(0.5, (NOT_OURS,))
    assert had_company(first, slots[0])


def test_the_gpus_that_an_engine_gave_to_a_worker_alone_are_not_waited_for_and_strangers_there_are_company(
    host: Any,
) -> None:
    there: Host = host(*GPUS)
    there.use["GPU-a"] = GpuUse(0.0, (NOT_OURS,))
    worker = there.worker("slurm", gpus=2, slots=2)
    first, second = worker.take_free(), None
    assert first is not None
    held(worker, 0, first)
    second = worker.take_free()
    assert second is not None
    assert [had_company(worker, slot) for slot in (first, second)] == [True, False]


def test_a_job_of_slurm_with_more_cpus_than_gpus_gets_an_error_with_what_to_write_for_slurm(host: Any) -> None:
    there: Host = host(*GPUS)
    with pytest.raises(UsageError, match=r"CPUs for 3 trials .* places for 2; write `devices: cpu`.*cpus_per_task: 2$"):
        there.worker("slurm", slots=3)
    assert there.worker("slurm", slots=2).most == 2
    cores: Host = host(CPU)
    assert cores.worker("slurm", slots=3).most == 3


def test_a_worker_that_sees_more_gpus_than_it_was_given_shares_them(host: Any) -> None:
    there: Host = host(*GPUS)
    first, second = there.worker("slurm", gpus=1, slots=1), there.worker("slurm", gpus=1, slots=1)
    slots = [first.take_free(), second.take_free()]
    assert [slot.device.visible for slot in slots if slot is not None] == ["GPU-a", "GPU-b"]


def test_on_cores_that_an_engine_gave_no_trial_waits_for_others_but_one_that_must_be_alone(host: Any) -> None:
    there: Host = host(CPU)
    busy = there.run()
    slot = make_slots([CPU], count=1)[0]
    assert busy.take(slot, alone=True), "another run has all cores"
    first, second = there.worker("slurm"), there.worker("ray")
    assert first.take_free()
    assert had_company(first, slot)
    assert not second.places.take(slot, alone=True)
    first.places.give_back(slot)
    assert second.places.take(slot, alone=True)


def test_within_a_trial_and_without_a_folder_for_locks_a_worker_starts_at_once_and_may_have_company(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    slot = make_slots([CPU], count=1)[0]
    (tmp_path / "file").touch()
    for environ in ({MARK: "1"}, {"TUNECTL_RUNTIME_DIR": str(tmp_path / "file")}):
        places = open_divided(environ, RULES, said.append, lambda _fd: None)
        assert isinstance(places, UnknownPlaces)
        assert places.take(slot, alone=True)
        assert places.has_company(slot)
    (line,) = said
    assert line.startswith("note: this run does not share cores and GPUs with other runs")


def test_the_places_of_a_real_host_are_shared_by_the_locks_of_its_runtime_folder() -> None:
    options = WorkerOptions(WorkerName("w", "slurm", "1"), 1)
    made = [
        chosen_slots(LocalBackend(), ResourcesSection(devices="cpu"), options, print, dict[int, HeldTrial]())
        for _ in range(2)
    ]
    first, second = made
    assert first.take_free()
    assert not second.places.take(second.slots[0], alone=True)
    for item in made:
        item.places.close()


@pytest.mark.parametrize(
    ("environ", "gpus"),
    [
        ({}, None),
        ({JOB_VARIABLE: "ray:x", GPUS_VARIABLE: "2"}, 2.0),
        ({JOB_VARIABLE: "ray:x", GPUS_VARIABLE: "0.5"}, 0.5),
        ({JOB_VARIABLE: "ray:x"}, None),
        ({GPUS_VARIABLE: "2"}, None),
        ({JOB_VARIABLE: "ray:x", "SLURM_JOB_NAME": f"{NAME_PREFIX}x", "SLURM_GPUS_ON_NODE": "2"}, None),
        ({"SLURM_JOB_NAME": f"{NAME_PREFIX}x", "SLURM_GPUS_ON_NODE": "2"}, 2.0),
        ({"SLURM_JOB_NAME": f"{NAME_PREFIX}x"}, None),
        ({"SLURM_JOB_NAME": f"{NAME_PREFIX}x", "SLURM_GPUS_ON_NODE": "1", "SLURM_SHARDS_ON_NODE": "1"}, None),
        ({"SLURM_JOB_NAME": "interactive", "SLURM_GPUS_ON_NODE": "2"}, None),
    ],
)
def test_what_an_engine_gave_to_a_worker_alone_is_known_only_where_the_engine_says_it(
    environ: Mapping[str, str], gpus: float | None
) -> None:
    assert given_gpus(environ) == gpus
    assert WorkerRequest(Path()).waits, "and else a worker waits for others"
