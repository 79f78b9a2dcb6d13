"""Reads a study file into a StudySpec: the one way into this room."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.core.errors import PathKey, Problem, StudyError
from tunectl.core.records import WorkloadKind
from tunectl.language.bayesian_search import check_after, check_flat
from tunectl.language.code_checks import code_texts
from tunectl.language.condition_checks import check_conditions
from tunectl.language.configuration import BATCH_SIZE, FIELDS
from tunectl.language.curvature_checks import check_curvature
from tunectl.language.document import Document, parse_document, read_document
from tunectl.language.early_stopping_checks import check_stop_early
from tunectl.language.evaluation_checks import check_evaluation, check_synchronised
from tunectl.language.formula_reader import check_formulas, names_in_formulas
from tunectl.language.hand_written_points import Points, check_points, listed_points
from tunectl.language.hyperparameter_names import is_own_code
from tunectl.language.hyperparameter_reader import read_hyperparameters
from tunectl.language.points_file import read_points_file
from tunectl.language.sections import Sections, read_sections
from tunectl.language.stage_checks import check_stages
from tunectl.language.study_spec import PointsFile, StudySpec
from tunectl.language.training_field_checks import check_compile, check_piecewise
from tunectl.language.workload_section import OwnCode, read_own_code, read_shared_files
from tunectl.space.conditions import Combination, Conditions, Other, TooManyCombinationsError, too_many_combinations
from tunectl.space.domains import FixedValue
from tunectl.space.hyperparameters import Hyperparameter
from tunectl.space.search_space import SearchSection


@dataclass(frozen=True, slots=True)
class Draft:
    """A study as far as it could be read.

    `hyperparameters` are those without a problem, `conditions` theirs, None where one is wrong; `spec` is None where
    anything at all is wrong. `own_code` is what `read_own_code` returned: None where the workload is not own code, or
    is wrong.
    """

    document: Document
    path: Path
    hyperparameters: tuple[Hyperparameter, ...]
    conditions: Conditions | None
    spec: StudySpec | None
    own_code: OwnCode | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names under `hyperparameters`, also those whose entries are wrong."""
        content = self.document.content
        declared = content.get("hyperparameters") if isinstance(content, dict) else None
        return tuple(declared) if isinstance(declared, dict) else ()

    @property
    def switches(self) -> frozenset[str]:
        """The names that a `when` or a formula mentions, also one in an entry that is wrong."""
        content = self.document.content["hyperparameters"] if self.names else {}
        entries = [item for entry in content.values() for item in (entry if isinstance(entry, list) else [entry])]
        conditions = [entry["when"] for entry in entries if isinstance(entry, dict) and "when" in entry]
        parents = frozenset(name for condition in conditions if isinstance(condition, dict) for name in condition)
        return parents | names_in_formulas(entries)

    @property
    def workload(self) -> str | None:
        """The text under `workload`, if it is text."""
        content = self.document.content
        workload = content.get("workload") if isinstance(content, dict) else None
        return workload if isinstance(workload, str) else None

    @property
    def all_hyperparameters_read(self) -> bool:
        """Whether every hyperparameter could be read, so that it is known which are active when."""
        return self.conditions is not None and not any(
            problem.path.startswith("hyperparameters") for problem in self.document.problems
        )

    def problem(self, path: PathKey, message: str, *, at_key: bool = False) -> Problem:
        """A problem with the value (or the key) at `path`, or with its nearest parent in the file."""
        return self.document.problem(path, message, at_key=at_key)


def read_draft(path: Path, home: Path | None = None, points_copy: Path | None = None) -> Draft:
    """Read a study file as far as possible. Raises StudyError only where it is not a YAML document.

    `home` is given for the copy of a study in its folder: the path that the user's file had, from which relative paths
    in it start and by which it is called, with `points_copy` as in `parse_study`.
    """
    return _draft(read_document(path), (home or path).absolute(), None, points_copy)


def draft_of(text: str, path: Path) -> Draft:
    """The study in a text as far as it can be read, as if it were in the file `path`."""
    return _draft(parse_document(text, str(path)), path.absolute(), None)


def load_study(path: Path) -> StudySpec:
    """Read and check a study file. Raises StudyError with all problems at once."""
    return _whole(read_draft(path))


def parse_study(text: str, path: Path, default_name: str | None = None, points_copy: Path | None = None) -> StudySpec:
    """The study in a text, as if it were in the file `path`. Raises StudyError with all problems at once.

    `default_name` is the study's name where the text has none: a copy in a study folder has another file name than the
    user's file. `points_copy` is the folder's copy of the CSV file that `search.points` names.
    """
    return _whole(_draft(parse_document(text, str(path)), path.absolute(), default_name, points_copy))


def _whole(draft: Draft) -> StudySpec:
    if draft.spec is None:
        raise StudyError(draft.document.problems)
    return draft.spec


def _draft(document: Document, path: Path, default_name: str | None, points_copy: Path | None = None) -> Draft:
    sections = read_sections(document)
    hyperparameters, conditions = _hyperparameters(document)
    own = read_own_code(document, path, _devices(sections)) if is_own_code(document) else None
    shared_files = read_shared_files(document) if is_own_code(document) else ()
    if _devices(sections) > 1 and own is not None and own.program is None:
        message = "expected 1, as a trial of a function has one device; a workload or a command may have several"
        document.report(("resources", "devices_per_trial"), message)
    if conditions is not None and not is_own_code(document):
        try:
            _needed(document, conditions)
            _micro_batches(document, conditions)
            check_piecewise(document, conditions)
            if sections is not None:
                _warmup(document, conditions, sections.training.max_train_steps)
                if sections.training.compile:
                    check_compile(document, conditions)
        except TooManyCombinationsError:
            document.report(("hyperparameters",), too_many_combinations(), at_key=True)
    if sections is not None:
        _curvature(document, sections, own)
        check_evaluation(document, sections.training, sections.objective, _workload_kind(own))
        check_synchronised(document, sections.training, _devices(sections))
        check_stages(document, sections)
        check_stop_early(document, sections, own_code=is_own_code(document))
        _trial_seed(document, sections, hyperparameters)
    spec = None
    if sections is not None:
        name = _name(document, sections, default_name or path.stem)
        points, points_file = _points(document, sections, path, hyperparameters, points_copy)
        search_section = _search(document, sections, hyperparameters, points)
        check_after(document, sections.search)
        if sections.search.sampler == "bayesian" and conditions is not None:
            check_flat(document, conditions)
        if not document.problems and search_section is not None:
            spec = _spec(document, path, name, sections, hyperparameters, search_section)
            spec = replace(spec, points_file=points_file, shared_files=shared_files)
            spec = spec if own is None else _with_own_code(spec, own)
    return Draft(document, path, hyperparameters, conditions, spec, own)


def _hyperparameters(document: Document) -> tuple[tuple[Hyperparameter, ...], Conditions | None]:
    """The hyperparameters with their formulas, and their conditions; None where those are wrong or nothing is there."""
    content = document.content if isinstance(document.content, dict) else {}
    if not isinstance(content.get("hyperparameters"), dict):
        return (), None
    search = content.get("search")
    grid = isinstance(search, dict) and search.get("sampler") == "grid"
    hyperparameters = read_hyperparameters(document, grid=grid)
    conditions = check_conditions(document, hyperparameters)
    if conditions is None:
        return hyperparameters, None
    hyperparameters = _with_formulas(document, hyperparameters, conditions)
    return hyperparameters, Conditions(hyperparameters)


def _with_formulas(
    document: Document, hyperparameters: tuple[Hyperparameter, ...], conditions: Conditions
) -> tuple[Hyperparameter, ...]:
    try:
        return check_formulas(document, hyperparameters, conditions)
    except TooManyCombinationsError:
        document.report(("hyperparameters",), too_many_combinations(), at_key=True)
        return hyperparameters


def _devices(sections: Sections | None) -> int:
    return 1 if sections is None else sections.resources.devices_per_trial


def _trial_seed(document: Document, sections: Sections, hyperparameters: tuple[Hyperparameter, ...]) -> None:
    varying = next((item.name for item in hyperparameters if item.varies), None)
    if sections.training.trial_seed is not None and varying is not None:
        message = f"expected a study of one trial, in which nothing varies, and {varying} does; write seed instead"
        document.report(("training", "trial_seed"), message, at_key=True)


def _curvature(document: Document, sections: Sections, own: OwnCode | None) -> None:
    settings = sections.training.curvature
    # Where the workload is wrong, it may not be known what it is.
    if settings is not None and (own is not None or not is_own_code(document)):
        check_curvature(document, settings, sections.objective, _workload_kind(own))


def _workload_kind(own: OwnCode | None) -> WorkloadKind:
    return "workload" if own is None else "function" if own.program is None else "command"


def _with_own_code(spec: StudySpec, own: OwnCode) -> StudySpec:
    return replace(
        spec,
        workload=own.text,
        program=own.program,
        baseline_loss=own.baseline_loss,
        workload_kind=_workload_kind(own),
    )


def _spec(
    document: Document,
    path: Path,
    name: str,
    sections: Sections,
    hyperparameters: tuple[Hyperparameter, ...],
    search: SearchSection,
) -> StudySpec:
    return StudySpec(
        name=name,
        goal=sections.goal,
        notes=sections.notes,
        workload=sections.workload if isinstance(sections.workload, str) else "",
        objective=sections.objective,
        training=sections.training,
        hyperparameters=hyperparameters,
        search=search,
        resources=sections.resources,
        file=path,
        label=document.file,
        text=document.text,
        places=document.places,
        key_places=document.key_places,
        uncommitted_diff=sections.uncommitted_diff,
    )


def _name(document: Document, sections: Sections, stem: str) -> str:
    if sections.study is not None:
        return sections.study
    # A file name may have characters that the folder name may not have.
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100]
    if not slug:
        document.report(
            ("study",),
            f"the study needs a name, and none can be made from the file's name {stem!r}; write study: a-name",
            at_key=True,
        )
    return slug


def _points(
    document: Document,
    sections: Sections,
    path: Path,
    hyperparameters: tuple[Hyperparameter, ...],
    copy: Path | None,
) -> tuple[Points, PointsFile | None]:
    """The hand-written configurations, and the file they are in."""
    if sections.search.sampler != "points":
        return (), None
    content, before = document.content["search"]["points"], len(document.problems)
    if isinstance(content, str):
        points, file = read_points_file(document, content, path, hyperparameters, copy)
        if len(document.problems) > before:
            check_points(document, points, hyperparameters)
        return points, file
    return listed_points(document, content, hyperparameters), None


def _search(
    document: Document, sections: Sections, hyperparameters: tuple[Hyperparameter, ...], points: Points
) -> SearchSection | None:
    search, where = sections.search, ("search", "trials")
    if search.sampler in ("points", "grid") and "seed" in document.content["search"]:
        what = "listed points need" if search.sampler == "points" else "a grid needs"
        document.report(("search", "seed"), f"{what} no seed: nothing is drawn; leave seed out", at_key=True)
    samples = any(item.has_coordinate for item in hyperparameters)
    if search.sampler == "points":
        if "sampler" in document.content["search"]:
            document.report(
                ("search", "sampler"),
                "listed points need no sampler; leave sampler out, or leave points out",
                at_key=True,
            )
        if search.trials is not None:
            document.report(where, "the number of listed points is the number of trials; leave trials out", at_key=True)
        return replace(search, points=points)
    if search.sampler == "grid":
        if search.trials is not None:
            document.report(
                where,
                "a grid has as many trials as it has points; leave trials out, or write sampler: halton",
                at_key=True,
            )
        return search
    if search.trials is None:
        if samples:
            document.report(
                where,
                "the key is missing; write the number of trials for each setting of the scientific hyperparameters",
                at_key=True,
            )
            return None
        return replace(search, trials=1)
    return search


def _needed(document: Document, conditions: Conditions) -> None:
    where = ("hyperparameters",)
    declared = document.content["hyperparameters"]
    is_whole = not document.problems  # else the missing alternative may be one that could not be read
    # The learning rate of an optimizer that is code may be left out: what it needs is checked with its parameters.
    code = code_texts(tuple(item for items in conditions.by_name.values() for item in items), "optimizer")
    for name in ("optimizer", "learning_rate"):
        if name not in declared and (name == "optimizer" or not code):
            _report_missing(document, name)
            continue
        names = ["optimizer", name] if code else [name]
        for combination in conditions.combinations(names, extra={"optimizer": code}) if is_whole else ():
            if name not in combination.active and combination.values.get("optimizer") not in code:
                document.report(
                    (*where, name),
                    f"every trial needs one, and there is none where {combination.in_words()}; add an alternative for "
                    "it",
                    at_key=True,
                )
                break


def _report_missing(document: Document, name: str) -> None:
    unknown = [other for other in document.content["hyperparameters"] if other not in FIELDS]
    misspelt = difflib.get_close_matches(name, unknown, n=1, cutoff=0.75)
    if misspelt:
        message = f"every trial needs {name}, which is missing; did you mean {name}?"
        document.report(("hyperparameters", misspelt[0]), message, at_key=True)
    else:
        message = "the key is missing; every trial needs one, and there is no default"
        document.report(("hyperparameters", name), message, at_key=True)


def _warmup(document: Document, conditions: Conditions, max_train_steps: int) -> None:
    """A warmup within max_train_steps, and the steps that follow any warmup, fit into it."""
    refused: set[PathKey] = set()
    for combination in conditions.combinations(
        ["warmup", "warmup_steps", "post_warmup_steps"], extra={"warmup": ["within"]}
    ):
        within = combination.values.get("warmup") == "within"
        warmup = _longest(combination, "warmup_steps") if within else 0
        if warmup > max_train_steps and (item := combination.active["warmup_steps"]).path not in refused:
            refused.add(item.path)
            message = f"expected at most max_train_steps ({max_train_steps}) for a warmup within them, got {warmup}"
            document.report(item.path, message)
            continue
        after = _longest(combination, "post_warmup_steps")
        if warmup + after > max_train_steps >= warmup and after > 0:
            item = combination.active["post_warmup_steps"]
            if item.path not in refused:
                refused.add(item.path)
                left = f"the {max_train_steps - warmup} steps after the warmup"
                document.report(item.path, f"expected at most {left}, got {after}")


def _micro_batches(document: Document, conditions: Conditions) -> None:
    """Where both are fixed, a batch has at least one example for each micro-batch."""
    refused: set[PathKey] = set()
    for combination in conditions.combinations(["accumulate_steps", "batch_size"]):
        steps, batch = combination.active.get("accumulate_steps"), combination.active.get("batch_size")
        if steps is None or steps.path in refused or not isinstance(steps.domain, FixedValue):
            continue
        size = BATCH_SIZE if batch is None else batch.domain.value if isinstance(batch.domain, FixedValue) else None
        if isinstance(size, int) and isinstance(steps.domain.value, int) and steps.domain.value > size:
            refused.add(steps.path)
            message = f"expected at most {size}, the examples of a batch, got {steps.domain.value}"
            document.report(steps.path, message)


def _longest(combination: Combination, name: str) -> int:
    """The largest number of steps that the field has in this combination; 0 where it is not active or not a number."""
    item, value = combination.active.get(name), combination.values.get(name)
    longest = _largest(item) if item is not None and isinstance(value, Other) else value
    return int(longest) if item is not None and isinstance(longest, (int, float)) else 0


def _largest(item: Hyperparameter) -> float:
    # What a formula computes is checked in the planned trials.
    return max(item.domain.numbers) if item.formula is None else 0
