"""Tests cli/clean.py: without an answer nothing is removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from builders import study_text
from made_up_folders import made_up_folder
from study_calls import Called


def test_it_says_what_may_go_and_removes_it_with_yes_alone(tmp_path: Path, tunectl: Callable[..., Called]) -> None:
    folder = made_up_folder(tmp_path / "a", study_text(), lambda _: 0.5)
    spare = folder.trial(0).checkpoint(100)  # the best is at step 50
    shown = tunectl("clean", folder.path)
    assert shown.code == 0, shown.err
    assert "checkpoints that are not the best of their trial" in shown.out
    assert shown.out.endswith("nothing was removed; --yes removes it\n")
    as_json = tunectl("clean", folder.path, "--json").json()
    assert (as_json["removed"], spare.exists()) == (False, True)
    assert {"path": str(spare.relative_to(folder.path)), "what": as_json["files"][0]["what"], "bytes": 12} in as_json[
        "files"
    ]
    removed = tunectl("clean", folder.path, "--yes")
    assert f"removed {12 * len(as_json['files'])} bytes" in removed.out
    assert (spare.exists(), folder.trial(0).checkpoint(50).exists()) == (False, True)
    assert tunectl("clean", folder.path).out == f"{folder.path}: there is nothing to remove\n"
