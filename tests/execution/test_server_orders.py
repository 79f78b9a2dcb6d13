"""What the fork server does with the runner's orders, without its process."""

from __future__ import annotations

import pytest

from tunectl.execution.server import _Server


@pytest.fixture
def server():
    return _Server(None, None, "", "", None, frozenset())


def test_an_order_to_hold_file_descriptors_needs_nothing_more(server):
    server.obey([{"op": "hold"}])
    assert server.children == {}


def test_an_order_that_the_server_does_not_know_is_refused(server):
    with pytest.raises(ValueError, match="'hodl'"):
        server.obey([{"op": "hold"}, {"op": "hodl"}])
