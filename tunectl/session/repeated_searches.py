"""Studies that were searched again with another search seed: `<study>.search-1` beside `<study>`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.errors import FolderError
from tunectl.language.identity import differences
from tunectl.language.study_spec import StudySpec
from tunectl.session.open_study import study_in
from tunectl.store.study_folder import open_folder, seems_study_folder

_REPEAT = re.compile(r"(?P<study>.+)\.search-(?P<seed>[0-9]+)")
_MAY_DIFFER = ("study:", "search.seed:", "training.seed:")


def repeat_name(study: str, seed: int) -> str:
    """The name of a study that is searched again with this seed."""
    return f"{searched_name(study)}.search-{seed}"


def searched_name(name: str) -> str:
    """The name of the study that was searched again, of one of its repeats or of itself."""
    found = _REPEAT.fullmatch(name)
    return found["study"] if found else name


@dataclass(frozen=True, slots=True)
class OtherSearch:
    """Another search of the same study: its folder, or why it is not compared with."""

    folder: Path
    problem: str = ""


def other_searches(folder: Path, spec: StudySpec) -> list[OtherSearch]:
    """The other searches of the study in `folder`, which are beside it; those that differ in more than seeds say so."""
    return [
        OtherSearch(path, _difference(path, spec))
        for path in _beside(folder)
        if path.name != folder.absolute().name and searched_name(path.name) == searched_name(folder.absolute().name)
    ]


def _beside(folder: Path) -> Iterator[Path]:
    base = searched_name(folder.absolute().name)
    parent = folder.parent if folder.name else folder.absolute().parent
    names = [parent / base, *parent.glob(f"{_escaped(base)}.search-*")]
    yield from sorted(path for path in names if path.is_dir() and seems_study_folder(path))


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _difference(path: Path, spec: StudySpec) -> str:
    try:
        other = study_in(open_folder(path))
    except FolderError as error:
        return str(error)
    if other.search.trials != spec.search.trials:
        return f"{path}: has {other.search.trials} trials for each setting, not {spec.search.trials}"
    found = differences(spec, other)
    lines = [line for line in (*found.results, *found.objective) if not line.startswith(_MAY_DIFFER)]
    if lines:
        return f"{path}: is another study, not only another search: {lines[0]}"
    if other.search.seed == spec.search.seed:
        return f"{path}: has the same search seed"
    return ""
