"""The fork server and its trials, with real processes.

Tests backends/local.py, backends/server_answers.py, backends/server_process.py, server.py and process_launch.py; what
every backend must do is in tests/contracts/test_backends.py.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from narrowing import present
from toy_trials import Toys, all_gone, pid_in, wait_until

from tunectl.core.errors import FolderError, TunectlError, WorkloadError
from tunectl.core.objective import Objective
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.execution import processes, runner_lock
from tunectl.execution.backends import BACKENDS, local, server_process
from tunectl.execution.backends.local import LocalBackend

WORKLOAD = WorkloadReference("toy:works", "works", module="toy")
ANSWER = ["/memfd:tunectl (deleted)"]  # what a trial answers into
CHILDREN = ("child", "session", "daemon")


def request(study: str) -> TrialRequest:
    return TrialRequest(study, 0, 0, WORKLOAD, {}, {}, Objective("valid/loss", "minimize"), 10, 5, 3)


def test_a_server_that_may_fork_has_no_messages(toys):
    ready = toys.backend.wait_ready()
    assert ready.messages == ()
    assert toys.backend.launch_mode == "fork"
    assert ready.seconds > 0
    assert toys.backend.wait_ready() == ready, "asking twice is no harm"


def test_launches_ordered_while_the_workload_loads_are_not_lost(toys):
    folder = toys.launch(0, "completes")
    (ended,) = toys.until_ended(0)
    assert (ended.code, ended.signal, ended.lost) == (0, None, False)
    assert (folder / "result.json").exists()
    assert ended.seconds > 0


def test_a_trial_is_a_fork_in_its_own_group_with_its_own_device_and_nothing_of_the_servers(toys):
    folder = toys.launch(0, "reports", attempt=2)
    toys.until_ended(0)
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["group"] == facts["pid"] == toys.started[0]
    assert facts["session"] == facts["loaded_pid"] == toys.server_pid, "the module was imported by the server"
    assert facts["cuda"] == ""
    assert facts["omp"] == "3"
    assert (facts["attempt"], facts["device"], facts["stdin"]) == (2, "cpu", "")
    assert facts["fds"] == ANSWER, "no socket of the server's leaks into a trial"
    assert facts["blocked"] == []
    assert 0 < facts["seconds"] < 20
    assert (folder / "log.txt").read_text() == "half a line"


def test_everything_a_trial_writes_goes_to_its_log_and_attempts_append(toys):
    folder = toys.launch(0, "writes_to_fd_1")
    toys.until_ended(0)
    toys.ended.clear()
    toys.launch(0, "completes", attempt=2)
    toys.until_ended(0)
    lines = (folder / "log.txt").read_text().splitlines()
    assert lines == [
        "straight to the descriptor",
        "through the stream",
        "through a child",
        "through the buffer",
        "trained",
    ]


@pytest.mark.parametrize(
    ("behaviour", "code", "number", "said"),
    [
        ("exits_3", 3, None, ""),
        ("calls_sys_exit", 1, None, "enough"),
        ("raises", 70, None, "RuntimeError: outside of the user's code"),
        ("kills_itself", None, signal.SIGKILL, ""),
        ("writes_then_crashes", None, signal.SIGSEGV, "Segmentation fault"),
    ],
)
def test_the_exit_code_or_signal_of_a_trial_is_reported(toys, behaviour, code, number, said):
    folder = toys.launch(0, behaviour)
    (ended,) = toys.until_ended(0)
    assert (ended.code, ended.signal, ended.lost) == (code, number, False)
    assert said in (folder / "log.txt").read_text()


def test_a_stopped_trial_saves_and_ends_with_75(toys):
    folder = toys.launch(0, "waits_for_stop")
    pid_in(folder / "waiting")
    toys.backend.stop(0)
    (ended,) = toys.until_ended(0)
    assert ended.code == 75
    assert (folder / "saved").exists()


def test_a_stop_right_after_the_launch_waits_until_the_trial_can_answer_it(toys):
    # The signal may come between the fork and the handler: it must neither kill the trial nor be lost.
    toys.backend.wait_ready()
    for trial in range(12):
        toys.launch(trial, "waits_for_stop")
        toys.backend.stop(trial)
    for ended in toys.until_ended(*range(12)):
        assert (ended.code, ended.signal) == (75, None)


def test_stop_reaches_the_leader_alone_and_kill_the_whole_group(toys):
    folder = toys.launch(0, "ignores_stop")
    pid_in(folder / "waiting")
    toys.backend.stop(0)
    other = toys.launch(1, "completes")
    toys.until_ended(1)
    assert (other / "result.json").exists()
    assert 0 not in toys.ended, "it ignores SIGTERM"
    toys.backend.kill(0)
    (ended,) = toys.until_ended(0)
    assert ended.signal == signal.SIGKILL


@pytest.mark.parametrize("behaviour", ["leaves_children", "leaves_children_and_crashes"])
def test_a_trial_ends_only_when_all_that_it_started_is_gone(toys, behaviour):
    # In its group, in a session of its own, and as a daemon whose parent is gone: before the slot is used again all are
    # dead.
    waiting = toys.launch(1, "waits_for_stop")
    folder = toys.launch(0, behaviour)
    toys.until_ended(0)
    assert all_gone(*(pid_in(folder / name) for name in CHILDREN))
    assert processes.is_alive(pid_in(waiting / "waiting")), "another trial is left in peace"


def test_a_daemon_of_a_living_trial_is_left_alone_when_another_trial_ends(toys):
    folder = toys.launch(0, "leaves_children_and_waits")
    pid_in(folder / "waiting")
    toys.launch(1, "leaves_children")
    toys.until_ended(1)
    assert all(processes.is_alive(pid_in(folder / name)) for name in CHILDREN)
    toys.backend.kill(0)
    toys.until_ended(0)
    assert all_gone(*(pid_in(folder / name) for name in CHILDREN))


def test_closing_the_backend_leaves_no_process_and_may_be_done_twice(toys):
    folders = [toys.launch(trial, "leaves_children_and_waits") for trial in range(3)]
    pids = [pid_in(folder / name) for folder in folders for name in ("waiting", *CHILDREN)]
    server = toys.server_pid
    toys.backend.close()
    assert all_gone(server, *pids)
    toys.backend.close()


def test_a_closed_socket_ends_the_server_and_every_trial(toys):
    # What the server sees of a runner that was killed.
    folder = toys.launch(0, "leaves_children_and_waits")
    pids = [pid_in(folder / name) for name in ("waiting", *CHILDREN)]
    server = toys.server_pid
    toys.backend._server.connection.close()
    wait_until(lambda: all_gone(server, *pids), "server and trial are gone")


def test_a_terminal_s_ctrl_c_does_not_reach_the_server(toys):
    toys.backend.wait_ready()
    assert os.getsid(toys.server_pid) == toys.server_pid
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(toys.server_pid, number)
    toys.launch(0, "completes")
    (ended,) = toys.until_ended(0)
    assert ended.code == 0


def test_a_server_that_dies_loses_its_trials_and_another_one_takes_over(toys):
    # Also what left its group and its session, and has no parent of ours once the server has ended.
    waiting = toys.launch(1, "leaves_children_and_waits")
    pids = [pid_in(waiting / name) for name in ("waiting", *CHILDREN)]
    server = toys.server_pid
    folder = toys.launch(0, "kills_the_server")
    first, second = toys.until_ended(0, 1)
    assert first.lost
    assert second.lost
    assert first.message == "the fork server was killed by SIGKILL, and the trial with it"
    assert all_gone(*pids, pid_in(folder / "child")), "the groups were killed before the trials were reported"
    assert toys.server_pid != server
    toys.ended.clear()
    toys.launch(0, "kills_the_server", attempt=2)
    (ended,) = toys.until_ended(0)
    assert ended.code == 0


def test_a_killed_runner_leaves_no_process_and_a_free_lock(tmp_path):
    # The whole chain: a runner in a process of its own that holds the folder's lock is killed by SIGKILL.
    script = tmp_path / "runner.py"
    script.write_text(
        "import sys, signal\n"
        f"sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from pathlib import Path\n"
        "from toy_trials import Toys\n"
        "from tunectl.execution import runner_lock as lock\n"
        f"root = Path({str(tmp_path)!r})\n"
        "held = lock.acquire(root / 'lock')\n"
        "toys = Toys(root / 'trials')\n"
        "toys.start()\n"
        "toys.backend.hold(held.fd)\n"
        "for trial in range(2):\n"
        "    toys.launch(trial, 'leaves_children_and_waits')\n"
        "signal.pause()\n"
    )
    runner = subprocess.Popen([sys.executable, str(script)])
    try:
        folders = [tmp_path / "trials" / f"{trial:05d}" for trial in range(2)]
        pids = [pid_in(folder / name) for folder in folders for name in ("waiting", *CHILDREN)]
        with pytest.raises(FolderError, match=f"in use by process {runner.pid} "):
            runner_lock.acquire(tmp_path / "lock")
    finally:
        runner.kill()
        runner.wait()
    runner_lock.acquire(tmp_path / "lock").release()
    assert all_gone(*pids), "the lock is free only when the last writer is gone"


def test_a_trial_dies_with_its_server_when_no_process_is_left_to_kill_it(toys):
    # Runner and server killed at the same moment: the kernel kills the trial.
    toys.backend.wait_ready()
    pid = pid_in(toys.launch(0, "ignores_stop") / "waiting")
    os.kill(toys.server_pid, signal.SIGKILL)
    wait_until(lambda: all_gone(pid), "the trial is gone, without a call to poll")


def test_a_runner_killed_while_the_workload_loads_takes_the_server_with_it(tmp_path):
    mark = tmp_path / "loading"
    script = tmp_path / "runner.py"
    script.write_text(
        "import sys, signal\n"
        f"sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from pathlib import Path\n"
        "from toy_trials import Toys\n"
        f"Toys(Path({str(tmp_path)!r}), 'never_loads', {str(mark)!r}).start()\n"
        "signal.pause()\n"
    )
    runner = subprocess.Popen([sys.executable, str(script)])
    server = pid_in(mark)
    runner.kill()
    runner.wait()
    wait_until(lambda: all_gone(server), "the loading server is gone")


def test_closing_while_the_workload_loads_ends_the_server_at_once(make_toys, tmp_path):
    toys = make_toys("never_loads", str(tmp_path / "loading"))
    server = pid_in(tmp_path / "loading")
    begun = time.monotonic()
    toys.backend.close()
    assert all_gone(server)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("raises", r"the workload could not be loaded: .*toy_worker\.py:\d+: ValueError: there is no such data set"),
        (
            "exits",
            r"the workload could not be loaded: .*toy_worker\.py:\d+: loading .* called sys\.exit\('no licence'\)",
        ),
    ],
)
def test_an_error_in_what_is_preloaded_comes_back_as_a_message(make_toys, factory, message):
    toys = make_toys(factory)
    with pytest.raises(WorkloadError, match=message) as caught:
        toys.backend.wait_ready()
    assert "Traceback (most recent call last)" in caught.value.__notes__[0]
    toys.backend.close()


def test_what_is_preloaded_gets_its_arguments_and_may_say_what_is_unusual(tmp_path):
    toys = Toys(tmp_path, "notes")
    toys.start(data="cifar", width=4)
    try:
        assert present(toys.backend.wait_ready()).messages == ("warning: loaded with {'data': 'cifar', 'width': 4}",)
    finally:
        toys.backend.close()


def test_a_workload_that_kills_its_process_is_named_with_its_last_output(make_toys):
    toys = make_toys("dies")
    with pytest.raises(TunectlError, match=r"loads the workload was killed by SIGSEGV; its last output:\nabout to die"):
        toys.backend.wait_ready()


def test_a_library_that_cannot_be_imported_is_an_error_of_the_wait_for_the_workload(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_WARM_UP", "raises")
    toys = Toys(tmp_path)
    toys.start()
    try:
        with pytest.raises(WorkloadError, match="no such library"):
            toys.backend.wait_ready()
    finally:
        toys.backend.close()


def test_a_server_that_was_never_given_a_workload_ends_with_its_runner(tmp_path):
    toys = Toys(tmp_path)
    toys.backend.start()
    server = toys.server_pid
    with pytest.raises(RuntimeError, match="load"):
        toys.backend.wait_ready()
    toys.backend.close()
    assert all_gone(server)


def test_a_server_killed_while_it_loads_is_replaced_once_and_launches_what_was_ordered(make_toys, tmp_path):
    toys = make_toys()
    first = toys.server_pid
    toys.launch(0, "completes")
    os.kill(first, signal.SIGKILL)
    assert toys.backend.wait_ready() is not None
    assert toys.server_pid != first
    (ended,) = toys.until_ended(0)
    assert ended.code == 0


def test_a_server_that_is_killed_again_while_it_loads_is_an_error(make_toys):
    toys = make_toys("killed")
    with pytest.raises(TunectlError, match="loads the workload was killed by SIGKILL"):
        toys.backend.wait_ready()
    assert toys.backend._starts == 2


def test_a_second_server_that_cannot_load_stops_the_study_with_the_reason(make_toys, tmp_path):
    toys = make_toys()
    toys.backend.wait_ready()
    toys.launch(0, "waits_for_stop")
    toys.until_started(0)
    toys.backend._workload = WorkloadReference("toy:raises", "raises", module="toy")
    os.kill(toys.server_pid, signal.SIGKILL)
    toys.until_ended(0)
    toys.launch(1, "completes")
    with pytest.raises(WorkloadError, match="there is no such data set"):
        toys.until_ended(1)


@pytest.mark.parametrize("factory", ["leaves_a_thread"])
def test_where_forking_is_unsafe_trials_are_spawned_and_the_message_says_why(make_toys, factory):
    toys = make_toys(factory)
    ready = toys.backend.wait_ready()
    assert toys.backend.launch_mode == "spawn"
    (message,) = ready.messages
    assert message.startswith("each trial starts as a new process, which takes a few seconds: ")
    assert "1 other thread running (reader)" in message
    folder = toys.launch(0, "reports")
    toys.until_ended(0)
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["loaded_pid"] == facts["pid"], "a fresh interpreter imported the worker"
    assert facts["group"] == facts["pid"]
    assert (facts["cuda"], facts["omp"], facts["stdin"], facts["fds"]) == ("", "3", "", ANSWER)
    assert facts["blocked"] == []


def test_a_spawned_trial_is_stopped_killed_and_cleaned_up_like_a_forked_one(make_toys):
    toys = make_toys("leaves_a_thread")
    early = toys.launch(0, "waits_for_stop")
    toys.backend.stop(0)
    folder = toys.launch(1, "leaves_children_and_waits")
    pids = [pid_in(folder / name) for name in ("waiting", *CHILDREN)]
    toys.backend.kill(1)
    stopped, killed = toys.until_ended(0, 1)
    assert (stopped.code, (early / "saved").exists()) == (75, True)
    assert killed.signal == signal.SIGKILL
    assert all_gone(*pids)
    folder = toys.launch(2, "waits_for_stop")
    pid = pid_in(folder / "waiting")
    os.kill(toys.server_pid, signal.SIGKILL)
    toys.until_ended(2)
    assert all_gone(pid)


def test_a_lock_is_held_by_spawned_trials_too(make_toys, tmp_path):
    toys = make_toys("leaves_a_thread")
    held = runner_lock.acquire(tmp_path / "lock")
    toys.backend.hold(held.fd)
    folder = toys.launch(0, "waits_for_stop")
    pid = pid_in(folder / "waiting")
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    held.release()
    assert str(tmp_path / "lock") in links


def test_many_locks_are_held_by_the_server_and_by_the_one_that_replaces_it(toys, tmp_path):
    # More than one message between runner and server can carry: a lock for each core.
    files = [(tmp_path / f"core-{number}.lock").open("w") for number in range(20)]
    for file in files:
        toys.backend.hold(file.fileno())
    toys.backend.wait_ready()
    first = toys.server_pid
    os.kill(first, signal.SIGKILL)
    toys.launch(0, "waits_for_stop")
    toys.until_started(0)
    assert toys.server_pid != first
    held = {link.readlink() for link in Path(f"/proc/{toys.started[0]}/fd").iterdir()}
    assert {Path(file.name) for file in files} <= held
    for file in files:
        file.close()


def test_handlers_that_the_workload_set_do_not_deafen_the_server(make_toys):
    toys = make_toys("spoils_signals")
    toys.launch(0, "completes")
    (ended,) = toys.until_ended(0)
    assert ended.code == 0


def test_a_child_that_loading_left_lives_while_trials_end_and_dies_with_the_server(make_toys):
    toys = make_toys("leaves_a_child")
    toys.backend.wait_ready()
    children = (Path("/proc") / str(toys.server_pid) / "task" / str(toys.server_pid) / "children").read_text().split()
    assert len(children) == 1
    toys.launch(0, "leaves_children")
    toys.until_ended(0)
    assert processes.is_alive(int(children[0]))
    toys.backend.close()
    assert all_gone(int(children[0]))


def test_a_log_that_cannot_be_written_ends_the_trial_with_the_reason(toys):
    folder = toys.folder(0)
    (folder / "log.txt").mkdir()
    toys.backend.launch(0, folder, toys.slots[0], 1)
    (ended,) = toys.until_ended(0)
    assert (ended.code, ended.signal, ended.lost) == (None, None, False)
    assert "could not be started" in ended.message
    assert "log.txt" in ended.message


def test_odd_folder_names_are_no_trouble(toys):
    toys.root = toys.root / "a b\n'ü" / os.fsdecode(b"\xff")
    folder = toys.launch(0, "completes")
    (ended,) = toys.until_ended(0)
    assert ended.code == 0
    assert (folder / "result.json").exists()


def test_a_probe_that_works_says_how_large_a_checkpoint_is(toys):
    assert toys.backend.probe(request("works"), toys.slots[0]) == ProbedTrial(1234)
    assert toys.backend.probe(request("works"), toys.slots[0]) == ProbedTrial(1234)


def test_a_probe_s_trouble_comes_back_as_an_error(toys):
    with pytest.raises(WorkloadError, match=r"mine\.py:3: it has no wheels"):
        toys.backend.probe(request("it has no wheels"), toys.slots[0])


def test_a_probe_that_dies_is_an_error_with_its_last_output(toys):
    with pytest.raises(WorkloadError, match=r"was killed by SIGKILL; its last output:\nin the middle of it"):
        toys.backend.probe(request("dies"), toys.slots[0])


@pytest.mark.parametrize("victim", ["itself", "its server"])
def test_one_kill_during_a_probe_says_nothing_about_the_workload(toys, tmp_path, victim):
    assert toys.backend.probe(request(f"kills {victim} once {tmp_path / 'mark'}"), toys.slots[0]) == ProbedTrial(1234)
    toys.launch(0, "completes")
    (ended,) = toys.until_ended(0)
    assert ended.code == 0


def test_a_probe_that_is_killed_with_every_server_is_an_error_and_leaves_no_process(toys, tmp_path):
    toys.backend.wait_ready()
    first = toys.server_pid
    with pytest.raises(WorkloadError, match=r"its process lost its fork server, which was killed by SIGKILL"):
        toys.backend.probe(request(f"kills its server always {tmp_path / 'mark'}"), toys.slots[0])
    # They die with their servers, and the runner waits for the servers' exit alone.
    pids = [first, *map(int, (tmp_path / "mark").read_text().split())]
    wait_until(lambda: all_gone(*pids), "no process is left")


def test_what_a_server_never_launched_is_launched_by_the_next_one(toys):
    toys.backend.wait_ready()
    os.kill(toys.server_pid, signal.SIGSTOP)
    toys.launch(0, "completes")
    os.kill(toys.server_pid, signal.SIGKILL)
    (ended,) = toys.until_ended(0)
    assert (ended.code, ended.lost) == (0, False), "it never ran, and no retry is used up"


@pytest.mark.parametrize("sign", ["a stop was asked for", "a result is there"])
def test_a_launch_is_not_ordered_again_where_there_is_a_sign_that_it_should_not(toys, sign):
    toys.backend.wait_ready()
    os.kill(toys.server_pid, signal.SIGSTOP)
    folder = toys.launch(0, "completes")
    if sign == "a result is there":
        (folder / "result.json").write_text("{}")
    else:
        toys.backend.stop(0)
    os.kill(toys.server_pid, signal.SIGKILL)
    (ended,) = toys.until_ended(0)
    assert (ended.lost, toys.started) == (True, {})


def test_a_trial_whose_servers_all_die_before_it_starts_is_lost_in_the_end(toys, monkeypatch):
    monkeypatch.setattr(server_process, "_MAX_LAUNCHES", 1)
    toys.backend.wait_ready()
    os.kill(toys.server_pid, signal.SIGSTOP)
    toys.launch(0, "completes")
    os.kill(toys.server_pid, signal.SIGKILL)
    (ended,) = toys.until_ended(0)
    assert ended.lost


def test_a_server_that_cannot_be_started_is_an_error_for_people(monkeypatch):
    def no_room(*_arguments, **_options):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(local, "start_server", server_process.start_server)  # no fork of one that is warm
    monkeypatch.setattr(subprocess, "Popen", no_room)
    with pytest.raises(TunectlError, match=r"cannot be started: Resource temporarily unavailable; .* short of"):
        LocalBackend().start()


def test_a_full_folder_for_temporary_files_keeps_no_server_from_starting(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    toys = Toys(tmp_path / "trials")
    toys.start()
    assert toys.backend.probe(request("works"), toys.slots[0]) == ProbedTrial(1234)
    toys.backend.close()


def test_a_probe_that_hangs_is_given_up_when_a_stop_is_asked_for(toys):
    toys.backend.wait_ready()
    asked = iter([0, 0, 0, 1])
    assert toys.backend.probe(request("hangs"), toys.slots[0], lambda: next(asked)) is None
    assert toys.backend.probe(request("works"), toys.slots[0]) == ProbedTrial(1234)


def test_a_stop_while_the_workload_loads_ends_the_waiting(make_toys, tmp_path):
    toys = make_toys("never_loads", str(tmp_path / "loading"))
    asked = iter([0, 1, 1])
    assert toys.backend.wait_ready(lambda: next(asked)) is None
    assert toys.backend.probe(request("works"), toys.slots[0], lambda: 1) is None


def test_a_probe_works_where_trials_are_spawned(make_toys):
    toys = make_toys("leaves_a_thread")
    toys.backend.probe(request("works"), toys.slots[0])
    with pytest.raises(WorkloadError, match="wheels"):
        toys.backend.probe(request("no wheels"), toys.slots[0])


def test_the_local_backend_is_made_by_name():
    assert isinstance(BACKENDS["local"](), LocalBackend)
