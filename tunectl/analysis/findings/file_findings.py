"""Findings about files that several trials of own code write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tunectl.analysis.findings.findings import Finding, Level
from tunectl.core.own_code_request import OUTPUT
from tunectl.core.wording import first_listed
from tunectl.language.placeholders import DIR, names_in
from tunectl.language.study_spec import StudySpec
from tunectl.store.written_files import SharedFolders, WrittenFile

SHARED_FILES = "shared-files"

_MOST_NAMES = 10
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_RESUMES = re.compile(
    r"resume|restore|restart|continue|load|init_from|ckpt|checkpoint|pretrained|warm_?start", re.IGNORECASE
)
_WRITES = re.compile(r"save|out|dir|write|log", re.IGNORECASE)


def file_findings(
    spec: StudySpec, written: Sequence[WrittenFile], folders: SharedFolders | None = None
) -> list[Finding]:
    """Findings about files that more than one trial wrote, or may have written, and that are not in `shared_files`."""
    return [*shared_findings(spec, written, folders), *unclear_findings(spec, written)]


def shared_findings(
    spec: StudySpec, written: Sequence[WrittenFile], folders: SharedFolders | None = None
) -> list[Finding]:
    """Findings about files that more than one trial wrote."""
    by_path = sorted(written, key=lambda item: item.path)
    shared = [item for item in by_path if item.is_shared and not _is_meant(spec, item.path)]
    lost = [item for item in shared if item.how == "overwritten"]
    found = []
    if lost:
        found.append(_finding(spec, "warning", "Trials overwrite each other's files", lost))
    elif folders is not None and not _is_meant(spec, folders.example):
        sentence = (
            f"{folders.trials} trials made {folders.folders} folder{'s' if folders.folders > 1 else ''} such as "
            f"{folders.example}, so some trials wrote into the same folder."
        )
        numbers = {"trials": folders.trials, "folders": folders.folders}
        found.append(Finding(SHARED_FILES, "warning", sentence, _remedy(spec, [folders.example]), numbers=numbers))
    mild = [item for item in shared if item.how != "overwritten"]
    if mild:
        found.append(_finding(spec, "note", "Several trials write the same files, without losing what was there", mild))
    return found


def unclear_findings(spec: StudySpec, written: Sequence[WrittenFile]) -> list[Finding]:
    """A warning about files that several trials may have written: which trials did cannot be known."""
    by_path = sorted(written, key=lambda item: item.path)
    unclear = [item for item in by_path if item.unclear and not item.is_shared and not _is_meant(spec, item.path)]
    if not unclear:
        return []
    trials = sorted(frozenset[int]().union(*(item.unclear for item in unclear)))
    paths = [item.path for item in unclear]
    every = "Both" if len(trials) == 2 else f"All {len(trials)}"
    end = "when it was written, so it is not known how many of them wrote it"
    if len(unclear) > 1:
        end = "when they were written, so it is not known how many trials wrote each file"
    return [
        Finding(
            id=SHARED_FILES,
            level="warning",
            sentence=f"Trials may have overwritten each other's files: {first_listed(paths, _MOST_NAMES)}. {every} "
            f"trials that completed were running {end}.",
            action=_remedy(spec, paths),
            trials=tuple(trials),
            numbers={"files": len(unclear)},
        )
    ]


def must_stop(spec: StudySpec, written: Sequence[WrittenFile]) -> list[WrittenFile]:
    """The overwritten files that trials read: sources of metrics, and files that a program continues from."""
    # `alone`: perhaps a single trial wrote all that was overwritten.
    lost = [item for item in written if item.how == "overwritten" and not item.alone and not _is_meant(spec, item.path)]
    return [item for item in lost if _is_read(spec, item) or _is_resumed_from(spec, item)]


def _is_meant(spec: StudySpec, path: str) -> bool:
    return any(
        fnmatchcase(path, pattern) or path.startswith(pattern.rstrip("/") + "/") for pattern in spec.shared_files
    )


def _is_read(spec: StudySpec, item: WrittenFile) -> bool:
    if spec.program is None:
        return False
    places = [
        source.where for source in spec.program.sources if source.source_kind != "regex" and source.where != OUTPUT
    ]
    places += [spec.program.checkpoints.path] if spec.program.checkpoints is not None else []
    path = str(Path(spec.program.folder) / item.path)
    # Files in a trial's own folder are not watched.
    patterns = [str(Path(spec.program.folder) / _PLACEHOLDER.sub("*", place)) for place in places if DIR not in place]
    return any(fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*") for pattern in patterns)


def _is_resumed_from(spec: StudySpec, item: WrittenFile) -> bool:
    """Whether an option such as --resume or --init_from names the file."""
    return any(
        value.removeprefix("./") == item.path and _RESUMES.search(option) and not _WRITES.search(option)
        for option, value in _options(spec)
    )


def _options(spec: StudySpec) -> list[tuple[str, str]]:
    """The options of a command with their values, as they are written: `--out=x`, `--out x` and `key=x`."""
    words = [
        text
        for item in (spec.program.arguments if spec.program is not None else ())
        for text in ((item,) if isinstance(item, str) else item.arguments)
    ]
    found = []
    for before, word in zip(["", *words], words, strict=False):
        option, _, value = word.partition("=")
        found.append((option, value) if value else (before if before.startswith("-") else "", word))
    return found


def _finding(spec: StudySpec, level: Level, what: str, shared: Sequence[WrittenFile]) -> Finding:
    paths = [item.path for item in shared]
    trials = dict.fromkeys(
        trial for item in shared for group in item.trials or () if len(group) == 1 for trial in group
    )
    return Finding(
        id=SHARED_FILES,
        level=level,
        sentence=f"{what}: {first_listed([f'{item.path}{_by(item)}' for item in shared], _MOST_NAMES)}.",
        action=_remedy(spec, paths)
        if level == "warning"
        else f"nothing to do; if it is intended, write `shared_files: [{_common(paths)}]` under workload",
        trials=tuple(trials),
        numbers={"files": len(shared)},
    )


def _by(item: WrittenFile) -> str:
    if item.trials is None or any(len(group) != 1 for group in item.trials):
        return ""
    (first,), (second,) = item.trials
    return f" (trials {first} and {second})"


def _remedy(spec: StudySpec, paths: Sequence[str]) -> str:
    meant = f"if it is intended, write `shared_files: [{_common(paths)}]` under workload"
    if spec.program is None:
        return f"write to trial.dir, the trial's own folder; {meant}"
    option = next((text for path in paths for text in [_option_of(spec, path)] if text), "")
    own = f"give each trial its own folder: `{option}`" if option else "give each trial its own folder"
    how = ', or `folder: "{trial.dir}"` under workload' if option else ': `folder: "{trial.dir}"` under workload'
    again = "with a new name under study, because all trials must be trained again"
    return f"{own}{how} ({again}); {meant}"


def _option_of(spec: StudySpec, path: str) -> str:
    """The option that names the file or a folder that it is in, with the trial's own folder as its value."""
    arguments = " ".join(str(item) for item in (spec.program.arguments if spec.program is not None else ()))
    for option, value in _options(spec):
        place = value.removeprefix("./").rstrip("/")
        if option and place and not names_in(value) and (path == place or path.startswith(place + "/")):
            own = "{trial.dir}" if path != place else "{trial.dir}/" + Path(place).name
            joined = not option.startswith("-") or f"{option}={value}" in arguments
            return f"{option}={own}" if joined else f"{option} {own}"
    return ""


def _common(paths: Sequence[str]) -> str:
    """A pattern for the files: the name of a single file, or the folder that all are in."""
    if len(paths) == 1:
        return paths[0]
    homes = {path.split("/", 1)[0] for path in paths}
    return f"{homes.pop()}/*" if len(homes) == 1 and all("/" in path for path in paths) else ", ".join(list(paths)[:3])
