"""What the fork server does with the runner's messages, without its process. Tests server.py and process_launch.py."""

from __future__ import annotations

import errno
import importlib
import os
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tunectl.core import regular_files, shortages
from tunectl.execution import process_launch
from tunectl.execution import server as server_module
from tunectl.execution.backends.server_answers import process_ended
from tunectl.execution.protocol import EXIT_UNWRITTEN, Assignment
from tunectl.execution.server import _load, _Loaded, _Server, _Wakeup


@pytest.fixture
def server():
    unused: Any = None
    return _Server(unused, unused, "", "", unused, frozenset())


def test_an_order_to_hold_file_descriptors_needs_nothing_more(server):
    server.handle([{"op": "hold"}])
    assert server.children == {}


def test_an_order_that_the_server_does_not_know_is_refused(server):
    with pytest.raises(ValueError, match="'hodl'"):
        server.handle([{"op": "hold"}, {"op": "hodl"}])


class Heard:
    """The runner's end of the connection, and what it hears."""

    def __init__(self):
        self.messages = []

    def send(self, message):
        self.messages.append(message)


@pytest.mark.parametrize(("refusals", "heard"), [(3, "launched"), (99, "ended")])
def test_a_fork_that_the_system_refuses_is_tried_for_a_second(server, monkeypatch, tmp_path, refusals, heard):
    left = [errno.EAGAIN, errno.ENOMEM, errno.EMFILE] * (refusals // 3)
    waited: list[float] = []

    def fork(*_arguments):
        if left:
            number = left.pop()
            raise OSError(number, os.strerror(number))
        return 2**22 + 1

    monkeypatch.setattr(process_launch, "fork", fork)
    monkeypatch.setattr(server_module, "patiently", lambda call: shortages.patiently(call, waited.append))
    server.connection, server.wakeup = Heard(), _Wakeup(socket.socket(), -1)
    server.connection.fileno = lambda: -1
    assignment = Assignment("trial", 3, "cpu", folder=str(tmp_path), log=str(tmp_path / "log.txt"))
    server.handle([{"op": "launch", "assignment": assignment.to_json()}])
    (message,) = server.connection.messages
    assert (message["event"], message["number"]) == (heard, 3)
    assert 0 < sum(waited) < 1
    if heard == "ended":
        assert (message["code"], message["signal"]) == (None, None), "which the runner takes for a crash"
        assert "could not be started" in message["message"]
    server.wakeup.reading.close()
    for child in server.children.values():
        child.answer.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_log_ends_the_trial_as_one_that_cannot_write_its_files(
    server, monkeypatch, tmp_path, number
):
    def opened(*_arguments, **_more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(regular_files, "open_to_append", opened)
    server.connection = Heard()
    assignment = Assignment("trial", 3, "cpu", folder=str(tmp_path), log=str(tmp_path / "log.txt"))
    server.handle([{"op": "launch", "assignment": assignment.to_json()}])
    (message,) = server.connection.messages
    ended = process_ended(message)
    assert ended.verdict == EXIT_UNWRITTEN
    assert os.strerror(number) in ended.message


def test_loading_a_workload_names_the_files_that_it_imports(monkeypatch, tmp_path):
    helper = tmp_path / "helper_of_a_workload.py"
    helper.write_text("K = 1")
    monkeypatch.syspath_prepend(tmp_path)
    named = {"text": "", "factory": "", "search_path": []}
    load = {"op": "load", "workload": named, "code": [], "arguments": {}}
    connection: Any = SimpleNamespace(closed=False, receive=lambda: ([load], []))
    worker: Any = SimpleNamespace(
        warm_up=lambda *, own_code: None, preload=lambda *_: importlib.import_module(helper.stem) and None
    )
    try:
        loaded = _load(worker, connection, own_code=True)
    finally:
        sys.modules.pop(helper.stem, None)
    assert isinstance(loaded, _Loaded)
    assert loaded.files == [str(helper)]
