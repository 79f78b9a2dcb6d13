"""The error for a file or a folder that cannot be read or written, which no module words for itself."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import get_args

import pytest

import tunectl
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.path_errors import PathUse, path_error, path_errors, path_message, system_reason
from tunectl.core.typed_fields import DamagedError

PACKAGE = Path(tunectl.__file__).parent
PLAN = Path("runs/a/plan.jsonl")


def test_a_path_that_cannot_be_read_is_named_with_the_systems_reason() -> None:
    with (
        pytest.raises(FolderError, match=r"^runs/a/plan\.jsonl: cannot be read: Permission denied$") as raised,
        path_errors(PLAN, "read"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "another/name")
    assert isinstance(raised.value.__cause__, PermissionError), "what to do about it is found by its cause"


def test_the_caller_may_ask_for_another_error() -> None:
    with (
        pytest.raises(UsageError, match="cannot be written: No space left on device"),
        path_errors(PLAN, "written", UsageError),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_exceptions_pass_unchanged() -> None:
    with pytest.raises(KeyError, match="lr"), path_errors(PLAN, "read"):
        raise KeyError("lr")


def test_an_error_without_a_reason_of_the_system_gives_its_text() -> None:
    assert system_reason(OSError("a full pipe")) == "a full pipe"
    damaged = DamagedError("it is not JSON")
    assert str(path_error(PLAN, "read", damaged)) == path_message(PLAN, "read", damaged)
    assert path_message(PLAN, "read", damaged) == "runs/a/plan.jsonl: cannot be read: it is not JSON"


def test_no_other_module_words_such_an_error_itself() -> None:
    own_words = re.compile(rf": cannot be ({'|'.join(get_args(PathUse))}): \{{|\berror\.strerror\b|\"strerror\"")
    others = {
        f"{file.relative_to(PACKAGE)}: {match[0]}"
        for file in PACKAGE.rglob("*.py")
        if file.name != "path_errors.py"
        for match in own_words.finditer(file.read_text())
    }
    # A link to nothing has no reason of the system's.
    assert others == {"drafting/study_draft.py: : cannot be written: {"}, "use core/path_errors.py"
