"""Reads the reference under a study's `workload:` without importing the user's code.

`tunectl check` uses this; it does not load torch.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tunectl.core.records import CodeKind, FactorySignature, WorkloadKind, WorkloadReference
from tunectl.workloads.factory_signatures import signature_in
from tunectl.workloads.module_sources import find_source, is_name

_FORMS: dict[WorkloadKind | CodeKind, tuple[str, str, str]] = {
    "workload": ("module:factory", "tunectl.workloads.digits:mlp", "./my_workload.py:factory"),
    "optimizer": ("module:Name", "torch.optim:Muon", "./mine.py:Name"),
    "schedule": ("module:function", "my_schedules:decay", "./mine.py:function"),
}
"""How each kind is written: by a module, with an example, and by a file. A function is written as a workload is."""


def _expected(kind: WorkloadKind | CodeKind) -> str:
    by_module, example, by_file = _FORMS.get(kind, _FORMS["workload"])
    return f"expected {by_module} (such as {example}) or {by_file}"


def parse_reference(
    text: str, study_file: Path, current_folder: Path, kind: WorkloadKind | CodeKind = "workload"
) -> WorkloadReference:
    """The reference for the text `module:factory` or `path/to/file.py:factory`.

    Paths are relative to the study file. `search_path` is the file's folder (where a file is given), the folder of the
    file that it links to, the study's folder and the current one, each once. Symbolic links to a folder are followed,
    so that `..` has the same meaning as for the system. Does not test whether the file exists. Raises ValueError where
    the text has neither form. `kind` is what the text names.
    """
    expected = _expected(kind)
    where, colon, factory = text.rpartition(":")
    if not colon or "://" in text:
        raise ValueError(f"{expected}, got {text!r}")
    if not where or not factory:
        missing = "factory after the colon" if where else "module or file before the colon"
        raise ValueError(f"{expected}, got {text!r} with no {missing}")
    if not is_name(factory):
        raise ValueError(f"{expected}, got {text!r}: {factory!r} is not a name in Python")
    folders = [_real(Path(study_file).parent), _real(current_folder)]
    if _looks_like_a_file(where):
        file = _file(text, where, folders[0], kind)
        # The modules that it imports may be beside a link to the file, or beside the file itself.
        folders[:0] = [str(file.parent), *([_real(file.resolve().parent)] if file.is_symlink() else [])]
        return WorkloadReference(
            text, _normal(factory), file=str(file), search_path=tuple(dict.fromkeys(folders)), workload_kind=kind
        )
    if not all(is_name(part) for part in where.split(".")):
        raise ValueError(f"{expected}, got {text!r}: {where!r} is not a dotted name")
    return WorkloadReference(
        text, _normal(factory), module=where, search_path=tuple(dict.fromkeys(folders)), workload_kind=kind
    )


def read_signature(reference: WorkloadReference) -> FactorySignature:
    """What the factory takes, read from its source; nothing is imported or run.

    Raises WorkloadError where the module, the file or the factory does not exist, where the source is not Python, and
    where the factory cannot be called by keywords. Where the source is not enough to know it, the signature is `open`
    and has the reason.
    """
    found = find_source(reference)
    if found.file is None:
        return FactorySignature(open=True, reason=found.reason)
    return signature_in(found, reference)


def _looks_like_a_file(where: str) -> bool:
    return "/" in where or "\\" in where or where.endswith(".py") or where.startswith((".", "~"))


def _file(text: str, where: str, study_folder: str, kind: WorkloadKind | CodeKind) -> Path:
    expected, (by_module, _, by_file) = _expected(kind), _FORMS.get(kind, _FORMS["workload"])
    if "\\" in where or re.match(r"[A-Za-z]:/", where):
        raise ValueError(f"expected a path with forward slashes, such as {by_file}, got {text!r}, a path of Windows")
    if any(ord(character) < 32 for character in where):
        raise ValueError(f"{expected}, got {text!r} with a control character")
    try:
        path = Path(study_folder, Path(where).expanduser())
    except RuntimeError as error:
        raise ValueError(f"{expected}, got {text!r}: {error}") from error
    name = path.name if where.endswith(path.name) else ""
    if not name.endswith(".py") or name == ".py":
        stem = where.rpartition("/")[2]
        hint = f"{where}.py:{text.rpartition(':')[2]}" if is_name(stem) else by_file
        raise ValueError(f"expected a .py file, such as {hint}, got {text!r} (for a package: package.{by_module})")
    return Path(_real(path.parent), name)


def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def _normal(name: str) -> str:
    # Python reads a name in a source file in this form, but getattr and file names take text as it is.
    if name.isascii():
        return name
    import unicodedata

    return unicodedata.normalize("NFKC", name)
