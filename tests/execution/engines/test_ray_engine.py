"""Workers on a real Ray: a local one and a cluster of several nodes on this host, with a substitute for the worker.

Tests execution/engines/ray.py, ray_agent.py, ray_agent_process.py, ray_node.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_clusters import SUBSTITUTE, RayNodes, need_ray
from toy_trials import wait_until

from tunectl.core.errors import TunectlError
from tunectl.execution import processes
from tunectl.execution.engines import make_engine
from tunectl.execution.engines.ray import RayEngine
from tunectl.execution.worker_engine import EngineJob, WorkerOrder
from tunectl.language.study_spec import RaySection, ResourcesSection

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

LONG_SECONDS = 90.0


class Study:
    """A study folder with substitutes for workers, and the engines that were made for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.engines: list[RayEngine] = []
        folder.mkdir()

    def engine(self, address: str | None = "local", grace_seconds: float = 5.0, **ray: Any) -> RayEngine:
        section = RaySection(address=address, **ray)
        resources = ResourcesSection(backend="ray", grace_seconds=grace_seconds, ray=section)
        python = (sys.executable, "-P", str(SUBSTITUTE))
        order = WorkerOrder(self.folder, resources, self.said.append, self.folder / "workers", python)
        made = make_engine("ray", order)
        assert isinstance(made, RayEngine)
        self.engines.append(made)
        return made

    def started(self) -> dict[str, dict[str, Any]]:
        return {
            path.name.removeprefix("started-"): json.loads(path.read_text()) for path in self.folder.glob("started-*")
        }

    def pids(self) -> list[int]:
        return [facts["pid"] for facts in self.started().values()]


def until(engine: RayEngine, condition: Callable[[list[EngineJob]], bool], what: str) -> None:
    wait_until(lambda: condition(list(engine.jobs().values())), what, seconds=LONG_SECONDS)


def until_running(study: Study, engine: RayEngine) -> None:
    """Wait until all jobs of the engine run, and their programs, which start a little later."""

    def is_so() -> bool:
        jobs = engine.jobs()
        return (
            bool(jobs)
            and all(job.state == "running" for job in jobs.values())
            and jobs.keys() <= study.started().keys()
        )

    wait_until(is_so, "the workers run", seconds=LONG_SECONDS)


def states(engine: RayEngine) -> list[str]:
    return sorted(job.state for job in engine.jobs().values())


@pytest.fixture(autouse=True)
def ray() -> None:
    need_ray()


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    made = Study(tmp_path / "study")
    yield made
    for engine in made.engines:
        engine.cancel()
        engine.close()
    assert not any(processes.is_alive(pid) for pid in made.pids())


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    need_ray()
    cluster = RayNodes()
    cluster.add(2, gpus=2)
    yield cluster
    cluster.close()


def test_a_local_cluster_runs_workers_and_ends_with_the_run(study: Study, tmp_path: Path) -> None:
    engine = study.engine()
    assert not engine.can_be_left
    engine.submit(2)
    assert states(engine) == ["queued", "queued"], "they are known at once, though Ray was not reached yet"
    until_running(study, engine)
    jobs = dict(engine.jobs())
    assert set(study.started()) == set(jobs)
    assert [engine.knows(job) for job in jobs] == [True, True]
    assert engine.knows("tunectl-of-another-study") is False
    for job, known in jobs.items():
        assert known.log is not None
        assert known.log.read_text() == "I am a worker\n"
        assert study.started()[job]["arguments"][3:] == [str(study.folder), "--idle-seconds", "60", "--slots", "1"]
    assert engine.most >= 1
    assert not {"ray", "torch"} & set(sys.modules), "the runner's process stays light"
    engine.close()
    assert not any(processes.is_alive(pid) for pid in study.pids())
    assert {path.name.removeprefix("saved-") for path in study.folder.glob("saved-*")} == set(jobs), "they could save"


def test_workers_that_end_by_themselves_say_how(study: Study) -> None:
    engine = study.engine()
    engine.submit(1)
    until_running(study, engine)
    (study.folder / "over").touch()
    until(engine, lambda jobs: jobs[0].state == "ended", "the worker has ended")
    assert [job.reason for job in engine.jobs().values()] == [""]
    (study.folder / "over").unlink()
    (study.folder / "broken").touch()
    engine.submit(1)
    until(engine, lambda jobs: all(job.state == "ended" for job in jobs), "the other one, too")
    reasons = [job.reason for job in engine.jobs().values()]
    assert reasons[1] == "exit code 2"
    assert [engine.knows(job) for job in engine.jobs()] == [False, False]


def test_a_worker_that_is_killed_is_known_to_have_ended(study: Study) -> None:
    engine = study.engine()
    engine.submit(1)
    until_running(study, engine)
    os.kill(study.pids()[0], signal.SIGKILL)
    until(engine, lambda jobs: jobs[0].state == "ended", "the worker has ended")
    assert [job.reason for job in engine.jobs().values()] == ["SIGKILL"]


def test_a_cancelled_worker_that_does_not_end_is_killed(study: Study, nodes: RayNodes) -> None:
    (study.folder / "stubborn").touch()
    engine = study.engine(nodes.address, grace_seconds=0.5)
    engine.submit(2)
    until_running(study, engine)
    engine.submit(1)  # no GPU is left for it
    engine.cancel()
    until(engine, lambda jobs: all(job.state == "ended" for job in jobs), "all have ended")
    assert {job.reason for job in engine.jobs().values()} == {"CANCELLED"}
    assert len(study.started()) == 2
    assert not any(processes.is_alive(pid) for pid in study.pids())


def test_each_worker_has_gpus_of_its_own_and_one_that_needs_several_has_them_of_one_node(
    study: Study, nodes: RayNodes
) -> None:
    engine = study.engine(nodes.address)
    engine.submit(2)
    until_running(study, engine)
    assert sorted(facts["CUDA_VISIBLE_DEVICES"] for facts in study.started().values()) == ["0", "1"]
    assert [facts["TUNECTL_GPUS"] for facts in study.started().values()] == ["1", "1"], "they know that it is theirs"
    assert engine.most == 2
    engine.cancel()
    until(engine, lambda jobs: all(job.state == "ended" for job in jobs), "both have ended")
    wide = study.engine(nodes.address, num_gpus=2)
    wide.submit(1)

    def job() -> str:
        return next((job for job, known in wide.jobs().items() if known.state == "running"), "")

    wait_until(lambda: job() in study.started(), "a worker with two GPUs runs", seconds=LONG_SECONDS)
    assert study.started()[job()]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert (wide.most, wide.trials_at_once) == (1, 2)


def test_a_worker_without_gpus_sees_none(study: Study, nodes: RayNodes) -> None:
    engine = study.engine(nodes.address, num_gpus=0)
    engine.submit(1)
    until_running(study, engine)
    assert [facts["CUDA_VISIBLE_DEVICES"] for facts in study.started().values()] == [""]


def test_workers_of_a_cluster_go_on_without_the_run_and_the_next_one_finds_them(study: Study, nodes: RayNodes) -> None:
    first = study.engine(nodes.address)
    assert first.can_be_left
    first.submit(1)
    first.close()  # at once: the cluster was not even reached
    (job,) = first.jobs()
    second = study.engine(nodes.address)
    until_running(study, second)
    assert list(second.jobs()) == [job]
    assert second.knows(job) is True
    second.cancel()
    until(second, lambda jobs: jobs[0].state == "ended", "it has ended")
    assert (study.folder / f"saved-{job}").exists()


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_ray_engine import Study, until_running
study = Study.__new__(Study)
study.folder, study.said, study.engines = Path(sys.argv[2]), [], []
engine = study.engine(sys.argv[3])
engine.submit(1)
until_running(study, engine)
print("running", flush=True)
sys.stdin.read()
"""


def killed_run(study: Study, address: str) -> None:
    """A run in a process of its own, which is killed when its worker runs."""
    here = Path(__file__).parent
    environ = {**os.environ, "PYTHONPATH": str(here.parent.parent)}
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, here, study.folder, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
    )
    with run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"running\n"
        run.kill()


def test_workers_of_a_cluster_outlive_a_run_that_is_killed(study: Study, nodes: RayNodes) -> None:
    killed_run(study, nodes.address)
    (job,) = study.started()
    engine = study.engine(nodes.address)
    until_running(study, engine)
    assert list(engine.jobs()) == [job]


def test_a_local_cluster_ends_when_its_run_is_killed_and_its_workers_can_save(study: Study) -> None:
    killed_run(study, "local")
    (pid,) = study.pids()
    wait_until(lambda: not processes.is_alive(pid), "the worker has ended", seconds=LONG_SECONDS)
    assert len(list(study.folder.glob("saved-*"))) == 1


def test_a_node_that_is_lost_takes_its_worker_with_it(study: Study, nodes: RayNodes) -> None:
    node = nodes.add(1)
    engine = study.engine(nodes.address, num_gpus=0, num_cpus=1, workers=1)
    engine.submit(3)
    until_running(study, engine)
    nodes.remove(node)
    until(engine, lambda jobs: any(job.state == "ended" for job in jobs), "one has ended")
    ended = {name: job for name, job in engine.jobs().items() if job.state == "ended"}
    assert len(ended) == 1
    assert [job.reason for job in ended.values()] == ["NODE_FAIL"]
    assert [engine.knows(name) for name in ended] == [False]
    assert states(engine) == ["ended", "running", "running"]
    assert engine.most == 1


def test_an_agent_that_dies_is_followed_by_another_that_finds_the_workers(study: Study, nodes: RayNodes) -> None:
    engine = study.engine(nodes.address)
    engine.submit(1)
    until_running(study, engine)
    (job,) = engine.jobs()
    assert engine._agent is not None
    os.kill(engine._agent.pid, signal.SIGKILL)
    wait_until(lambda: engine.knows(job) is None, "while there is no agent, it cannot be known")
    assert engine.jobs()[job].state == "running"
    wait_until(lambda: engine.knows(job) is True, "the next agent has found it", seconds=LONG_SECONDS)


def test_a_cluster_that_cannot_be_reached_is_said_and_tried_again_later(study: Study) -> None:
    engine = study.engine("127.0.0.1:1")
    engine.submit(1)
    until(engine, lambda jobs: jobs[0].state == "ended", "the cluster was not found")
    (known,) = engine.jobs().values()
    assert known.reason.startswith("no Ray cluster answers at 127.0.0.1:1: Connection refused; start one (`ray start")
    with pytest.raises(TunectlError, match="no Ray cluster answers"):
        engine.submit(1)


def test_what_no_node_has_is_refused_on_a_local_cluster_and_said_on_another(study: Study, nodes: RayNodes) -> None:
    engine = study.engine(num_gpus=1000)
    wait_until(lambda: engine.knows("any") is False, "Ray was reached", seconds=LONG_SECONDS)
    with pytest.raises(TunectlError, match=r"no node of the Ray cluster has 1 CPU and 1000 GPU for one worker"):
        engine.submit(1)
    other = study.engine(nodes.address, num_gpus=1000)
    wait_until(lambda: other.knows("any") is False, "Ray was reached", seconds=LONG_SECONDS)
    other.submit(1)
    other.submit(1)
    waits = [line for line in study.said if line.endswith("; the workers wait until such a node joins the cluster")]
    assert len(waits) == 1, "it is said once"
    assert states(other) == ["queued", "queued"]


def test_an_option_that_ray_does_not_know_is_said_in_its_words(study: Study, nodes: RayNodes) -> None:
    engine = study.engine(nodes.address, additional={"colour": "red"})
    engine.submit(1)
    until(engine, lambda jobs: jobs[0].state == "ended", "Ray has refused it")
    (known,) = engine.jobs().values()
    assert known.reason.startswith("Ray refuses this worker: ValueError: Invalid option keyword colour for actors.")
