"""`repeat-search`: the study file for another search of a study, with other points and other seeds."""

from __future__ import annotations

import os
from pathlib import Path

from tunectl.core.errors import StudyError, UsageError
from tunectl.core.files import write_bytes
from tunectl.core.path_errors import path_errors
from tunectl.language.identity import differences
from tunectl.language.study_edit import with_value
from tunectl.language.study_reader import load_study, parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import check_study
from tunectl.session.repeated_searches import repeat_name, searched_name
from tunectl.session.stored_study import stored_in

_SEEDS = 2**63


def write_repeated_search(study: Path, seed: int) -> Path:
    """Write a study file beside `study` that is the same but for its name and seeds, and return its path.

    The search seed is `seed`, the training seed another one for each search seed, so that neither points nor trainings
    are shared. A file that is there already is never replaced: where it is such a study, it is taken as it is. Raises
    StudyError where the study is wrong, UsageError where another seed changes nothing, or the file is another study.
    """
    spec = check_study(study, Path.cwd()).spec
    _refuse(spec, study, seed)
    name = repeat_name(spec.name, seed)
    training_seed = (spec.training.seed + 1 + seed) % _SEEDS
    text = with_value(spec.text, ("study",), name)
    text = with_value(with_value(text, ("search", "seed"), seed), ("training", "seed"), training_seed)
    path = (study if stored_in(study) is None else _users_file(study, spec)).with_name(f"{name}.yaml")
    repeated = parse_study(text, path)
    if os.path.lexists(path):
        _refuse_another(path, repeated)
        return path
    with path_errors(path, "written"):
        write_bytes(path, text.encode("utf-8", "surrogatepass"))
    return path


def _users_file(copy: Path, spec: StudySpec) -> Path:
    """The user's file of a copy in a study folder, where the paths in it start.

    A study folder from someone else may name any place: it is taken only in or below the current folder.
    """
    if not spec.file.parent.resolve().is_relative_to(Path.cwd()):
        raise UsageError(f"{copy}: is the copy in a study folder; name the study's own file, or call this where it was")
    return spec.file


def _refuse(spec: StudySpec, study: Path, seed: int) -> None:
    if searched_name(spec.name) != spec.name:
        raise UsageError(
            f"{study}: is itself another search of {searched_name(spec.name)}; name the file of that study"
        )
    if spec.search.sampler in ("points", "grid") or not any(item.has_coordinate for item in spec.hyperparameters):
        why = "its points are listed" if spec.search.sampler == "points" else "nothing in it is sampled"
        raise UsageError(f"{study}: another search seed changes nothing, since {why}; `tunectl retrain` varies seeds")
    if seed == spec.search.seed:
        raise UsageError(f"--search-seed {seed}: is the seed of the study itself; give another one")


def _refuse_another(path: Path, wanted: StudySpec) -> None:
    try:
        found = load_study(path)
    except StudyError as error:
        raise UsageError(f"{path}: already exists, and is no study:\n{error}") from error
    lines = [line for part in _parts(wanted, found) for line in part]
    if wanted.search.trials != found.search.trials:
        lines.append(f"search.trials: was {wanted.search.trials}, is {found.search.trials}")
    if lines:
        listed = "\n".join(f"  {line}" for line in dict.fromkeys(lines))
        raise UsageError(
            f"{path}: already exists, and differs from the study in more than seeds:\n{listed}\n"
            "change it likewise, or move it away"
        )


def _parts(wanted: StudySpec, found: StudySpec) -> tuple[tuple[str, ...], ...]:
    differing = differences(wanted, found)
    results = tuple(line for line in differing.results if not line.startswith("search.trials:"))
    return results, differing.objective, differing.reading
