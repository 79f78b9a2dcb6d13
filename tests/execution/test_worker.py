"""The work of one process, with training and workloads replaced."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sys
import tempfile
import time
import types
from dataclasses import replace
from typing import Any

import pytest
from full_disks import fill_disk_under
from trial_records import ended

from tunectl.core import files, jsontext
from tunectl.core.errors import LoaderError, WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import TrialRequest, TrialResult, WorkloadReference
from tunectl.execution import worker
from tunectl.execution.protocol import EXIT_CRASHED, EXIT_STOPPED, EXIT_UNWRITTEN, Assignment
from tunectl.store.trial_files import read_result, read_trial

WORKLOAD = WorkloadReference("mine:factory", "factory", module="mine", search_path=("/a",))
REQUEST = TrialRequest(
    "study",
    7,
    5,
    WORKLOAD,
    {"width": 8},
    {"learning_rate": 0.1},
    Objective("valid/loss", "minimize"),
    10,
    5,
    3,
    threads=2,
)


class Calls(dict):
    """What the replaced modules were called with, and what they do: `does` (training) and `load` (load_factory)."""


@pytest.fixture
def calls(monkeypatch):
    calls = Calls(does=lambda: TrialResult(7, "completed", final_step=10), load=lambda: None)

    def module(name, **content):
        made = types.ModuleType(name)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)

    def factory():
        raise AssertionError("only training builds the workload")

    def load_factory(reference):
        calls["reference"] = reference
        calls["load"]()
        return factory

    def run_trial(request, folder, workload_factory, *, device, stop, seconds):
        calls.update(
            request=request, folder=folder, factory=workload_factory, device=device, stop=stop, seconds=seconds
        )
        return calls["does"]()

    def probe(request, workload_factory, *, device):
        calls.update(request=request, factory=workload_factory, device=device)
        calls["does"]()
        return ProbedTrial(1234, ("a note",))

    module("tunectl.training.trial", run_trial=run_trial)
    module("tunectl.training.probe", probe=probe)
    module("tunectl.training.pipeline_profile")
    module("tunectl.training.data_checks.data_checks")
    module("tunectl.workloads.workload_import", load_factory=load_factory)
    module("torch", set_num_threads=lambda count: calls.update(threads=count))
    calls["loaded"] = factory
    return calls


@pytest.fixture
def folder(tmp_path):
    folder = TrialFolder(tmp_path / "00007")
    folder.path.mkdir()
    folder.request.write_text(jsontext.encode(REQUEST.to_json()))
    return folder


def work(folder, stop=lambda: False, answer=-1):
    place, launched = str(folder.path), time.monotonic() - 2
    return worker.work(Assignment("trial", 7, "cuda:0", "GPU-a", folder=place, answer=answer, launched=launched), stop)


def test_a_trial_is_trained_from_its_request_and_its_result_written(calls, folder):
    stop = lambda: False  # noqa: E731
    assert work(folder, stop) == 0
    result = ended(read_trial(folder).result)
    assert (result.state, result.final_step, result.trial) == ("completed", 10, 7)
    assert result.device == "GPU-a", "the tables name the GPU itself, not the cuda:0 that every trial sees"
    assert calls["request"] == REQUEST
    assert calls["reference"] == WORKLOAD
    assert (calls["folder"], calls["device"], calls["stop"], calls["threads"]) == (folder, "cuda:0", stop, 2)
    assert calls["factory"] is calls["loaded"]
    assert 2 <= calls["seconds"].startup_seconds < 60


def test_a_power_cut_cannot_leave_a_result_without_its_request(calls, folder, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda opened: flushed.append(os.readlink(f"/proc/self/fd/{opened}")))  # noqa: PTH115
    assert work(folder) == 0
    names = [os.path.basename(path).lstrip(".").split(".json")[0] for path in flushed]  # noqa: PTH119
    assert names == ["request", "result"], "in this order"


def test_a_stopped_trial_leaves_no_result(calls, folder):
    calls["does"] = lambda: None
    assert work(folder) == EXIT_STOPPED
    assert not folder.result.exists()


def test_an_exception_of_the_user_s_is_a_failed_trial_with_place_and_traceback(calls, folder, capsys):
    def does():
        raise RuntimeError("the loss\nexploded")

    calls["does"] = does
    assert work(folder) == 0
    result = ended(read_trial(folder).result)
    assert (result.state, result.reason) == ("failed", "error")
    assert result.message == "RuntimeError: the loss", "the first line of the message"
    assert result.where.startswith(f"{__file__}:")
    assert "Traceback (most recent call last)" in result.traceback
    assert capsys.readouterr().err == result.traceback, "and in the log"


def test_a_trial_whose_loader_process_died_leaves_no_result_and_is_tried_again_like_a_crash(calls, folder, capsys):
    def does():
        raise LoaderError("DataLoader worker (pid 17) is killed by signal: Killed.")

    calls["does"] = does
    assert work(folder) == EXIT_CRASHED
    assert not folder.result.exists()
    assert "pid 17" in capsys.readouterr().err, "the log shows"


def ended_by(calls, folder, error):
    """The worker's exit code where training raises this, and the message that it hands to the runner."""

    def does():
        raise error

    calls["does"] = does
    with tempfile.TemporaryFile() as answer:
        code = work(folder, answer=answer.fileno())
        answer.seek(0)
        return code, json.loads(answer.read() or b"{}").get("message", "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "ulimit -n"),
        (OSError(errno.ENFILE, os.strerror(errno.ENFILE)), "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (InterruptedError(errno.EINTR, os.strerror(errno.EINTR)), "interrupted"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "no memory left"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
        (RuntimeError("unable to mmap 64 bytes from file </torch_1_2_3>: Cannot allocate memory (12)"), "--shm-size"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left (28)"), "--shm-size"),
        (
            OSError("Caught OSError in DataLoader worker process 0.\nOriginal Traceback\nOSError: [Errno 24] Too many"),
            "ulimit -n",
        ),
        (
            LoaderError("DataLoader worker (pid 1) is killed by signal: Bus error. ... out of shared memory."),
            "/dev/shm",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_machine_is_short_of_leaves_no_result_and_is_said_with_its_remedy(calls, folder, error, said):
    code, message = ended_by(calls, folder, error)
    assert code == EXIT_CRASHED
    assert said in message
    assert not folder.result.exists()


@pytest.mark.parametrize("error", [ValueError("[Errno 24] Too many open files"), OSError("no errno"), KeyError(24)])
def test_other_exceptions_are_failures_of_the_trial(calls, folder, error):
    assert ended_by(calls, folder, error) == (0, "")
    assert ended(read_trial(folder).result).reason == "error"


def test_a_file_of_the_user_s_beyond_the_limit_of_the_session_is_a_failure_that_names_the_limit(calls, folder):
    assert ended_by(calls, folder, OSError(errno.EFBIG, os.strerror(errno.EFBIG))) == (0, "")
    assert "File too large (" in ended(read_trial(folder).result).message


def test_a_trial_whose_folder_was_deleted_crashed_whatever_it_raised(calls, folder):
    def does():
        shutil.rmtree(folder.path)
        raise FileNotFoundError(errno.ENOENT, "resume.pt")

    calls["does"] = does
    assert work(folder) == EXIT_CRASHED


@pytest.mark.parametrize("spoil", [lambda folder: folder.result.mkdir(), lambda folder: shutil.rmtree(folder.path)])
def test_a_result_that_cannot_be_written_for_a_fault_of_the_trial_s_own_is_no_full_disk(calls, folder, spoil):
    calls["does"] = lambda: spoil(folder) or TrialResult(7, "completed")
    assert work(folder) == EXIT_CRASHED


def test_a_failed_trial_has_the_times_that_training_counted(calls, folder):
    def does():
        calls["seconds"].train_seconds, calls["seconds"].eval_seconds = 3.5, 1.25
        raise RuntimeError("at step 40")

    calls["does"] = does
    work(folder)
    result = ended(read_trial(folder).result)
    assert (result.train_seconds, result.eval_seconds) == (3.5, 1.25)
    assert 2 <= result.startup_seconds < 60


def test_a_workload_that_does_not_load_is_a_failed_trial_in_its_own_words(calls, folder):
    def load():
        raise WorkloadError("mine has no factory")

    calls["load"] = load
    assert work(folder) == 0
    result = ended(read_trial(folder).result)
    assert result.message == "mine has no factory"
    assert (result.train_seconds, result.eval_seconds) == (0.0, 0.0)
    assert 2 <= result.startup_seconds < 60


@pytest.mark.parametrize("text", ["\udcff in a path", 'quotes " and \\ and ü', "\x00\x1b[31m"])
def test_odd_characters_in_a_message_do_not_lose_the_result(calls, folder, text, capsys):
    def does():
        raise ValueError(text)

    calls["does"] = does
    sys.stderr.reconfigure(errors="backslashreplace") if hasattr(sys.stderr, "reconfigure") else None
    assert work(folder) == 0
    assert json.loads(folder.result.read_bytes())["message"].startswith("ValueError: ")


def test_a_full_disk_under_the_result_is_reported_by_the_exit_code_and_in_the_log(calls, folder, capsys, monkeypatch):
    fill_disk_under(monkeypatch, "result.json")
    assert work(folder) == EXIT_UNWRITTEN
    assert "the result of trial 7 could not be written: [Errno 28] No space left on device" in capsys.readouterr().err


_RAISES = "def write_bytes(number):\n    raise OSError(number, os.strerror(number), 'resume.pt')\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_cannot_be_written_is_reported_by_the_exit_code_and_makes_no_failed_trial(
    calls, folder, number, capsys
):
    ours: dict[str, Any] = {"os": os}
    exec(compile(_RAISES, files.__file__, "exec"), ours)  # a frame of the package, however deep below the user's
    calls["does"] = lambda: ours["write_bytes"](number)
    assert work(folder) == EXIT_UNWRITTEN
    assert not folder.result.exists()
    assert os.strerror(number) in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, EXIT_UNWRITTEN), (errno.EAGAIN, EXIT_CRASHED)])
def test_what_the_system_answered_counts_also_where_our_error_says_at_which_file(
    calls, folder, monkeypatch, number, code
):
    ours: dict[str, Any] = {"os": os}
    exec(compile(_RAISES, files.__file__, "exec"), ours)

    def does():
        monkeypatch.setattr("tunectl.core.regular_files.content", lambda _path, **_options: ours["write_bytes"](number))
        try:
            read_trial(folder)
        finally:
            monkeypatch.undo()

    calls["does"] = does
    assert work(folder) == code
    assert not folder.result.exists()


def test_a_disk_of_the_user_s_own_that_is_full_is_a_failure_of_the_trial_and_stops_no_other(calls, folder):
    def does():
        with open("/dev/full", "w") as cache:
            cache.write("the user's own file")

    calls["does"] = does
    assert work(folder) == 0
    result = ended(read_trial(folder).result)
    assert (result.state, result.reason) == ("failed", "error")
    assert "No space left on device" in result.message


def test_a_print_of_the_user_s_on_the_study_s_full_disk_is_no_failure_of_the_trial(calls, folder, monkeypatch):
    def does():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fill_disk_under(monkeypatch, "room")
    calls["does"] = does
    assert work(folder) == EXIT_UNWRITTEN
    assert not folder.result.exists()


def test_memory_that_ran_out_is_a_result_only_when_the_runner_has_judged_it(calls, folder):
    calls["does"] = lambda: TrialResult(7, "infeasible", "out_of_memory", "no room for 4 GiB")
    assert work(folder) == 0
    assert ended(read_result(folder)).provisional
    files_of_it = read_trial(folder)
    assert files_of_it.result is None
    assert [(item.attempt, item.reason, item.final) for item in files_of_it.attempts] == [(1, "out_of_memory", False)]


def test_other_errors_of_files_are_the_user_s_failures(calls, folder):
    def does():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "data.csv")

    calls["does"] = does
    assert work(folder) == 0
    assert ended(read_trial(folder).result).reason == "error"


def test_a_result_has_the_number_of_its_attempt(calls, folder):
    worker.work(Assignment("trial", 7, "cpu", "cpu", folder=str(folder.path), attempt=3), lambda: False)
    assert ended(read_trial(folder).result).attempt == 3


@pytest.mark.parametrize("content", ["", "{", '{"format": 99}', "[]"])
def test_a_request_that_cannot_be_read_is_not_the_user_s_failure(calls, folder, content):
    folder.request.write_text(content)
    with pytest.raises((ValueError, AttributeError)):
        work(folder)
    assert not folder.result.exists()


def probe(request=REQUEST):
    reading, writing = os.pipe()
    try:
        code = worker.work(Assignment("probe", 1, "cpu", request=request.to_json(), answer=writing), lambda: False)
        return code, json.loads(os.read(reading, 65536))
    finally:
        os.close(reading)
        os.close(writing)


def test_a_probe_that_works_answers_with_the_size_of_a_checkpoint(calls):
    assert probe() == (0, {"message": "", "where": "", "traceback": "", "checkpoint_bytes": 1234, "notes": ["a note"]})
    assert calls["request"] == REQUEST
    assert calls["threads"] == 2


def test_a_probe_that_does_not_answers_with_the_reason(calls):
    def does():
        raise WorkloadError("valid/error is not among the metrics: valid/error_rate, valid/loss")

    calls["does"] = does
    code, answer = probe()
    assert code == 0
    assert answer["message"].startswith("valid/error is not among")
    assert "Traceback" in answer["traceback"]


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt("mine"),
        SystemExit(3),
        asyncio.CancelledError("late"),
        GeneratorExit(),
        BaseExceptionGroup("several", [KeyboardInterrupt()]),
    ],
)
def test_what_the_user_s_code_raises_to_end_the_process_is_its_failure_with_its_place(calls, folder, error, capsys):
    def does():
        raise error

    calls["does"] = does
    assert work(folder) == 0, "a result, so that it runs once"
    result = ended(read_trial(folder).result)
    assert (result.state, result.reason) == ("failed", "error")
    assert result.message.startswith(type(error).__name__)
    assert result.where.startswith(f"{__file__}:")
    assert "in does" in result.traceback
    folder.result.unlink()
    assert work(folder, stop=lambda: True) == EXIT_STOPPED, "after a stop it is a way to end"
    assert not folder.result.exists()


def test_a_probe_answers_also_where_the_user_s_code_ends_the_process(calls, tmp_path):
    def does():
        raise KeyboardInterrupt("mine")

    calls["does"] = does
    with open(tmp_path / "answer", "w+b") as answer:
        worker.work(Assignment("probe", 1, "cpu", request=REQUEST.to_json(), answer=answer.fileno()), lambda: False)
        answer.seek(0)
        assert json.loads(answer.read())["message"] == "KeyboardInterrupt: mine"


@pytest.mark.parametrize(
    ("kept", "state", "reason", "stays"),
    [
        (0, "completed", "", False),
        (0, "infeasible", "nan_loss", False),
        (0, "infeasible", "out_of_memory", True),
        (0, "failed", "error", True),
        (1, "completed", "", True),
    ],
)
def test_without_kept_checkpoints_nothing_of_the_weights_stays_of_a_trial_that_ended_for_good(
    calls, folder, kept, state, reason, stays
):
    folder.request.write_text(jsontext.encode(replace(REQUEST, keep_checkpoints=kept).to_json()))
    calls["does"] = lambda: TrialResult(7, state, reason)
    for path in (folder.resume, folder.previous_resume):
        path.write_bytes(b"where it would go on")
    assert work(folder) == 0
    assert [path.exists() for path in (folder.resume, folder.previous_resume)] == [stays, stays]
