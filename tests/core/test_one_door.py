"""Files and folders are opened, created, moved and removed in one place, which checks for links and pipes.

The exceptions are listed here, each with its reason.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunectl

PACKAGE = Path(tunectl.__file__).parent
DOORS = {"core/files.py", "core/folder_copies.py", "core/real_folders.py", "core/regular_files.py"}

DOOR_NAMES = {Path(name).stem for name in DOORS}

OF_PATHS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "touch", "mkdir", "rmdir", "unlink", "rename"),
    *("symlink_to", "hardlink_to"),
}
OF_OS = {
    *("open", "remove", "unlink", "rename", "renames", "replace", "link", "symlink", "truncate", "mkdir", "makedirs"),
    *("rmdir", "removedirs", "mkfifo"),
}
OF_SHUTIL = {"rmtree", "copy", "copy2", "copyfile", "copytree", "move"}
OPENING = OF_PATHS | OF_OS | OF_SHUTIL

OWN_FILES = "the package's own files"
KERNEL = "the system's own files"
INSTALLED = "a file of an installed package"
NOWHERE = "/dev/null, or a descriptor that is open already"
NEW = "a new place that was created, or checked, just before"
STUDY_FOLDER = "the study folder itself, which may be reached through a link"
USERS = "a path of the user, outside any study folder"

ALLOWED = {
    ("core/file_locks.py", "os.open"): "only asks for a lock, and does not wait",
    ("core/rank_exchanges.py", "os.open"): "shared memory, which the process of the trial has made",
    ("core/installation.py", "described.read_text"): OWN_FILES,
    ("core/installation.py", "found.read_text"): OWN_FILES,
    ("execution/claim_file.py", "_MACHINE.read_text"): KERNEL,
    ("execution/runner_lock.py", "os.open"): STUDY_FOLDER,
    ("execution/runtime_folder.py", "folder.mkdir"): "the user's runtime folder, whose owner and mode are checked",
    ("store/writing_lock.py", "os.open"): STUDY_FOLDER,
    ("programs/kept_checkpoints.py", "link.hardlink_to"): "a new link in the trial's checkpoints; none is followed",
    ("cli/console.py", "open"): NOWHERE,
    ("cli/main.py", "open"): NOWHERE,
    ("exchange/export_folder.py", "place.parent.mkdir"): USERS,
    ("exchange/export_folder.py", "path.parent.mkdir"): USERS,
    ("exchange/tensorboard_runs.py", "open"): NEW,
    ("exchange/tensorboard_runs.py", "folder.mkdir"): NEW,
    ("execution/process_launch.py", "open"): NOWHERE,
    ("execution/process_launch.py", "os.open"): NOWHERE,
    ("core/free_memory.py", "path.read_text"): KERNEL,
    ("core/free_memory.py", "membership.read_text"): KERNEL,
    ("execution/memory_limit.py", "Path('/proc/self/oom_score_adj').write_text"): KERNEL,
    ("execution/processes.py", "PROC / str(pid) / 'stat'.read_text"): KERNEL,
    ("execution/processes.py", "entry / 'environ'.read_bytes"): KERNEL,
    ("execution/processes.py", "task / 'children'.read_text"): KERNEL,
    ("execution/processes.py", "task / 'comm'.read_text"): KERNEL,
    ("execution/slots.py", "folder / 'cpu.max'.read_text"): KERNEL,
    ("execution/slots.py", "folder / 'cpu.cfs_quota_us'.read_text"): KERNEL,
    ("execution/slots.py", "folder / 'cpu.cfs_period_us'.read_text"): KERNEL,
    ("execution/engines/ray_agent.py", "shutil.rmtree"): NEW,
    ("execution/engines/ray_agent_process.py", "shutil.rmtree"): NEW,
    ("report/page.py", "VEGA.read_text"): OWN_FILES,
    ("report/page.py", "FOLDER / 'page.css'.read_text"): OWN_FILES,
    ("report/page.py", "FOLDER / name.read_text"): OWN_FILES,
    ("report/plots.py", "folder.parent.mkdir"): STUDY_FOLDER,
    ("report/single_plot.py", "folder.mkdir"): NEW,
    ("store/study_folder.py", "folder.path.mkdir"): STUDY_FOLDER,
    ("commands/move.py", "os.rename"): "the study folder itself, by the descriptors of the folders around it",
    ("commands/move.py", "shutil.copytree"): "a study folder to a new place; links are copied as links",
    ("session/open_study.py", "place.mkdir"): STUDY_FOLDER,
    ("drafting/study_draft.py", "open"): "what a program prints: --sample <(python train.py)",
    ("drafting/study_draft.py", "path.parent.mkdir"): USERS,
    ("programs/unread_output.py", "open"): NOWHERE,
    ("programs/checkpoint_files.py", "open"): NEW,
    ("core/boot_id.py", "_BOOT.read_text"): KERNEL,
    ("programs/checkpoint_files.py", "shutil.copytree"): "copies by a function of its own, which opens files alone",
    ("programs/checkpoint_files.py", "Path(f'{_PROC}/{process}/fdinfo/{number}').read_text"): KERNEL,
    ("programs/checkpoint_files.py", "Path(f'{_PROC}/{process}/task/{task}/children').read_text"): KERNEL,
    ("programs/kept_checkpoints.py", "link.symlink_to"): "a new link in the trial's checkpoints; none is followed",
    ("workloads/data/downsampled_imagenet.py", "parts.open"): "a part of an archive that is open already",
    ("workloads/data/image_data.py", "tarfile.open"): USERS,
    ("workloads/data/image_folders.py", "Image.open"): USERS,
    ("workloads/data/packaged_images.py", "gzip.open"): INSTALLED,
    (
        "workloads/factory_signatures.py",
        "tokenize.open",
    ): "the workload's own source, got by Python's rules to be a file",
    ("workloads/module_sources.py", "Path(spec.origin).read_bytes"): "the workload's own source, got to be a file",
}


def called(node: ast.Call) -> str:
    """The text of a call that may open a file or a folder, "" for other calls."""
    function = node.func
    if isinstance(function, ast.Name):
        return "open" if function.id == "open" else ""
    if not isinstance(function, ast.Attribute) or function.attr not in OPENING:
        return ""
    owner, name = ast.unparse(function.value), function.attr
    if owner in ("os", "shutil"):
        return f"{owner}.{name}" if name in (OF_OS if owner == "os" else OF_SHUTIL) else ""
    # `str.replace` takes two arguments, `Path.replace` one.
    is_move = name == "replace" and len(node.args) == 1 and not node.keywords
    return f"{owner}.{name}" if (name in OF_PATHS and owner not in DOOR_NAMES) or is_move else ""


@functools.cache
def calls() -> list[tuple[str, str, int]]:
    return list(found_calls())


def found_calls() -> Iterator[tuple[str, str, int]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if name in DOORS:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and (text := called(node)):
                yield name, text, node.lineno


def test_no_module_opens_a_file_or_folder_by_itself() -> None:
    around = [f"{name}:{line}: {text}" for name, text, line in calls() if (name, text) not in ALLOWED]
    assert around == [], (
        "use core/files.py, regular_files.py, real_folders.py or folder_copies.py, or add an exception here"
    )


def test_every_exception_is_still_needed() -> None:
    there = {(name, text) for name, text, _ in calls()}
    assert [place for place in ALLOWED if place not in there] == []


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "path.read_bytes()",
        "(folder / 'x').write_text('')",
        "os.replace(a, b)",
        "path.replace(other)",
        "shutil.rmtree(folder)",
        "folder.lock.touch()",
    ],
)
def test_such_a_call_is_found(line: str) -> None:
    (node,) = (node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call))
    assert called(node)
