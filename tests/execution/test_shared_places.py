"""Tests shared_places.py: runs that share a runtime folder, with a clock and a driver made for the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tunectl.core.parent_death import MARK
from tunectl.execution.devices import CPU, Device
from tunectl.execution.nvml import GpuUse
from tunectl.execution.place_locks import PlaceLocks
from tunectl.execution.runtime_folder import VARIABLE
from tunectl.execution.shared_places import OWN_PLACES, SharedPlaces, SharingRules, open_places, sharing_rules
from tunectl.execution.slots import make_slots
from tunectl.language.study_spec import ResourcesSection

FREE = GpuUse(1.0, ())
NOT_OURS = 2**22  # no pid on Linux is as large
GPUS = (Device("cuda", 0, "A", "GPU-a"), Device("cuda", 1, "B", "GPU-b"))
ON_GPUS, ON_CPU = make_slots(GPUS), make_slots([CPU], count=2)


@dataclass
class Machine:
    """Runs of one user on one machine with these cores and GPUs."""

    folder: Path
    now: float = 1e9
    use: dict[str, GpuUse] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    runs: list[SharedPlaces] = field(default_factory=list)

    def clock(self) -> float:
        self.now += 1e-4  # no two runs begin to wait at the same time
        return self.now

    def run(self, cores=("core-0", "core-1"), each=1, min_free=0.1, waits=True) -> SharedPlaces:
        places = SharedPlaces(
            PlaceLocks(self.folder, now=self.clock),
            SharingRules(cores, each, min_free, waits),
            self.said.append,
            clock=self.clock,
            gpu_use=lambda uuid: self.use.get(uuid, FREE),
        )
        self.runs.append(places)
        return places


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for run in made.runs:
        run.close()


def waits(run: SharedPlaces, running: int = 0) -> bool:
    return run.end_round(jobs_left=True, running=running)


def test_two_runs_never_have_more_trials_than_cores(machine):
    first, second = machine.run(), machine.run()
    assert first.take(ON_CPU[0])
    assert second.take(ON_CPU[0])
    assert not first.take(ON_CPU[1])
    assert not second.take(ON_CPU[1])
    second.give_back(ON_CPU[0])
    assert waits(first)
    assert first.take(ON_CPU[1])


def test_a_run_that_gives_a_core_back_does_not_take_it_again_while_another_waits(machine):
    first, second = machine.run(), machine.run()
    assert all(first.take(slot) for slot in ON_CPU)
    assert not waits(first), "it has what it can use"
    assert not second.take(ON_CPU[0])
    assert waits(second)
    first.give_back(ON_CPU[0])
    assert not first.take(ON_CPU[0]), "the other one has waited longer"
    assert waits(first)
    assert second.take(ON_CPU[0])
    first.give_back(ON_CPU[1])
    assert not second.take(ON_CPU[1]), "now it is the first one's turn"
    assert first.take(ON_CPU[0])


def test_a_trial_of_several_threads_gets_its_cores_one_by_one_while_short_ones_go_on_elsewhere(machine):
    cores = ("core-0", "core-1", "core-2")
    wide, narrow = machine.run(cores, each=2), machine.run(cores)
    slots = make_slots([CPU], count=3)
    assert all(narrow.take(slot) for slot in slots)
    assert not wide.take(ON_CPU[0])
    assert waits(wide)
    narrow.give_back(slots[0])
    assert not narrow.take(slots[0])
    assert waits(narrow)
    assert not wide.take(ON_CPU[0]), "one core is not enough, and it keeps it"
    assert waits(wide)
    narrow.give_back(slots[1])
    assert not narrow.take(slots[1])
    assert waits(narrow)
    assert wide.take(ON_CPU[0])
    assert not waits(wide)
    wide.give_back(ON_CPU[0])
    assert narrow.take(slots[0])
    assert narrow.take(slots[1])


def test_a_trial_that_must_be_alone_waits_for_all_cores(machine):
    first, second = machine.run(), machine.run()
    assert second.take(ON_CPU[0])
    assert not first.take(ON_CPU[0], alone=True)
    assert waits(first)
    second.give_back(ON_CPU[0])
    assert first.take(ON_CPU[0], alone=True)
    assert not first.has_company(ON_CPU[0])
    assert not second.take(ON_CPU[0])


def test_company_on_the_cores_is_known_when_a_trial_has_ended(machine):
    first, second = machine.run(), machine.run()
    assert first.take(ON_CPU[0])
    assert not first.has_company(ON_CPU[0])
    assert second.take(ON_CPU[0])
    assert first.has_company(ON_CPU[0])


def test_a_gpu_is_used_by_one_run_at_a_time_also_where_its_trials_share_it(machine):
    shared = make_slots(GPUS[:1], trials_per_device=2)
    first, second = machine.run(), machine.run()
    assert all(first.take(slot) for slot in shared)
    assert not second.take(shared[0])
    assert waits(second)
    first.give_back(shared[0])
    assert not first.take(shared[0]), "the GPU is left to the run that waits"
    assert not second.take(shared[0]), "a trial still runs there"
    first.give_back(shared[1])
    assert waits(second)
    assert second.take(shared[0])


def test_a_run_for_one_gpu_does_not_wait_for_one_that_waits_for_another(machine):
    first, second, third = (machine.run() for _ in range(3))
    assert first.take(ON_GPUS[0])
    assert not second.take(ON_GPUS[0])
    assert waits(second)
    assert third.take(ON_GPUS[1])


def test_several_gpus_of_one_trial_are_kept_until_all_are_free(machine):
    pair = make_slots(GPUS, devices_per_trial=2)[0]
    first, second, third = (machine.run() for _ in range(3))
    assert first.take(ON_GPUS[0])
    assert not second.take(pair)
    assert waits(second)
    assert not third.take(ON_GPUS[1]), "the trial of two GPUs has waited longer for it"
    first.give_back(ON_GPUS[0])
    assert second.take(pair)


def test_a_gpu_with_a_foreign_process_is_waited_for_with_a_line_a_minute(machine):
    run = machine.run()
    machine.use["GPU-a"] = GpuUse(0.5, (NOT_OURS,))
    assert not run.take(ON_GPUS[0])
    assert waits(run)
    assert machine.said == [], "a short wait is not worth a line"
    for _ in range(130):
        machine.now += 1
        assert not run.take(ON_GPUS[0])
        assert waits(run)
    assert len(machine.said) == 3
    assert machine.said[0].startswith(f"waiting: GPU-a is used by process {NOT_OURS};")
    assert machine.said[0].endswith("; --no-wait trains there all the same")
    machine.use["GPU-a"] = FREE
    machine.now += 1
    assert run.take(ON_GPUS[0])


def test_a_run_s_own_processes_are_not_foreign(machine):
    machine.use["GPU-a"] = GpuUse(0.5, (os.getpid(), os.getppid()))
    assert machine.run().take(ON_GPUS[0]), "a notebook that calls tunectl may use the GPU itself"


def test_another_gpu_is_taken_meanwhile_and_no_run_waits_behind_one_that_cannot_go_on(machine):
    first, second = machine.run(min_free=0.8), machine.run()
    machine.use["GPU-a"] = GpuUse(0.5, ())
    assert not first.take(ON_GPUS[0])
    assert first.take(ON_GPUS[1])
    assert waits(first, running=1)
    assert second.take(ON_GPUS[0]), "it needs less memory"


def test_a_gpu_with_too_little_free_memory_is_waited_for(machine):
    machine.use["GPU-a"] = GpuUse(0.05, ())
    run = machine.run()
    assert not run.take(ON_GPUS[0])
    machine.now += 3
    assert waits(run)
    machine.now += 3
    assert not run.take(ON_GPUS[0])
    assert waits(run)
    why = "GPU-a has 5 % of its memory free, less than min_free_memory (10 %)"
    assert machine.said == [f"waiting: {why}; --no-wait trains there all the same"]


def test_a_driver_that_lists_no_processes_leaves_it_to_the_memory_and_that_is_said_once(machine):
    machine.use["GPU-a"] = GpuUse(0.5, None)
    run = machine.run()
    for _ in range(2):
        assert run.take(ON_GPUS[0])
        run.give_back(ON_GPUS[0])
    assert machine.said == ["note: the driver cannot list the processes on GPU-a: its free memory alone decides"]


def test_a_driver_that_says_nothing_stops_no_trial(machine):
    machine.use["GPU-a"] = GpuUse(None, None)
    assert machine.run().take(ON_GPUS[0])
    assert machine.said == ["note: the driver does not say what is used of GPU-a, so it is taken to be free"]


def test_a_process_that_came_to_the_gpu_meanwhile_is_company(machine):
    run = machine.run()
    assert run.take(ON_GPUS[0])
    assert not run.has_company(ON_GPUS[0])
    machine.use["GPU-a"] = GpuUse(0.5, (NOT_OURS,))
    assert run.has_company(ON_GPUS[0])


def test_without_waiting_a_trial_starts_beside_others(machine):
    first, second = machine.run(("core-0",)), machine.run(("core-0",), waits=False)
    machine.use["GPU-a"] = GpuUse(0.0, (NOT_OURS,))
    assert first.take(ON_CPU[0])
    assert second.take(ON_CPU[0])
    assert second.take(ON_GPUS[0])
    assert not waits(second)
    second.give_back(ON_CPU[0])
    assert first.locks.held == {"core-0"}, "the place of the other run stays its own"


def test_a_trial_that_started_beside_others_had_company_also_where_they_ended_first(machine):
    first, second = machine.run(("core-0",)), machine.run(("core-0",), waits=False)
    machine.use["GPU-a"] = GpuUse(0.5, (NOT_OURS,))
    assert first.take(ON_CPU[0])
    for slot in (ON_CPU[0], ON_GPUS[0]):
        assert second.take(slot)
        assert not waits(second)
        first.give_back(ON_CPU[0])
        machine.use.clear()
        machine.now += 2
        assert second.has_company(slot)
        second.give_back(slot)
        assert second.take(slot)
        assert not second.has_company(slot), "the next trial there has it alone"
        machine.use["GPU-a"] = GpuUse(0.5, (NOT_OURS,))
        second.give_back(slot)


def test_the_other_runs_are_named_while_a_run_waits_for_cores(machine):
    first, second = machine.run(("core-0",)), machine.run(("core-0",))
    assert first.take(ON_CPU[0])
    for _ in range(2):
        assert not second.take(ON_CPU[0])
        assert waits(second)
        machine.now += 3
    assert machine.said == ["waiting: 1 core is used by other runs; --no-wait trains there all the same"]


def test_a_folder_that_cannot_be_written_is_said_once_and_the_run_goes_on(machine, tmp_path):
    run = machine.run()
    (tmp_path / "queue").touch()
    assert all(run.take(slot) for slot in ON_CPU)
    assert machine.said == [
        f"note: this run does not share cores and GPUs with other runs ({tmp_path}: Not a directory)"
    ]


def test_a_run_inside_a_trial_has_the_places_of_that_trial(tmp_path):
    rules, opened = SharingRules(("core-0",), 1, 0.1), list[int]()
    assert open_places({MARK: "1.2.3", VARIABLE: str(tmp_path)}, rules, pytest.fail, opened.append) is OWN_PLACES


def test_no_runtime_folder_is_said_and_the_run_goes_on(tmp_path):
    said, opened = list[str](), list[int]()
    rules = SharingRules(("core-0",), 1, 0.1)
    assert open_places({VARIABLE: str(tmp_path / "a" / "b")}, rules, said.append, opened.append) is OWN_PLACES
    assert said == [
        f"note: this run does not share cores and GPUs with other runs ({tmp_path}/a/b: No such file or directory)"
    ]


def test_slots_beyond_the_cores_have_places_of_their_own(monkeypatch):
    monkeypatch.setattr("tunectl.execution.shared_places.core_places", lambda: ("core-4", "core-5"))

    def cores(slots, threads=1):
        resources = ResourcesSection(threads_per_trial=threads)
        return sharing_rules(resources, make_slots([CPU], 1, threads, slots, cores=2), waits=True).cores

    assert cores(None) == cores(1) == cores(2) == ("core-4", "core-5")
    assert cores(3) == ("core-4", "core-5", "beyond-the-cores-0")
    assert cores(None, threads=8) == ("core-4", "core-5"), "one trial of more threads than cores takes all"
    assert len(cores(2, threads=2)) == 4
