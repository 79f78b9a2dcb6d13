"""`next`: the study file of the next round, with the changes that the findings of this one recommend."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.findings.study_findings import study_findings
from tunectl.analysis.search.next_search import AgreedChange, Conflict, agreed_changes
from tunectl.core.errors import Problem, StudyError, UsageError, dotted
from tunectl.core.files import write_new
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error
from tunectl.core.proposed_commands import tunectl_command
from tunectl.language.code_checks import named_code
from tunectl.language.identity import training_differences
from tunectl.language.stage_lengths import stage_words
from tunectl.language.study_edit import EditingError, in_flow, with_value
from tunectl.language.study_reader import load_study, parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.checked_study import problems_of_the_plan
from tunectl.session.earlier_trials import FEWEST_FINISHED, earlier_trials
from tunectl.session.internal_errors import no_faults
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_evidence import ObjectiveChoice, evidence_of
from tunectl.store.provenance import original_study_file
from tunectl.store.study_folder import read_study_text, refuse_procedure

_ROUND = re.compile(r"(?P<stem>.*)-round(?P<number>[0-9]+)")


@dataclass(frozen=True, slots=True)
class NextRound:
    """The study file of the next round, `path`, None where there was nothing to change.

    `by_hand` are changes that could not be made in the text, with the reason. `damage` has that of the study folder.
    `judged` is the stage of the findings in words, "" where the study has only one. `text` is the file's content.
    """

    study: str
    path: Path | None
    changes: tuple[AgreedChange, ...]
    conflicts: tuple[Conflict, ...]
    by_hand: tuple[str, ...]
    findings: tuple[Finding, ...]
    damage: tuple[str, ...] = ()
    judged: str = ""
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object."""
        return {
            "study": self.study,
            **({"judged": self.judged} if self.judged else {}),
            "file": str(self.path) if self.path else None,
            "text": self.text or None,
            "changes": [
                {
                    "path": dotted(item.change.path),
                    "value": item.change.value,
                    "reason": item.change.reason,
                    "findings": list(item.findings),
                }
                for item in self.changes
            ],
            "conflicts": [str(item) for item in self.conflicts],
            "by_hand": list(self.by_hand),
            "damage": list(self.damage),
        }


def next_round(
    place: Path, to: Path | None = None, say: Callable[[str], None] = lambda _line: None, *, is_dry: bool = False
) -> NextRound:
    """Write the study file of the next round for the study folder at `place`; an existing file is never replaced.

    By default it is written beside the study's own file where that is in or below the current folder, else in the
    current folder, called `<study>-round2.yaml` and so on. With `is_dry` nothing is written, and `text` has the
    file. `say` is called with each line about damage. Raises FolderError where there is no study, UsageError for
    the folder of a procedure and where the file already exists.
    """
    with study_snapshot(place, say) as study:
        folder, spec, damage = study.folder, study.spec, tuple(study.damage)
        refuse_procedure(folder)
        faults = no_faults()
        evidence, _ = evidence_of(study, ObjectiveChoice())
        findings = study_findings(evidence, faults.attempt)
    judged = stage_words(evidence.spec, evidence.stage) if spec.search.promote else ""
    changes, conflicts = agreed_changes(spec, findings)
    text, made, by_hand = _changed(folder, changes)
    # The changes that a failed finding would have recommended are missing.
    by_hand += [
        f"{finding.sentence} `{tunectl_command('report', place)}` keeps the traceback"
        for finding in faults.findings("")
    ]
    if not made:
        return NextRound(spec.name, None, (), tuple(conflicts), tuple(by_hand), tuple(findings), damage, judged)
    name = _next_name(spec.name)
    path = to if to is not None else _beside(folder, spec.name, f"{name}.yaml")
    if to is not None and path.suffix in (".yaml", ".yml"):
        name = path.stem
    text = with_value(text, ("study",), name)
    by_hand += _left_behind(spec, folder, path)
    changed = parse_study(text, path)
    if spec.search.sampler == "bayesian":
        if other := training_differences(spec, changed):
            made.append(_new_exploration(changed, other))
            text = with_value(text, made[-1].change.path, made[-1].change.value)
        else:
            by_hand += _without_data(changed)
    found = NextRound(name, path, tuple(made), tuple(conflicts), tuple(by_hand), tuple(findings), damage, judged, text)
    if is_dry:
        return found
    try:
        write_new(path, text.encode("utf-8", "surrogatepass"))
    except FileExistsError:
        raise UsageError(f"{path}: already exists; name another file with --to") from None
    except OSError as error:
        raise path_error(path, "written", error) from error
    return found


def _new_exploration(changed: StudySpec, differences: Sequence[str]) -> AgreedChange:
    """A search without a model: the trials from which points were proposed are trained in another way than this study's
    would be.
    """
    seed = {"seed": changed.search.seed} if changed.search.seed else {}
    search = {"sampler": "halton", "trials": max(changed.search.trials or 0, FEWEST_FINISHED), **seed}
    reason = (
        f"the trials in {changed.search.after} were trained in another way ({'; '.join(differences)}), so no points "
        "can be proposed from them: explore again"
    )
    return AgreedChange(Change(("search",), search, reason), ())


def _without_data(changed: StudySpec) -> list[str]:
    """Why no points can be proposed for the changed study from the trials that it names."""
    try:
        earlier_trials(changed, Path.cwd())
    except StudyError as error:
        return [f"no points can be proposed for this study: {error.problems[0].message}"]
    return []


def _left_behind(spec: StudySpec, folder: StudyFolder, path: Path) -> list[str]:
    """A note where the workload, or code that the study names, is given relative to the folder of the study file, and
    the new file is in another.
    """
    original = original_study_file(folder)
    if original is None or path.absolute().parent == original.parent:
        return []
    found = ["the workload"] if spec.program is not None or _is_file(spec.workload) else []
    if not spec.own_code:
        found += [item.text for item in named_code(spec.hyperparameters) if _is_file(item.text)]
    where = f"relative to {original.parent}, and this file is in another folder"
    return [f"{item} is {where}: change its path" for item in dict.fromkeys(found)]


def _is_file(reference: str) -> bool:
    return reference.startswith((".", "/")) or ".py:" in reference


def _changed(folder: StudyFolder, changes: Sequence[AgreedChange]) -> tuple[str, list[AgreedChange], list[str]]:
    """The study's text with the changes, those that were made, and why the others were not.

    What belongs together is made together or not at all. A change that would make an invalid study of the file is not
    made, such as a wider range over which a formula has no value.
    """
    text = read_study_text(folder)
    made: list[AgreedChange] = []
    by_hand: list[str] = []
    left = list(changes)
    while left:
        paths = {left[0].change.path, left[0].change.only_with}
        together = [item for item in left if item.change.path in paths]
        left = [item for item in left if item not in together]
        try:
            edited = text
            for item in together:
                edited = with_value(edited, item.change.path, item.change.value)
            invalid = problems_of_the_plan(parse_study(edited, folder.study, points_copy=folder.points))
        except EditingError as error:
            by_hand += [f"{error} (to {item.change.value}: {item.change.reason})" for item in together]
            continue
        except StudyError as error:
            invalid = list(error.problems)
        if invalid:
            by_hand += [_invalid(item.change, invalid[0]) for item in together]
        else:
            text = edited
            made += together
    return text, made, by_hand


def _invalid(change: Change, problem: Problem) -> str:
    return (
        f"{dotted(change.path)}: not changed to {in_flow(change.value)} ({change.reason}), as the study would not be "
        f"valid: {problem.path}: {problem.message}"
    )


def _next_name(study: str) -> str:
    found = _ROUND.fullmatch(study)
    return f"{found['stem']}-round{int(found['number']) + 1}" if found else f"{study}-round2"


def _beside(folder: StudyFolder, study: str, name: str) -> Path:
    """Beside the user's study file, if that has a study of this name and is in or below the current folder; else here.

    A workload may be relative to the folder of the study file. Provenance alone does not decide where to write: in a
    study folder from someone else it may name any file.
    """
    original = original_study_file(folder)
    if original is None or not original.parent.resolve().is_relative_to(Path.cwd()):
        return Path(name)
    try:
        is_the_study = load_study(original).name == study
    except StudyError:
        is_the_study = False
    return original.with_name(name) if is_the_study else Path(name)
