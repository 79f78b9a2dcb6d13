"""Reads `workload:` where it is a mapping: own code, which is a command or a function of the user."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tunectl.core.errors import PathKey
from tunectl.core.own_code_request import (
    OUTPUT,
    RESUME,
    Argument,
    Checkpoints,
    InfeasibleEnds,
    MetricSource,
    Optional,
    Program,
    SourceKind,
)
from tunectl.core.wording import as_text, got, nearest
from tunectl.language.document import Document
from tunectl.language.placeholders import DIR, OWN, names_in

_WHERE: PathKey = ("workload",)
COMMAND_KEYS = (
    "command",
    "folder",
    "environment",
    "metrics",
    "checkpoints",
    "infeasible",
    "baseline_loss",
    "shared_files",
)
FUNCTION_KEYS = ("function", "baseline_loss", "shared_files")
_SOURCE_KINDS: Mapping[str, SourceKind] = {
    "regex": "regex",
    "json_lines": "json_lines",
    "csv": "csv",
    "tensorboard": "tensorboard",
}
STEP = "step"
_OF_FILES = tuple(name for name in OWN if name != RESUME)


class OwnCode(NamedTuple):
    """Own code: its text (a command line, or `module:name` of a function), the program of a command (None for a
    function), and the training loss of the best constant prediction (None where the study does not give it).
    """

    text: str
    program: Program | None
    baseline_loss: float | None = None


def read_own_code(document: Document, study_file: Path, devices: int) -> OwnCode | None:
    """The command or function of a study; None where something is wrong with it, which is noted in the document."""
    content = document.content["workload"]
    before = len(document.problems)
    if "function" in content:
        _known_keys(document, content, FUNCTION_KEYS, _WHERE)
        text, baseline = _text(document, content["function"], (*_WHERE, "function")), _baseline(document, content)
        return OwnCode(text, None, baseline) if text is not None and len(document.problems) == before else None
    if "command" not in content:
        message = f"expected text (module:factory), or a mapping with command or function{_near(content)}"
        document.report(_WHERE, message)
        return None
    _known_keys(document, content, COMMAND_KEYS, _WHERE)
    program, baseline = _program(document, content, study_file, devices), _baseline(document, content)
    if len(document.problems) > before:
        return None
    return OwnCode(" ".join(_shown(item) for item in program.arguments), program, baseline)


def _baseline(document: Document, content: Mapping[str, Any]) -> float | None:
    value = content.get("baseline_loss")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        right = "expected a number, the training loss of the best constant prediction"
        document.report((*_WHERE, "baseline_loss"), f"{right}, {got(value)}; it is 2.303 for ten equal classes")
        return None
    return float(value)


def read_shared_files(document: Document) -> tuple[str, ...]:
    """The patterns under `workload.shared_files`; every problem is noted in the document."""
    where, content = (*_WHERE, "shared_files"), document.content["workload"].get("shared_files", [])
    right = "patterns of files below the folder where trials run, such as results/*.csv"
    listed = _list(document, content, where, lambda item: isinstance(item, str) and bool(item), right)
    return tuple(item.removeprefix("./") for item in listed if isinstance(item, str))


def _near(content: Mapping[str, Any]) -> str:
    return next((near for key in content if (near := nearest(key, ("command", "function"))).startswith("; did")), "")


def _shown(argument: Argument) -> str:
    return argument if isinstance(argument, str) else f"[{' '.join(argument.arguments)}]"


def _program(document: Document, content: Mapping[str, Any], study_file: Path, devices: int) -> Program:
    folder = content.get("folder", ".")
    text = _text(document, folder, (*_WHERE, "folder")) or "."
    home = f"{{{DIR}}}/" if text.strip().rstrip("/") == f"{{{DIR}}}" else ""
    return Program(
        arguments=_arguments(document, content["command"]),
        folder=str((study_file.parent / ("." if home else Path(text).expanduser())).resolve()),
        sources=_sources(document, content.get("metrics"), home),
        environment=_environment(document, content.get("environment")),
        checkpoints=_checkpoints(document, content, home),
        infeasible=_infeasible(document, content.get("infeasible")),
        devices=devices,
        in_trial_folder=bool(home),
    )


def _arguments(document: Document, content: Any) -> tuple[Argument, ...]:
    where = (*_WHERE, "command")
    right = 'a list of arguments, such as [python, train.py, --lr, "{learning_rate}"]'
    if not isinstance(content, list) or not content:
        hint = "; it is run without a shell, so write each argument by itself" if isinstance(content, str) else ""
        document.report(where, f"expected {right}, {got(content)}{hint}")
        return ()
    read: list[Argument] = []
    for index, item in enumerate(content):
        argument = _argument(document, item, (*where, index))
        if argument is not None:
            read.append(argument)
    if isinstance(content[0], (list, dict)):
        document.report((*where, 0), f"expected the program itself first, which is never left out, {got(content[0])}")
    return tuple(read)


def _argument(document: Document, item: Any, path: PathKey) -> Argument | None:
    if isinstance(item, list):
        texts = [_placed(document, text, (*path, index)) for index, text in enumerate(item)]
        return Optional(tuple(text for text in texts if text is not None))
    if isinstance(item, dict):
        _known_keys(document, item, ("when", "arguments"), path)
        listed = item.get("arguments")
        if not isinstance(listed, list) or not isinstance(item.get("when"), dict):
            message = (
                "expected arguments with a condition, such as {when: {nesterov: true}, arguments: [--nesterov]}, or "
                f"{{when: {{{RESUME}: true}}, arguments: [--resume]}} where there is a checkpoint to go on from"
            )
            document.report(path, f"{message}, {got(item)}")
            return None
        texts = [_placed(document, text, (*path, "arguments", index)) for index, text in enumerate(listed)]
        when = {name: tuple(values) if isinstance(values, list) else (values,) for name, values in item["when"].items()}
        return Optional(tuple(text for text in texts if text is not None), when)
    return _placed(document, item, path)


def _placed(document: Document, item: Any, path: PathKey) -> str | None:
    """A text with placeholders; numbers, true and false are taken as text."""
    if isinstance(item, (list, dict)) or item is None:
        hint = "; write '' for an empty text" if item is None else ""
        document.report(path, f"expected text or a number, {got(item)}{hint}")
        return None
    text = as_text(item)
    try:
        names_in(text)
    except ValueError as error:
        document.report(path, str(error))
        return None
    return text


def _text(document: Document, item: Any, path: PathKey) -> str | None:
    if not isinstance(item, str):
        document.report(path, f"expected text, {got(item)}")
        return None
    return item


def _sources(document: Document, content: Any, home: str) -> tuple[MetricSource, ...]:
    """Where metrics are read; `home` is put before relative paths, "" where they are in the folder of the program."""
    where = (*_WHERE, "metrics")
    if content is None:
        return ()
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        document.report(where, f"expected a list of the places where metrics are read, {got(content)}")
        return ()
    read = [_source(document, item, (*where, index), home) for index, item in enumerate(content)]
    return tuple(item for item in read if item is not None)


def _source(document: Document, item: Any, path: PathKey, home: str) -> MetricSource | None:
    kinds = [key for key in _SOURCE_KINDS if isinstance(item, dict) and key in item]
    if len(kinds) != 1:
        what = f"got {' and '.join(kinds)}" if kinds else got(item)
        document.report(path, f"expected one of {', '.join(_SOURCE_KINDS)}, {what}")
        return None
    kind = kinds[0]
    _known_keys(document, item, (kind, "step", "names", "offset", "every"), path)
    where = _text(document, item[kind], (*path, kind))
    step = _text(document, item.get("step", STEP), (*path, "step"))
    names = _names(document, item.get("names", {}), (*path, "names"))
    offset, every = _whole(document, item, "offset", path, least=None), _whole(document, item, "every", path, least=1)
    if where is None or step is None or names is None:
        return None
    if every is not None and (offset is not None or "step" in item):
        document.report(
            (*path, "every"),
            "`every` counts steps instead of reading them; remove `step` and `offset`, or remove `every`",
        )
    source = MetricSource(_SOURCE_KINDS[kind], where, step, names, offset or 0, every)
    if kind == "regex":
        return _regex(document, source, path, given="step" in item)
    if where != OUTPUT or kind != "json_lines":
        if _placed(document, where, (*path, kind)) is None:
            return None
        where = _from(home, where)
        _known_placeholders(document, where, (*path, kind), _OF_FILES)
        if not {"trial.dir", "trial.id"} & set(names_in(where)):
            # Every trial would write this file, and read what the others wrote.
            message = (
                f"expected a file of this trial, with {{trial.dir}} or {{trial.id}} in its path, {got(where)}; for a "
                'program that writes below its current folder, write folder: "{trial.dir}"'
            )
            document.report((*path, kind), message)
    return replace(source, where=where)


def _from(home: str, path: str) -> str:
    """The path, with `home` before it where it is relative."""
    path = path.removeprefix("./")
    return path if not home or path.startswith((f"{{{DIR}}}", "/", "~")) else home + path


def _whole(document: Document, item: Any, key: str, path: PathKey, *, least: int | None) -> int | None:
    value = item.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        document.report((*path, key), f"expected a whole number{bound}, {got(value)}")
        return None
    return value


def _regex(document: Document, source: MetricSource, path: PathKey, *, given: bool) -> MetricSource | None:
    step, names = source.step, source.names
    try:
        groups = re.compile(source.where).groupindex
    except _EXPRESSION_ERRORS as error:
        reason = "too many nested groups" if isinstance(error, RecursionError) else str(error)
        document.report((*path, "regex"), f"expected a regular expression of Python, got one with an error: {reason}")
        return None
    if not set(groups) - {step}:
        right = r"valid loss (?P<valid__loss>\S+), where __ is / in the metric's name"
        document.report((*path, "regex"), f"expected a group with a name for each metric, got none; such as {right}")
    if given and step not in groups:
        document.report((*path, "step"), f"no group in the expression has this name{nearest(step, groups)}")
    for name in names:
        if name not in groups:
            document.report((*path, "names", name), f"no group has this name{nearest(name, groups)}", at_key=True)
    return source


def _names(document: Document, content: Any, path: PathKey) -> Mapping[str, str] | None:
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        document.report(path, f"expected a mapping such as {{val_loss: valid/loss}}, {got(content)}")
        return None
    return content


def _environment(document: Document, content: Any) -> Mapping[str, str]:
    where = (*_WHERE, "environment")
    if content is None:
        return {}
    if not isinstance(content, dict):
        document.report(where, f"expected a mapping of names to values, {got(content)}")
        return {}
    read = {name: _placed(document, value, (*where, name)) for name, value in content.items()}
    for name in read:
        if not name or "=" in name or "\0" in name:
            document.report((*where, name), "no environment variable can have this name", at_key=True)
    return {name: value for name, value in read.items() if value is not None}


def _checkpoints(document: Document, content: Mapping[str, Any], home: str) -> Checkpoints | None:
    where: PathKey = (*_WHERE, "checkpoints")
    if "checkpoints" not in content:
        return None
    declared, every, offset = content["checkpoints"], 1, None
    if isinstance(declared, dict):
        _known_keys(document, declared, ("path", "every", "offset"), where)
        every = _whole(document, declared, "every", where, least=1) or 1
        offset = _whole(document, declared, "offset", where, least=None)
        declared, where = declared.get("path"), (*where, "path")
    text = _placed(document, declared, where)
    if text is None:
        return None
    text = _from(home, text)
    # Only files of this trial may be removed.
    if not text.startswith("{trial.dir}/"):
        right = '"{trial.dir}/checkpoint-{step}.pt"'
        document.report(where, f"expected a path below {{trial.dir}}, such as {right}, {got(text)}")
    elif STEP not in names_in(text):
        _one_checkpoint(document, text, where, counted=isinstance(content["checkpoints"], dict))
    _known_placeholders(document, text, where, (*_OF_FILES, STEP))
    if ".." in Path(text).parts:
        document.report(where, f"expected a path below {{trial.dir}}, {got(text)}")
    return Checkpoints(text, every, offset)


def _one_checkpoint(document: Document, text: str, where: PathKey, *, counted: bool) -> None:
    """Check a path without `{step}`: that of one file, or folder, which the program overwrites."""
    if any(mark in text for mark in "*?["):
        message = f"expected {{step}} in a path with wildcards, {got(text)}"
        document.report(where, f"{message}; write the whole name where the program overwrites one file")
    elif counted and {"every", "offset"} & document.content["workload"]["checkpoints"].keys():
        document.report(where, f"`every` and `offset` need {{step}} in the path, {got(text)}")


def _infeasible(document: Document, content: Any) -> InfeasibleEnds:
    where = (*_WHERE, "infeasible")
    if content is None:
        return InfeasibleEnds()
    if not isinstance(content, dict):
        document.report(
            where, f'expected a mapping such as {{exit_codes: [3], patterns: ["out of memory"]}}, {got(content)}'
        )
        return InfeasibleEnds()
    _known_keys(document, content, ("exit_codes", "patterns", "metrics"), where)
    codes = _list(
        document, content.get("exit_codes", []), (*where, "exit_codes"), _is_exit_code, "exit codes, 1 to 255"
    )
    patterns = _list(
        document, content.get("patterns", []), (*where, "patterns"), _is_pattern, "regular expressions of Python"
    )
    metrics = _list(document, content.get("metrics", []), (*where, "metrics"), _is_name, "names of metrics")
    return InfeasibleEnds(tuple(codes), tuple(patterns), tuple(metrics))


def _list(document: Document, content: Any, path: PathKey, right: Callable[[Any], bool], what: str) -> list[Any]:
    if not isinstance(content, list):
        document.report(path, f"expected a list of {what}, {got(content)}")
        return []
    for index, item in enumerate(content):
        if not right(item):
            document.report((*path, index), f"expected {what}, {got(item)}")
    return content


def _is_exit_code(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 1 <= item <= 255


def _is_name(item: Any) -> bool:
    return isinstance(item, str) and bool(item)


_EXPRESSION_ERRORS = (re.error, RecursionError, OverflowError)
"""What Python raises for a text that is not a regular expression, or a too large one."""


def _is_pattern(item: Any) -> bool:
    try:
        re.compile(item)
    except (*_EXPRESSION_ERRORS, TypeError):
        return False
    return isinstance(item, str)


def _known_keys(document: Document, content: Mapping[str, Any], keys: Sequence[str], path: PathKey) -> None:
    for key in content:
        if key not in keys:
            document.report((*path, key), f"no such key{nearest(key, keys)}", at_key=True)


def _known_placeholders(document: Document, text: str, path: PathKey, known: Sequence[str]) -> None:
    for name in names_in(text):
        if name not in known:
            document.report(path, f"{{{name}}} has no value here{nearest(name, known)}")
