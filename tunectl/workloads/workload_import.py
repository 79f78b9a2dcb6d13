"""Imports the user's module and finds its factory, in the processes that train; the runner never does this."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from tunectl.core.errors import WorkloadError
from tunectl.core.exception_place import user_frame
from tunectl.core.exception_text import exception_line
from tunectl.core.records import CodeKind, FactorySignature, Scalar, WorkloadReference
from tunectl.workloads.data.data_paths import relative_to
from tunectl.workloads.module_sources import is_name, nearest
from tunectl.workloads.workload import Workload


def load_factory(reference: WorkloadReference) -> Callable[..., Workload]:
    """Import the workload's module and give its factory.

    Puts `reference.search_path` at the front of sys.path. Raises WorkloadError, with the exception as its cause, where
    the module cannot be imported or has no such callable.
    """
    module = _load_module(reference)
    try:
        factory = getattr(module, reference.factory)
    except AttributeError as error:
        close = nearest(reference.factory, [name for name in vars(module) if not name.startswith("__")])
        raise WorkloadError(
            f"{_kind(reference)} {reference.text}: {_origin(module)} has no {reference.factory}{close}"
        ) from error
    if not callable(factory):
        raise WorkloadError(f"{_kind(reference)} {reference.text}: expected a function, got a {type(factory).__name__}")
    if inspect.iscoroutinefunction(factory):
        raise WorkloadError(f"{_kind(reference)} {reference.text}: expected a plain def, got an async one")
    return factory  # type: ignore[no-any-return]


def preload(reference: WorkloadReference, arguments: Mapping[str, Scalar] | None = None) -> None:
    """Import the workload's module and call its `preload()`, if it has one, once before trials are forked.

    It gets those of `arguments`, which the factory gets in every trial, that it has parameters for. It is not called
    where it needs one whose value differs between trials: then each trial loads by itself what it needs. Raises
    WorkloadError as `load_factory` does, and where `preload()` raises.
    """
    module = _load_module(reference)
    function = vars(module).get("preload")
    if not callable(function):
        return
    try:
        wanted = factory_signature(function)
        given = {name: value for name, value in (arguments or {}).items() if name in wanted.parameters or wanted.open}
        lacking = set(wanted.required) - set(given)
        if lacking and lacking <= set(factory_signature(load_factory(reference)).parameters):
            return
        with relative_to(reference.search_path):
            function(**given)
    except WorkloadError:
        raise
    except BaseException as error:  # user code may raise SystemExit or another one to end the process
        raise _failure(reference, "preload() raised", error) from error


def factory_signature(factory: Callable[..., Any], *, takes_trial: bool = False) -> FactorySignature:
    """What a loaded factory takes; open where it takes any keyword, or where its signature is not known.

    `takes_trial`: it is a training function, whose first parameter is the trial. Raises WorkloadError for a generator
    or a coroutine function, which a call does not run.
    """
    plain = inspect.unwrap(factory)
    if takes_trial and (inspect.isgeneratorfunction(plain) or inspect.iscoroutinefunction(plain)):
        raise WorkloadError(
            f"{getattr(plain, '__name__', 'the function')}: expected a plain function that returns at the end of the "
            "training, got one with `yield` or `async`, which a call does not run"
        )
    try:
        parameters = [*inspect.signature(factory).parameters.values()][1 if takes_trial else 0 :]
    except (ValueError, TypeError):
        return FactorySignature(open=True, reason="its signature cannot be read")
    named = [item for item in parameters if item.kind in (item.KEYWORD_ONLY, item.POSITIONAL_OR_KEYWORD)]
    anything = any(item.kind is item.VAR_KEYWORD for item in parameters)
    code = getattr(plain, "__code__", None)
    return FactorySignature(
        parameters=tuple(item.name for item in named),
        required=tuple(item.name for item in named if item.default is item.empty),
        open=anything,
        reason="it takes any keyword (`**`)" if anything else "",
        file=code.co_filename if code else None,
        line=code.co_firstlineno if code else None,
    )


def _load_module(reference: WorkloadReference) -> ModuleType:
    if reference.workload_kind not in get_args(CodeKind):
        return _imported(reference)
    # The workload's folders stay in front, for what it imports later; those of the code are searched after all others.
    folders, arguments = list(sys.path), sys.argv
    try:
        return _imported(reference)
    finally:
        sys.path[:] = folders + [folder for folder in reference.search_path if folder not in folders]
        sys.argv = arguments


def _imported(reference: WorkloadReference) -> ModuleType:
    # The arguments of this process are tunectl's: a script that parses its arguments on import must find none.
    sys.argv = [reference.file or reference.text.partition(":")[0]]
    front = list(reference.search_path)
    sys.path[:] = front + [folder for folder in sys.path if folder not in front]
    importlib.invalidate_caches()
    try:
        if reference.file is not None:
            return _load_file(Path(reference.file))
        assert reference.module is not None
        module = importlib.import_module(reference.module)
    except WorkloadError:
        raise
    except BaseException as error:  # user code may raise SystemExit or another one to end the process
        raise _failure(reference, "cannot be imported:", error) from error
    _check_same_module(reference, module)
    return module


def _load_file(file: Path) -> ModuleType:
    name = _module_name(file)
    loaded = sys.modules.get(name)
    if loaded is not None and _is_from(loaded, file):
        return loaded
    package = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=package)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    # A module may replace itself in sys.modules while it is executed.
    return sys.modules.get(name, module)


def _module_name(file: Path) -> str:
    """The module name for a file: that of the file, or one with a hash of its path.

    The file's name is used where `import name` finds this file. Then modules beside it can import it, and processes
    that are not forked (data loaders on some systems) can unpickle its classes, since they get sys.path. A file with
    the name of an installed package, or of a standard module, must not replace it.
    """
    name = file.parent.name if file.name == "__init__.py" else file.stem
    own = PathFinder.find_spec(name, [str(file.parent)]) if is_name(name) else None
    others = [folder for folder in sys.path if folder != str(file.parent)]
    loaded = sys.modules.get(name)
    free = (
        own is not None
        and own.origin == str(file)
        and (loaded is None or _is_from(loaded, file))
        and not _is_elsewhere(name, others, file)
    )
    if free:
        return name
    digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:12]
    return f"_workload_{re.sub(r'[^0-9A-Za-z_]', '_', name)}_{digest}"


def _is_elsewhere(name: str, folders: list[str], file: Path) -> bool:
    specs = [PathFinder.find_spec(name, folders)]
    specs += [
        finder.find_spec(name, None)
        for finder in sys.meta_path
        if finder is not PathFinder and hasattr(finder, "find_spec")
    ]
    return any(spec is not None and spec.origin is not None and not _is_same(spec.origin, file) for spec in specs)


def _is_from(module: ModuleType, file: Path) -> bool:
    origin = getattr(module, "__file__", None)
    return isinstance(origin, str) and _is_same(origin, file)


def _is_same(origin: str, file: Path) -> bool:
    return Path(origin).resolve() == file.resolve()


def _check_same_module(reference: WorkloadReference, module: ModuleType) -> None:
    """Raise where a module that was loaded before hides the one that is on the `search_path`."""
    top = module.__name__.partition(".")[0]
    loaded = sys.modules.get(top)
    folders = list(reference.search_path)
    meant = PathFinder.find_spec(top, folders) if top != __name__.partition(".")[0] else None
    if meant is None or meant.origin is None or loaded is None or _is_from(loaded, Path(meant.origin)):
        return
    raise WorkloadError(
        f"{_kind(reference)} {reference.text}: expected {top} to be {meant.origin}, got {_origin(loaded)}, which is "
        "loaded already; write the path of the file (./folder/name.py:factory), or rename it"
    )


def _kind(reference: WorkloadReference) -> str:
    """What a message calls it."""
    return reference.workload_kind if reference.workload_kind in get_args(CodeKind) else "workload"


def _origin(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or module.__name__)


def _failure(reference: WorkloadReference, what: str, error: BaseException) -> WorkloadError:
    place = user_frame(error)
    text = f"{_kind(reference)} {reference.text}: {what} {exception_line(error)}"
    if isinstance(error, ImportError) and "relative import" in str(error):
        text += "; a file given by its path is not part of a package: write package.module:factory"
    return WorkloadError(f"{text} ({place})" if place else text)
