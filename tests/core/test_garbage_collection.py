"""The garbage collector is paused, and is as before afterwards."""

from __future__ import annotations

import gc

import pytest

from tunectl.core.garbage_collection import no_garbage_collected


@pytest.mark.parametrize("was_enabled", [True, False])
def test_the_collector_is_paused_and_then_as_before_also_after_an_error(*, was_enabled: bool) -> None:
    def fails() -> None:
        with no_garbage_collected():
            assert not gc.isenabled()
            raise KeyError("lost")

    try:
        (gc.enable if was_enabled else gc.disable)()
        with pytest.raises(KeyError, match="lost"):
            fails()
        assert gc.isenabled() is was_enabled
    finally:
        gc.enable()
