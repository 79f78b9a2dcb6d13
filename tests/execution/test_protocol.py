"""JSON lines over a socket pair."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunectl.execution.protocol import Assignment, Connection


@pytest.fixture
def ends():
    pair = [Connection(end) for end in socket.socketpair()]
    yield pair
    for end in pair:
        end.close()


def test_messages_arrive_whole_and_in_order(ends):
    ours, theirs = ends
    ours.send({"op": "a", "path": os.fsdecode(b"/x\xff/\xc3\xbc\n")})
    ours.send({"op": "b"})
    messages, fds = theirs.receive()
    assert messages == [{"op": "a", "path": os.fsdecode(b"/x\xff/\xc3\xbc\n")}, {"op": "b"}]
    assert fds == []


def test_a_message_longer_than_a_packet_is_put_together(ends):
    ours, theirs = ends
    text = "x" * 100_000
    ours.send({"text": text})
    messages: list = []
    while not messages:
        messages, _ = theirs.receive()
    assert messages == [{"text": text}]


@given(
    content=st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=4),
    cut=st.integers(1, 50),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_however_the_stream_is_cut_the_messages_are_the_same(content, cut):
    sending, receiving = socket.socketpair()
    ours, theirs = Connection(sending), Connection(receiving)
    for message in content:
        ours.send(message)
    ours.close()
    raw = b""
    while piece := receiving.recv(65536):
        raw += piece
    theirs.close()
    sending, receiving = socket.socketpair()
    read = []
    theirs = Connection(receiving)
    for start in range(0, len(raw), cut):
        sending.sendall(raw[start : start + cut])
        read += theirs.receive()[0]
    sending.close()
    assert read == content
    assert theirs.receive() == ([], [])
    assert theirs.closed
    theirs.close()


def test_descriptors_travel_with_a_message_and_are_not_inherited(ends, tmp_path):
    ours, theirs = ends
    with open(tmp_path / "file", "w") as file:
        ours.send({"op": "hold"}, (file.fileno(),))
        messages, (fd,) = theirs.receive()
        assert messages == [{"op": "hold"}]
        assert os.path.samestat(os.fstat(fd), os.fstat(file.fileno()))
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_the_end_of_the_other_side_is_seen_after_its_last_words(ends):
    ours, theirs = ends
    theirs.send({"event": "ended"})
    theirs.close()
    ours.send({"op": "launch"})
    ours.send({"op": "hold"}, (0,))
    assert not ours.closed, "its last words are still to be read"
    assert ours.receive()[0] == [{"event": "ended"}]
    ours.receive()
    assert ours.closed


def test_an_assignment_comes_back_as_it_was():
    assignment = Assignment(
        "trial", 7, "cuda:0", "GPU-a", {"A": "b"}, folder="/x", log="/x/log.txt", attempt=2, launched=1.5
    )
    assert Assignment.from_json(assignment.to_json()) == assignment
