"""Libraries of other tools in tests: skipped without them, but where they were asked for."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest

from tunectl.core.installation import install_command

MARKS = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]
"""For `pytestmark`: what such libraries warn of is not ours."""


def library(name: str, extra: str | None = None) -> ModuleType:
    """A module of another tool; skips the test if it is missing, fails it under `make frameworks`."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        message = f"{error.name} is missing; {install_command(extra or name.split('.')[0])}"
        if os.environ.get("TUNECTL_FRAMEWORKS") == "required":
            pytest.fail(message)
        pytest.skip(message)
