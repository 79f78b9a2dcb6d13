"""`workload:` of a study of one trial: its conditions resolved, its paths so that they lead to the same files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunectl.core.errors import UsageError
from tunectl.core.own_code_request import RESUME
from tunectl.core.records import Scalar
from tunectl.language.placeholders import DIR, names_in
from tunectl.space.hyperparameters import holds


def frozen_workload(kept: Any, values: Mapping[str, Scalar], *, home: Path, path: Path) -> str | dict[str, Any]:
    """The workload for a study file at `path`; `kept` is that of the study, whose file was at `home`.

    Raises UsageError where a module would not be found from there.
    """
    if isinstance(kept, str):
        return frozen_reference(kept, home=home, path=path)
    found = dict(kept)
    if "function" in found:
        found["function"] = frozen_reference(found["function"], home=home, path=path)
        return found
    found["command"] = [item for argument in found["command"] for item in _argument(argument, values)]
    variables = found.get("environment")
    if isinstance(variables, dict):
        found["environment"] = {name: text for name, text in variables.items() if _is_filled(text, values)}
    if _is_moved(home, path):
        _move_command(found, home.parent)
    return found


def frozen_reference(text: str, *, home: Path, path: Path) -> str:
    """A workload, a function, or an optimizer or a schedule of the study's own, for a study file at `path`.

    Raises UsageError where a module would not be found from there.
    """
    return _reference(text, home.parent, path) if _is_moved(home, path) else text


def _is_moved(home: Path, path: Path) -> bool:
    return path.absolute().parent.resolve() != home.parent.resolve()


def _move_command(found: dict[str, Any], home: Path) -> None:
    """Write the folder of a command as a whole path, and the files of one that runs in its trial's folder."""
    folder = found.get("folder", ".")
    if folder.strip().rstrip("/") != f"{{{DIR}}}":
        found["folder"] = str((home / Path(folder).expanduser()).resolve())
        return
    found["command"] = [
        str(home / item) if isinstance(item, str) and _names_file(home, item) else item for item in found["command"]
    ]


def _names_file(home: Path, text: str) -> bool:
    is_path = bool(text) and not text.startswith(("-", "/")) and not names_in(text)
    return is_path and os.path.isfile(home / text)  # noqa: PTH113  (false for a text that is too long for a path)


def _argument(argument: Any, values: Mapping[str, Scalar]) -> list[Any]:
    """The arguments that one of the command becomes in a trial with these values."""
    if isinstance(argument, list):
        return _placed(argument, values, {})
    if not isinstance(argument, dict):
        return [argument]
    when = {name: tuple(item) if isinstance(item, list) else (item,) for name, item in argument["when"].items()}
    resuming = {name: item for name, item in when.items() if name == RESUME}
    if not holds({name: item for name, item in when.items() if name != RESUME}, values):
        return []
    return _placed(argument["arguments"], values, {name: argument["when"][name] for name in resuming})


def _placed(texts: list[Any], values: Mapping[str, Scalar], resuming: Mapping[str, Any]) -> list[Any]:
    """The arguments themselves, or as an optional part where they depend on a checkpoint to resume from."""
    if not all(_is_filled(text, values) for text in texts):
        return []
    if resuming:
        return [{"when": dict(resuming), "arguments": texts}]
    takes = any(isinstance(text, str) and RESUME in names_in(text) for text in texts)
    return [texts] if takes else list(texts)


def _is_filled(text: Any, values: Mapping[str, Scalar]) -> bool:
    """Whether each placeholder has a value: that of a hyperparameter, or one of every trial."""
    names = names_in(text) if isinstance(text, str) else ()
    return all(name in values or name == "max_train_steps" or name.startswith("trial.") for name in names)


def _reference(text: str, home: Path, path: Path) -> str:
    """What is given relative to `home`, for a file at `path` in another folder."""
    where, _, name = text.rpartition(":")
    if "/" in where or where.endswith(".py") or where.startswith((".", "~")):
        file = Path(home, Path(where).expanduser()).absolute()
        beside = path.absolute().parent
        shown = f"./{file.relative_to(beside)}" if file.is_relative_to(beside) else str(file)
        return f"{shown}:{name}"
    first = where.partition(".")[0]
    if (home / f"{first}.py").is_file() and first == where:
        return f"{home / f'{first}.py'}:{name}"
    if (home / first).is_dir() or (home / f"{first}.py").is_file():
        raise UsageError(f"{path}: name a file in {home}, where the module {where} is: only there a study finds it")
    return text
